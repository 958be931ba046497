"""Worker processes of this box: started, watched, started anew when they die."""

from __future__ import annotations

import atexit
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from pipeline.app import Plan
from pipeline.kafka.process import run_worker

RESTART_S = 1.0
LATELY_S = 60.0
"""So long a worker's end is told as an error."""


def _renamed(plan: Plan, name: str) -> Plan:
    """The plan for one of several workers of a box: each its own static member, only the first with a health port."""
    kafka = plan.settings.kafka
    first = name.endswith("-0")
    own = kafka.model_copy(update={"instance_id": name, "health_port": kafka.health_port if first else None})
    return replace(plan, settings=plan.settings.model_copy(update={"kafka": own}))


def _main(plan: Plan, name: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    code = run_worker(_renamed(plan, name), name)
    sys.stderr.flush()
    os._exit(code)


class Crew:
    """Runs workers under a plan.

    Args:
        plan: for all of them.
        names: of the workers; lasting, because they are the static members of the group.
    """

    def __init__(self, plan: Plan, names: list[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._context = mp.get_context("spawn")
        self._processes: dict[str, Any] = {}
        self._ended: dict[str, tuple[int | None, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)
        self._thread.start()
        try:
            for name in names:
                self._processes[name] = self._begin(name)
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)  # behind the first start: Python then does so before it waits for them, for ever

    def _begin(self, name: str) -> Any:
        process = self._context.Process(target=_main, args=(self._plan, name), name=name)
        process.start()
        return process

    @property
    def pids(self) -> dict[str, int]:
        """Process numbers by name."""
        return {name: process.pid for name, process in self._processes.items()}

    @property
    def errors(self) -> list[str]:
        """Workers that have ended by themselves lately."""
        now, times = time.monotonic(), self.counts["restarted"]
        return [
            f"worker {name} ended with exit code {code}; workers were started anew {times} times, their log says why"
            for name, (code, at) in self._ended.copy().items()
            if now - at < LATELY_S
        ]

    def _watch(self) -> None:
        while not self._stop.wait(RESTART_S):
            for name, process in list(self._processes.items()):
                if not process.is_alive() and not self._stop.is_set():
                    self.counts["restarted"] += 1
                    self._ended[name] = process.exitcode, time.monotonic()
                    self._processes[name] = self._begin(name)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Let all end gracefully; kill what does not. May be called twice."""
        atexit.unregister(self.stop)
        self._stop.set()
        self._thread.join()
        for process in self._processes.values():
            process.terminate()
        until = time.monotonic() + timeout_s
        for process in self._processes.values():
            process.join(max(0.1, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
