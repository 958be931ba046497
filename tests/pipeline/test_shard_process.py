"""A shard in a process of its own, from the side of the engine that feeds it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import shard_process
from pipeline.messages import NS, Anchor, Chunk, Input, Rate, Stream
from pipeline.shard import Shard
from pipeline.shard_process import PIPE_BYTES, ShardProcess

ACC = Stream("m", "acc", 0, "vibration", Rate(1000), 1, "<i2", "m/s2")


class Idle:
    """What a shard's process needs of a shard that does nothing."""

    def take(self, message: Input) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def idle() -> Shard:
    """Built in the child."""
    return Idle()  # type: ignore[return-value]


def more_than_a_pipe() -> Sequence[Chunk]:
    """Samples of twice its size."""
    block = np.zeros((50_000, 1), "<i2")
    return [Chunk(ACC, Anchor(0, NS), k * len(block), k, block) for k in range(2 * PIPE_BYTES // block.nbytes)]


def test_a_process_that_hangs_is_killed_when_its_time_to_stop_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not twice its time for what it does not read: the service manager waits for all shards together."""
    process = ShardProcess("hangs", idle)
    os.kill(process.pid, signal.SIGSTOP)
    waited: list[float] = []

    class Full:
        """Waiting for room in the pipe, by a clock of its own: there is none."""

        def register(self, *_: object) -> None:
            """Nothing."""

        def poll(self, ms: float) -> None:
            """All that time goes by."""
            waited.append(ms / 1000.0)

    monkeypatch.setattr(shard_process, "time", SimpleNamespace(monotonic=lambda: sum(waited)))
    monkeypatch.setattr(shard_process, "select", SimpleNamespace(poll=Full, POLLOUT=0))
    for message in more_than_a_pipe():
        process.take(message)
    waited.clear()
    assert process.stop(timeout_s=5.0) == -signal.SIGKILL
    assert sum(waited) == pytest.approx(5.0)
    assert not process.alive
