"""How long a machine's results pause when a worker is killed or restarted, as distributions.

Two workers share eight machines in real time. A pause is the longest time between two results of a machine, as this
reader saw them, less the half second at which they come. Machines of the worker that was hit and of the other one are
told apart.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kafka_load import Generator, settings_for
from tests.kafka.plant import Plant, Running
from tests.servers.kafka import KafkaServer

MACHINES = 8
USUAL_S = 0.5
CALM_S = 4.0


class Watch:
    """When results of each machine were seen."""

    def __init__(self, running: Running) -> None:
        self.seen: dict[str, list[float]] = defaultdict(list)
        self._running = running
        self._after = 0

    def look(self, seconds: float) -> None:
        """Read for some time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._running.collector.poll(self._running.store, 20)
            found = self._running.store.read(self._after, ("feature",), 100_000)
            for record in found:
                self.seen[record.machine].append(time.monotonic())
            self._after = found[-1].seq if found else self._after

    def until_all_go_on(self, since: float, timeout_s: float = 60.0) -> None:
        """Read until every machine has had a result after a moment."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and not all(times and times[-1] > since + 0.1 for times in self.seen.values()):
            self.look(0.2)

    def pauses(self, since: float) -> dict[str, float]:
        """By machine, the longest gap that ended after a moment."""
        found = {}
        for machine, times in self.seen.items():
            gaps = [b - a for a, b in itertools.pairwise(times) if b > since]
            found[machine] = max(0.0, max(gaps, default=0.0) - USUAL_S)
        return found


def spread(values: list[float]) -> dict[str, float] | None:
    """Least, middle and greatest."""
    if not values:
        return None
    return {
        "n": len(values),
        **{k: round(float(np.quantile(values, q)), 2) for k, q in (("min", 0), ("p50", 0.5), ("max", 1))},
    }


def measure(folder: Path, server: KafkaServer, kills: int, session_s: float = 6.0) -> list[dict[str, object]]:
    """One plant, one event after the other."""
    toml = settings_for(MACHINES, server.bootstrap, folder).read_text()
    toml = "schema_version = 1\n" + toml[toml.index("[[machine]]") :]
    told = []
    with Running(Plant(toml, {}, ()), server, folder, "pauses.", partitions=8, session_s=session_s) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        generator = Generator(MACHINES, 3600, running.publisher, running.client)
        generator.start()
        watch = Watch(running)
        try:
            watch.look(6.0)
            for event, count in (
                ("kill_and_restart", kills),
                ("kill_and_stay_away", max(1, kills // 3)),
                ("rolling_restart", 1),
            ):
                hit: list[float] = []
                other: list[float] = []
                for _ in range(count):
                    mine, theirs = _once(running, watch, event)
                    hit += mine
                    other += theirs
                told.append({
                    "measurement": "pause", "event": event, "times": count, "session_timeout_s": session_s,
                    "of_the_worker_s": spread(hit), "of_the_other_s": spread(other),
                })  # fmt: skip
        finally:
            generator.ended = True
            generator.join()
    return told


def _once(running: Running, watch: Watch, event: str) -> tuple[list[float], list[float]]:
    name = max(("w0", "w1"), key=lambda worker: len(_owned(running, worker)))
    owned = _owned(running, name)
    since = time.monotonic()
    if event == "rolling_restart":
        for worker in ("w0", "w1"):
            running.signal(worker, signal.SIGTERM)
            while running.workers[worker].poll() is None:
                watch.look(0.1)
            before = running.times_ready(worker)
            running.start(worker)
            while running.times_ready(worker) == before:
                watch.look(0.1)
    else:
        running.kill(name)
        if event == "kill_and_restart":
            running.start(name)
    watch.look(0.5)
    watch.until_all_go_on(time.monotonic())
    watch.look(CALM_S)
    pauses = watch.pauses(since)
    if event == "kill_and_stay_away":
        before = running.times_ready(name)
        running.start(name)
        while running.times_ready(name) == before:
            watch.look(0.1)
        watch.look(CALM_S)
    hit = [s for machine, s in pauses.items() if machine in owned or event == "rolling_restart"]
    return hit, [s for machine, s in pauses.items() if machine not in owned and event != "rolling_restart"]


def _owned(running: Running, name: str) -> set[str]:
    from aiokafka.partitioner import murmur2

    owners: dict[int, Any] = running.collector.owners()
    machines = [f"m{n}" for n in range(MACHINES)]
    return {m for m in machines if owners.get((murmur2(m.encode()) & 0x7FFFFFFF) % running.partitions) == name}
