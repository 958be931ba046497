"""Kills workers of a running plant at seeded moments of four kinds, and starts them anew."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from pipeline.messages import NS
from tests.kafka.plant import T0, Running

SPEED = 1.0
"""Of the plant, in multiples of real time."""

KINDS = ("mid-window", "alarm-pending", "after-result", "rebalance")


class Killer:
    """Publishes the plant in real time, and kills.

    Args:
        running: with workers `w0` and `w1` started.
        seed: of the moments.
    """

    def __init__(self, running: Running, seed: int) -> None:
        self.kinds: Counter[str] = Counter()
        self._running = running
        self._rng = random.Random(seed)
        self._now_ns = T0
        self._done, self._wanted, self._alive = 0, 1, True
        self._thread = threading.Thread(target=self._publish)

    def _publish(self) -> None:
        messages = self._running.plant.messages
        for number, message in enumerate(self._running.publish(messages, speed=SPEED)):
            self._now_ns = message.t1_ns
            while number / len(messages) > (self._done + 1) / self._wanted and self._alive:
                time.sleep(0.01)  # the plant waits for its kills: on a slow machine they would come after its end

    def run(self, kinds: list[str]) -> Counter[str]:
        """Kill once for each kind, in order, while the plant runs."""
        self._running.wait_ready("w0", "w1")
        self._wanted = len(kinds)
        self._thread.start()
        time.sleep(1.0)
        try:
            for number, kind in enumerate(kinds):
                self._kill(kind, f"w{number % 2}")
                self._done += 1
        finally:
            self._alive = False
            self._thread.join()
        assert self._running.publisher.flush(30)
        return self.kinds

    def _kill(self, kind: str, name: str) -> None:
        if kind == "alarm-pending":  # machines are loud from second 4 + number on; the alarm needs 3 of 5 windows
            until = time.monotonic() + 5
            while (self._now_ns - T0) / NS < 4.0 + self._rng.uniform(0.3, 1.2) and time.monotonic() < until:
                time.sleep(0.02)
        elif kind == "after-result":
            before = self._running.collector.counts["read"]
            until = time.monotonic() + 5
            while self._running.collector.counts["read"] == before and time.monotonic() < until:
                self._running.collector.poll(self._running.store, 20)
        elif kind == "rebalance":  # a third worker comes and goes, everybody else joins anew meanwhile
            ready = {n: self._running.times_ready(n) for n in ("w0", "w1", "w2")}
            self._running.start("w2", static=False)
            while all(self._running.times_ready(n) == ready[n] for n in ready):
                time.sleep(0.01)  # the first of them is ready under the new generation: the others are joining
        else:
            time.sleep(self._rng.uniform(0.2, 1.5))
        self._running.kill(name)
        self.kinds[kind] += 1
        before = self._running.times_ready(name)
        self._running.start(name)
        if kind == "rebalance":
            time.sleep(self._rng.uniform(0.0, 1.0))
            self._running.kill("w2")
        self._running.wait_ready(name, more_than=before)
