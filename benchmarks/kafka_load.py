"""Microphones for the measurements on Kafka: a configuration, and what they publish."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from connectors.kafka import KafkaPublisher
from pipeline.kafka.client import Client
from pipeline.kafka.feed import publish
from pipeline.messages import NS, Anchor, Chunk, Rate, Stream

CHUNK_S = 0.25
STEP = round(48_000 * CHUNK_S)


def settings_for(sensors: int, bootstrap: str, folder: Path, prefix: str = "") -> Path:
    """A configuration with one microphone on each of so many machines."""
    lines = ["schema_version = 1", "[kafka]", f'bootstrap = "{bootstrap}"', "partitions = 24", "session_timeout_s = 6"]
    lines += [f'prefix = "{prefix}"', f'group = "bench{prefix}"']
    for n in range(sensors):
        lines += [f'[[machine]]\nname = "m{n}"', '[[machine.sensor]]\nname = "mic"\nmodality = "acoustic"']
        lines += ['rate_hz = 48000\nunit = "FS"']
    path = folder / f"{prefix}bench.toml"
    path.write_text("\n".join(lines))
    return path


class Generator(threading.Thread):
    """All microphones at once from one buffer of noise, in real time unless told otherwise.

    Args:
        sensors: how many.
        seconds: for how long.
        publisher: to Kafka.
        client: names of topics.
        paced: whether in real time.
    """

    def __init__(
        self, sensors: int, seconds: float, publisher: KafkaPublisher, client: Client, paced: bool = True
    ) -> None:
        super().__init__(name="generator")
        self.late_s = 0.0
        self.published = 0
        self.ended = False
        self._seconds = seconds
        self._publisher = publisher
        self._client = client
        self._paced = paced
        rng = np.random.default_rng(1)
        self._noise = (rng.standard_normal((96_000, 1)) * 1000).astype("<i2")
        self._streams = [
            Stream(f"m{n}", "mic", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1 / 32768) for n in range(sensors)
        ]
        self._t0_ns = time.time_ns() - (0 if paced else 3600 * NS)  # long past: nobody waits for more

    def messages(self) -> Iterator[Chunk]:
        """In order of time; sensors are spread over the chunk's length as they are in a plant."""
        for k in range(int(self._seconds / CHUNK_S)):
            at = (k * STEP) % 48_000
            for i, stream in enumerate(self._streams):
                anchor = Anchor(0, self._t0_ns + round(i / len(self._streams) * CHUNK_S * NS))
                yield Chunk(stream, anchor, k * STEP, k, self._noise[at : at + STEP])

    def run(self) -> None:
        """Publish."""
        self._t0_ns = time.time_ns() if self._paced else self._t0_ns
        for message in self.messages():
            if self.ended:
                return
            if self._paced:
                if (wait := (message.t1_ns - time.time_ns()) / NS) > 0:
                    time.sleep(wait)
                self.late_s = max(self.late_s, -wait)
            publish(self._publisher, self._client, message)
            self.published += 1
