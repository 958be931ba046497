"""The embedded engine: one box, no server. Sources feed shards, inline or in processes; sinks read the durable log."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from pipeline.clock import Clock
from pipeline.errors import StateError, StethosError
from pipeline.intake import Intake, Resumable
from pipeline.messages import NS, machine_of
from pipeline.places import Places
from pipeline.shard import Shard
from pipeline.shard_process import REFUSED, ShardProcess
from pipeline.stages import LaneSettings
from pipeline.state import Store

SLICE_NS = 5_000_000
SENSORS_PER_PROCESS = 100
TIDY_EVERY_S = 2.0
MOST_DEATHS = 3
DEATHS_WITHIN_NS = 60 * NS
"""A shard that dies more often than this takes the engine with it: the service manager starts both anew."""

BuildShard = Callable[[str, Sequence[LaneSettings]], Shard]
"""Makes the shard of a name and its machines; called in the process that runs it."""


def shard_count(asked: int, sensors: int) -> int:
    """How many processes: as asked, else one up to 100 sensors and one per core beyond."""
    if asked:
        return asked
    return 1 if sensors <= SENSORS_PER_PROCESS else os.cpu_count() or 1


def share_out(machines: Sequence[LaneSettings], count: int) -> list[list[LaneSettings]]:
    """Machines to shards, evenly by their sensors; the same every time."""
    shares: list[list[LaneSettings]] = [[] for _ in range(count)]
    loads = [0] * count
    for lane in sorted(machines, key=lambda m: (-len(m.machine.sensors), m.machine.name)):
        least = loads.index(min(loads))
        shares[least].append(lane)
        loads[least] += len(lane.machine.sensors)
    return shares


class Embedded:
    """Runs sources through lanes on this box.

    Args:
        machines: the lanes' settings.
        sources: where inputs come from.
        store: the engine's own connection to the durable state.
        clock: the host's, or a manual one.
        build: makes a shard; picklable, if shard processes are to be started anew when they die.
        queue_bytes: raw data that may wait, over all sensors.
        shards: number of processes; 1 runs the lanes inline.
    """

    def __init__(
        self,
        machines: Sequence[LaneSettings],
        sources: Sequence[Resumable],
        store: Store,
        clock: Clock,
        build: BuildShard,
        queue_bytes: int,
        shards: int = 1,
    ) -> None:
        self._store = store
        self._clock = clock
        self._intake = Intake(sources, queue_bytes, machines)
        self._places = Places(store, sources)
        self._counts: Counter[str] = Counter()
        self._build = build
        self._queue_bytes = queue_bytes
        self._stop = threading.Event()
        self._inline: Shard | None = None
        self._processes: list[ShardProcess] = []
        self._shares: list[list[LaneSettings]] = []
        self._deaths: list[list[int]] = []
        self._fates: list[str] = []
        self._route: dict[str, int] = {}
        if shards == 1:
            self._inline = build("shard-0", machines)
        else:
            self._shares = share_out(machines, shards)
            for number, share in enumerate(self._shares):
                name = f"shard-{number}"
                self._processes.append(ShardProcess(name, partial(build, name, share)))
                self._deaths.append([])
                self._route |= {lane.machine.name: number for lane in share}

    @property
    def errors(self) -> list[str]:
        """What the sources that are down say, and the shards that died at the end."""
        return self._intake.errors() + self._fates

    @property
    def pids(self) -> list[int]:
        """The processes that run the lanes."""
        return [process.pid for process in self._processes] or [os.getpid()]

    def stop(self) -> None:
        """Ask the loop to end after the present slice; may be called from a signal handler or a thread."""
        self._stop.set()

    def stop_on_signals(self) -> None:
        """End gracefully on SIGINT and SIGTERM."""

        def handle(_signal: int, _frame: FrameType | None) -> None:
            self.stop()

        signal.signal(signal.SIGINT, handle)
        signal.signal(signal.SIGTERM, handle)

    def run(self, for_s: float | None = None, every_s: Callable[[], None] | None = None) -> None:
        """Feed the lanes until the sources end, the time is up or `stop` is called; then checkpoint.

        Args:
            for_s: stop after so many seconds.
            every_s: called about once a second (watchdog, status).
        """
        began = self._clock.now_ns()
        self._intake.open(self._places.begin(), began)
        second = began
        over = threading.Event()
        tidier = threading.Thread(target=self._tidy, args=(over,), name="tidy-state", daemon=True)
        tidier.start()
        try:
            while not self._stop.is_set():
                now = self._clock.now_ns()
                if for_s is not None and now - began >= for_s * NS:
                    break
                if every_s is not None and now >= second:
                    second = now + NS
                    every_s()
                self._intake.poll(now)
                busy = self._slice(now)
                self._tick()
                if not busy:
                    if self._intake.exhausted:
                        break
                    wait = min(self._intake.wake_ns(now) - self._clock.now_ns(), 20_000_000)
                    if wait > 0:
                        self._clock.sleep(wait / NS)
        finally:
            over.set()
            tidier.join()
            self._close()

    def _tidy(self, over: threading.Event) -> None:
        """Keep the state's write-ahead log short from here, so that no lane waits for the disk."""
        store = Store(self._store.path)
        while not over.wait(TIDY_EVERY_S):
            store.tidy()
        store.close()

    def _slice(self, began: int) -> bool:
        """Hand waiting inputs on for about 5 ms; says whether there were any."""
        busy = False
        while True:
            if self._processes and sum(p.waiting_bytes for p in self._processes) > self._queue_bytes:
                self._clock.sleep(0.002)
                return True
            message = self._intake.take()
            if message is None:
                return busy
            busy = True
            if self._inline is not None:
                self._inline.take(message)
            else:
                number = self._route.get(machine_of(message), 0)  # a stranger becomes any shard's dead letter
                self._processes[number].take(message)
            if self._clock.now_ns() - began > SLICE_NS:
                return True

    def _tick(self) -> None:
        if self._inline is not None:
            self._inline.tick()
        for number, process in enumerate(self._processes):
            process.flush()
            if not process.alive:
                self._restart(number)
            elif process.stuck(self._clock.now_ns()):
                self._counts["shard.stuck"] += 1
                process.kill()

    def _restart(self, number: int) -> None:
        """A shard's process has died: its lanes resume from the durable state, what can be read again is."""
        dead, now = self._processes[number], self._clock.now_ns()
        deaths = [at for at in self._deaths[number] if now - at < DEATHS_WITHIN_NS] + [now]
        self._deaths[number] = deaths
        self._counts["shard.died"] += 1
        dead.stop()
        fate = f"{dead.name} has died (exit code {dead.exit_code})"
        if dead.exit_code == REFUSED:
            raise StethosError(f"{dead.name} cannot go on: its own error is written above")
        if len(deaths) >= MOST_DEATHS:
            raise StethosError(f"{fate}, {len(deaths)} times within a minute; its lanes resume at the next start")
        try:
            build = partial(self._build, dead.name, self._shares[number])
            self._processes[number] = ShardProcess(dead.name, build, "spawn")
        except (AttributeError, TypeError, pickle.PicklingError):
            raise StethosError(f"{fate}; its lanes resume from the durable state at the next start") from None
        machines = {lane.machine.name for lane in self._shares[number]}
        self._intake.reopen(machines, self._places.now(), now)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Counters of the intake and of the shard in this process; shards elsewhere publish theirs with their state."""
        counts = {**self._intake.counts, **self._counts}
        waiting = self._intake.waiting_bytes + sum(process.waiting_bytes for process in self._processes)
        inline = {self._inline.name: self._inline.metrics()} if self._inline is not None else {}
        return {"intake": {"counts": counts, "waiting_bytes": waiting}, **inline}

    def _close(self) -> None:
        self._intake.close()
        if self._inline is not None:
            self._inline.close()
        # side by side: shards that hang have their time to stop together, as the service manager counts it
        with ThreadPoolExecutor(max(1, len(self._processes)), "stop-shard") as stopping:
            codes = list(stopping.map(lambda process: process.stop(), self._processes))
        for process, code in zip(self._processes, codes, strict=True):
            if code != 0:
                self._fates.append(f"{process.name} has died (exit code {process.exit_code}): start once more")
        with suppress(StateError):  # a full disk: the counters are not worth an error
            self._store.put_metrics("intake", self.metrics()["intake"])
