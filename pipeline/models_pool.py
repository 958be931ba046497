"""Windows of many machines share the runs of a model: one fixed, padded batch when it is full, or soon after the first.

An answer depends on its window alone: packages guarantee the same bits at every position of the batch and beside any
other rows (or run every row alone), and a row that a model refuses is found by running the rows one by one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.errors import StethosError
from pipeline.messages import Float32
from pipeline.shelf import Shelf

WAIT_NS = 20_000_000
"""How long the first window of a batch waits for others, if the model is quick."""
LONGEST_NS = 100_000_000
"""How long it waits at most."""
SHARE = 4
"""A batch that is not full waits so many times as long as its run takes: padding then costs a fifth of a core."""


class Job:
    """One window on its way through a model: `rows` is the first output's row once done, else `error` says why."""

    __slots__ = ("error", "machine", "rows", "x")

    def __init__(self, machine: str, x: Float32) -> None:
        self.machine = machine
        self.x = x
        self.rows: Float32 | None = None
        self.error = ""

    @property
    def done(self) -> bool:
        """Whether there is an answer."""
        return self.rows is not None or bool(self.error)


class Pool:
    """Micro-batches by model. Full batches run at once, so that less than one batch per model ever waits.

    Args:
        shelf: the packages.
        deferred: whether windows may wait for others; a lane that runs by itself does not let them.
    """

    def __init__(self, shelf: Shelf, deferred: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._shelf = shelf
        self._deferred = deferred
        self._waiting: dict[str, list[Job]] = {}
        self._since_ns = 0
        self._run_ns = 0
        self._finished: dict[str, None] = {}

    def submit(self, digest: str, machine: str, x: Float32) -> Job:
        """Hand a window in.

        Args:
            digest: of the package.
            machine: whose window it is; `finished` names it when the answer is there.
            x: one row of the package's input, float32; it is not changed until the answer is there.
        """
        job = Job(machine, x)
        waiting = self._waiting.setdefault(digest, [])
        waiting.append(job)
        if not self._deferred or len(waiting) >= self._batch_of(digest):
            self._run(digest)
        return job

    def _batch_of(self, digest: str) -> int:
        try:
            return self._shelf.get(digest).card.batch
        except StethosError:  # the run will say so
            return 1

    def poll(self, now_ns: int, force: bool = False) -> list[str]:
        """Run what has waited long enough (all of it with `force`); returns the machines that have answers waiting."""
        if any(self._waiting.values()):
            self._since_ns = self._since_ns or now_ns
            if force or now_ns - self._since_ns >= min(LONGEST_NS, max(WAIT_NS, SHARE * self._run_ns)):
                for digest in list(self._waiting):
                    self._run(digest)
                self._since_ns = 0
        else:
            self._since_ns = 0
        finished, self._finished = list(self._finished), {}
        return finished

    def finish(self) -> None:
        """Run all that waits."""
        for digest in list(self._waiting):
            self._run(digest)

    def _run(self, digest: str) -> None:
        jobs, self._waiting[digest] = self._waiting[digest], []
        if not jobs:
            return
        began = time.thread_time_ns()
        self.counts["model.batches"] += 1
        self.counts["model.windows"] += len(jobs)
        try:
            self._answer(digest, jobs)
        except Exception:  # whatever a model raises: the others of the batch must not suffer for it
            for job in jobs:
                try:
                    self._answer(digest, [job])
                except Exception as error:
                    job.error = f"{type(error).__name__}: {error}"
                    self.counts["model.failed"] += 1
        self._run_ns = time.thread_time_ns() - began
        if self._deferred:
            self._finished.update(dict.fromkeys(job.machine for job in jobs))

    def _answer(self, digest: str, jobs: Sequence[Job]) -> None:
        package = self._shelf.get(digest)
        first = package.card.outputs[0].name
        rows = package.session().run(np.stack([job.x for job in jobs]))[first]
        for job, row in zip(jobs, rows, strict=True):
            job.rows = row
