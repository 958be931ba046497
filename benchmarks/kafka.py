"""Microphones through a local Kafka broker and worker processes in real time; prints lines of JSON.

    python -m benchmarks.kafka --json                       # all of it, about four minutes
    python -m benchmarks.kafka --json --sensors 50 --seconds 20 --workers 2        # one point of the curve
    python -m benchmarks.kafka --json --memory-minutes 10

Broker, generator, workers and this reader share the machine. A feature's age is the host's time at which it could be
read from Kafka, less the end of its window. Unacknowledged records that grow say that the machine cannot carry so many.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks import kafka_floor, kafka_pauses
from benchmarks.kafka_load import Generator, settings_for
from connectors.kafka import KafkaPublisher
from pipeline.app import plan
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.state import Store
from tests.servers.kafka import KafkaServer

CURVE = (50, 100, 200, 300)
SAMPLE_S = 10.0
DRAIN_S = 3.0
"""So long it waits for the last results; processor time is that until the last chunk was published."""


def wait_quiet(collector: Collector, store: Store, quiet_s: float = 5.0) -> None:
    """Wait until workers have claimed their partitions and no claim has come for some time."""
    since = time.monotonic()
    while collector.counts["read"] == 0 or time.monotonic() - since < quiet_s:
        before = collector.counts["read"]
        collector.poll(store, 100)
        if collector.counts["read"] != before:
            since = time.monotonic()


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds so far."""
    return float(sum(process.cpu_times()[:2]))


def measure(sensors: int, seconds: float, workers: int, folder: Path, server: KafkaServer) -> dict[str, object]:
    """One point of the curve."""
    import config

    made = plan(config.load(settings_for(sensors, server.bootstrap, folder, f"n{sensors}.")))
    client = Client(made.settings.kafka)
    admin.create(client)
    crew = Crew(made, [f"w{n}" for n in range(workers)])
    store, collector = Store(folder / f"{sensors}.sqlite"), Collector(client, folder / f"{sensors}.sqlite")
    publisher = KafkaPublisher(client.settings(), folder / "spool", 1_000_000_000)
    generator = Generator(sensors, seconds, publisher, client)
    try:
        wait_quiet(collector, store)
        processes = {"broker": psutil.Process(server.pid), "generator_and_reader": psutil.Process(os.getpid())}
        processes |= {name: psutil.Process(pid) for name, pid in crew.pids.items()}
        before = {name: cpu_s(p) for name, p in processes.items()}
        ages: list[float] = []
        memory: dict[str, list[int]] = {name: [] for name in crew.pids}
        began = sampled = time.monotonic()
        took = 0.0
        generator.start()
        after = 0
        while not took or time.monotonic() - began < took + DRAIN_S:
            collector.poll(store, 20)
            now = time.time_ns()
            found = store.read(after, ("feature",), 100_000)
            ages += [(now - r.t_ns) / 1e9 for r in found]
            after = found[-1].seq if found else after
            if not took and not generator.is_alive():  # what follows is waiting for the last results
                took = time.monotonic() - began
                cpu = {name: round((cpu_s(p) - before[name]) / took, 3) for name, p in processes.items()}
            if time.monotonic() - sampled >= SAMPLE_S:
                sampled = time.monotonic()
                for name, values in memory.items():
                    values.append(processes[name].memory_info().rss // 1_000_000)
        lag = sum(row.lag for row in admin.lags(client))
    finally:
        generator.ended = True
        publisher.close(2)
        crew.stop()
        collector.close()
        store.close()
        admin.remove(client)
    steady = ages[len(ages) // 5 :]
    p50, p99 = (1000 * np.quantile(steady, (0.5, 0.99))).round(1).tolist() if steady else (None, None)
    return {
        "measurement": "curve", "sensors": sensors, "workers": workers, "seconds": seconds, "counted_s": round(took, 1),
        "MB_per_s": round(sensors * 0.096, 2), "features": len(ages),
        "p50_ms": p50, "p99_ms": p99,
        "generator_late_ms": round(1000 * generator.late_s), "unacknowledged_per_sensor": round(lag / sensors, 1),
        "cores": cpu, "rss_MB": memory, "spooled": publisher.counts["spooled"],
    }  # fmt: skip


def everything(args: argparse.Namespace, folder: Path, server: KafkaServer) -> Iterator[dict[str, object]]:
    """What was asked for, or all of it."""
    if args.memory_minutes:
        yield measure(args.sensors or 50, 60 * args.memory_minutes, args.workers, folder, server)
    elif args.sensors:
        yield measure(args.sensors, args.seconds, args.workers, folder, server)
    elif args.path:
        yield kafka_floor.measure(60.0, args.rounds, folder, server.bootstrap)
    else:
        for sensors in CURVE:
            yield measure(sensors, args.seconds, args.workers, folder, server)
        yield kafka_floor.measure(60.0, args.rounds, folder, server.bootstrap)
        yield from kafka_pauses.measure(folder / "pauses", server, args.kills)


def main() -> None:
    """Arguments, broker, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensors", type=int, help="one point only")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--path", action="store_true", help="what one event costs beside plain Faust, alone")
    parser.add_argument("--rounds", type=int, default=3, help="of that measurement")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--memory-minutes", type=float, help="one point for so long, with the workers' memory")
    parser.add_argument("--json", action="store_true", help="as every benchmark prints it")
    args = parser.parse_args()
    options = {"group.min.session.timeout.ms": "1000"}
    with tempfile.TemporaryDirectory() as name, KafkaServer(own=True, options=options) as server:
        folder = Path(name)
        (folder / "pauses").mkdir()
        for line in everything(args, folder, server):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
