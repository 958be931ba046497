"""Microphones through a local Kafka broker and worker processes in real time; prints one line of JSON.

    .venv/bin/python -m benchmarks.kafka --sensors 50 --seconds 20 --workers 2 --json

Broker, generator, workers and this reader share the machine. A score's age is the host's time at which it could be read
from Kafka, less the end of its window. Lag that grows says that the machine cannot carry so many.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from connectors.kafka import KafkaPublisher
from pipeline.app import plan
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.kafka.feed import publish
from pipeline.messages import NS, Anchor, Chunk, Rate, Stream
from pipeline.state import Store
from tests.servers.kafka import KafkaServer

CHUNK_S = 0.25


def settings_for(sensors: int, bootstrap: str, folder: Path) -> Path:
    """A configuration with one microphone on each of so many machines."""
    lines = ["schema_version = 1", "[kafka]", f'bootstrap = "{bootstrap}"', "partitions = 24", "session_timeout_s = 6"]
    for n in range(sensors):
        lines += [f'[[machine]]\nname = "m{n}"', '[[machine.sensor]]\nname = "mic"\nmodality = "acoustic"']
        lines += ['rate_hz = 48000\nunit = "FS"']
    path = folder / "bench.toml"
    path.write_text("\n".join(lines))
    return path


class Generator(threading.Thread):
    """All microphones at once, in real time, from one buffer of noise."""

    def __init__(self, sensors: int, seconds: float, publisher: KafkaPublisher, client: Client) -> None:
        super().__init__(name="generator")
        self.late_s = 0.0
        self._seconds = seconds
        self._publisher = publisher
        self._client = client
        rng = np.random.default_rng(1)
        self._noise = (rng.standard_normal((96_000, 1)) * 1000).astype("<i2")
        self._streams = [
            Stream(f"m{n}", "mic", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1 / 32768) for n in range(sensors)
        ]
        self.anchor = Anchor(0, time.time_ns())

    def run(self) -> None:
        """Publish; sensors are spread over the chunk's length as they are in a plant."""
        step, began = round(48_000 * CHUNK_S), self.anchor.t_ns / 1e9
        for k in range(int(self._seconds / CHUNK_S)):
            for i, stream in enumerate(self._streams):
                due = began + (k + 1 + i / len(self._streams)) * CHUNK_S
                if (wait := due - time.time()) > 0:
                    time.sleep(wait)
                self.late_s = max(self.late_s, -wait)
                at = (k * step) % 48_000
                anchor = Anchor(0, self.anchor.t_ns + round(i / len(self._streams) * CHUNK_S * NS))
                publish(self._publisher, self._client, Chunk(stream, anchor, k * step, k, self._noise[at : at + step]))


def wait_quiet(collector: Collector, store: Store, quiet_s: float = 5.0) -> None:
    """Wait until workers have claimed their partitions and no claim has come for some time."""
    since = time.monotonic()
    while collector.counts["read"] == 0 or time.monotonic() - since < quiet_s:
        before = collector.counts["read"]
        collector.poll(store, 100)
        if collector.counts["read"] != before:
            since = time.monotonic()


def measure(sensors: int, seconds: float, workers: int, folder: Path, server: KafkaServer) -> dict[str, object]:
    """One run."""
    import config

    made = plan(config.load(settings_for(sensors, server.bootstrap, folder)))
    client = Client(made.settings.kafka)
    admin.create(client)
    crew = Crew(made, [f"w{n}" for n in range(workers)])
    store, collector = Store(folder / "r.sqlite"), Collector(client, folder / "r.sqlite")
    publisher = KafkaPublisher(client.settings(), folder / "spool", 1_000_000_000)
    try:
        wait_quiet(collector, store)
        processes = {"broker": psutil.Process(server.pid), "generator": psutil.Process(os.getpid())}
        processes |= {name: psutil.Process(pid) for name, pid in crew.pids.items()}
        before = {name: sum(p.cpu_times()[:2]) for name, p in processes.items()}
        generator = Generator(sensors, seconds, publisher, client)
        ages: list[float] = []
        read: list[object] = []
        began = time.monotonic()
        generator.start()
        after = 0
        while generator.is_alive() or time.monotonic() - began < seconds + 3:
            collector.poll(store, 20)
            now = time.time_ns()
            found = store.read(after, ("feature",), 100_000)
            ages += [(now - r.t_ns) / 1e9 for r in found]
            after = found[-1].seq if found else after
            read += found
        took = time.monotonic() - began
        cpu = {name: round((sum(p.cpu_times()[:2]) - before[name]) / took, 3) for name, p in processes.items()}
        lag = sum(row.lag for row in admin.lags(client))
        memory = {name: p.memory_info().rss // 1_000_000 for name, p in processes.items()}
    finally:
        publisher.close(2)
        crew.stop()
        collector.close()
        store.close()
    steady = ages[len(ages) // 5 :]
    return {
        "sensors": sensors, "workers": workers, "seconds": seconds, "MB_per_s": round(sensors * 0.096, 2),
        "windows": len(ages), "p50_ms": round(1000 * float(np.quantile(steady, 0.5))),
        "p99_ms": round(1000 * float(np.quantile(steady, 0.99))), "generator_late_ms": round(1000 * generator.late_s),
        "unacknowledged_per_sensor": round(lag / sensors, 1), "cores": cpu, "rss_MB": memory,
        "spooled": publisher.counts["spooled"],
    }  # fmt: skip


def main() -> None:
    """Arguments, broker, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sensors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="as every benchmark prints it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaServer(own=True) as server:
        print(json.dumps(measure(args.sensors, args.seconds, args.workers, Path(folder), server)))


if __name__ == "__main__":
    main()
