"""The embedded engine's end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.clock import HostClock
from pipeline.embedded import Embedded
from pipeline.shard import Shard
from pipeline.shard_process import ShardProcess
from pipeline.state import Store
from tests.engines.scenarios import baseline_of
from tests.faults.rig import ACC, WITNESS, lane

SHARDS = 2


def test_shards_are_stopped_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs takes its time to stop from no other; each that was killed is named."""
    meeting = threading.Barrier(SHARDS)

    class Hanging(ShardProcess):
        """Has no process; to stop it takes until all others are being stopped."""

        exit_code = -9
        alive = False

        def __init__(self, name: str, *_: object) -> None:
            self.name = name

        def stop(self, timeout_s: float = 30.0) -> int:
            """Waits for the others."""
            meeting.wait(min(timeout_s, 10.0))
            return self.exit_code

    monkeypatch.setattr("pipeline.embedded.ShardProcess", Hanging)

    def build(*_: object) -> Shard:
        raise AssertionError("no process runs that could make one")

    lanes = [lane(stream, baseline=baseline_of(stream)) for stream in (ACC, WITNESS)]
    store = Store(tmp_path / "state.sqlite")
    made = Embedded(lanes, [], store, HostClock(), build, 64_000_000, SHARDS)
    monkeypatch.setattr(made, "metrics", lambda: {"intake": {}})
    made.stop()
    made.run()
    assert made.errors[-SHARDS:] == [f"shard-{n} has died (exit code -9): start once more" for n in range(SHARDS)]
