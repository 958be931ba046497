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


def messages(sensors: int, seconds: float, t0_ns: int) -> Iterator[Chunk]:
    """All microphones from one buffer of noise, in order of time, spread over a chunk's length as in a plant."""
    noise = (np.random.default_rng(1).standard_normal((96_000, 1)) * 1000).astype("<i2")
    streams = [Stream(f"m{n}", "mic", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1 / 32768) for n in range(sensors)]
    for k in range(int(seconds / CHUNK_S)):
        at = (k * STEP) % 48_000
        for i, stream in enumerate(streams):
            anchor = Anchor(0, t0_ns + round(i / len(streams) * CHUNK_S * NS))
            yield Chunk(stream, anchor, k * STEP, k, noise[at : at + STEP])


class Generator(threading.Thread):
    """Publishes `messages`, in real time unless told otherwise.

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
        self._sensors = sensors
        self._seconds = seconds
        self._publisher = publisher
        self._client = client
        self._paced = paced
        self._t0_ns = time.time_ns() - (0 if paced else 3600 * NS)  # long past: nobody waits for more

    def run(self) -> None:
        """Publish."""
        self._t0_ns = time.time_ns() if self._paced else self._t0_ns
        for message in messages(self._sensors, self._seconds, self._t0_ns):
            if self.ended:
                return
            if self._paced:
                if (wait := (message.t1_ns - time.time_ns()) / NS) > 0:
                    time.sleep(wait)
                self.late_s = max(self.late_s, -wait)
            publish(self._publisher, self._client, message)
            self.published += 1
