"""A replay on Kafka without a broker: how it is ended from outside, and how long it waits."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.kafka import admin, leftovers, replay
from pipeline.kafka.replay import KafkaReplay, persists, terminable


@pytest.mark.parametrize("at", ["create", "_before"])
def test_sigterm_takes_the_topics_away(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does, and a second one does not keep it from that."""
    client, removed = SimpleNamespace(kafka=SimpleNamespace(group="g")), []

    def told(*_: object) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5.0)

    async def before() -> None:
        told()

    def remove(of: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        removed.append(of)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(leftovers, "clean_quietly", lambda _: None)
    monkeypatch.setattr(admin, "partitions", lambda _: {})
    monkeypatch.setattr(admin, "create", told if at == "create" else lambda *_: [])
    monkeypatch.setattr(admin, "remove", remove)
    player: Any = KafkaReplay.__new__(KafkaReplay)
    player.faithful, player.plan, player._client, player._before = True, None, client, before
    was = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        player.run()
    assert (ended.value.code, removed) == (143, [client])
    assert signal.getsignal(signal.SIGTERM) == was
    assert not list(tmp_path.rglob("*.lock"))


def test_a_replay_that_comes_to_its_end_ends_by_itself() -> None:
    """The signal means what it meant before."""
    was = signal.getsignal(signal.SIGTERM)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) != was
    assert signal.getsignal(signal.SIGTERM) == was


def test_the_worker_follows_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was killed, which takes nothing away."""
    gone, ended, told = threading.Event(), threading.Event(), []
    monkeypatch.setattr(mp, "parent_process", lambda: SimpleNamespace(join=gone.wait))
    monkeypatch.setattr(os, "kill", lambda *signalled: (told.append(signalled), ended.set()))

    def work(*_: object) -> None:
        assert not ended.wait(0.05)
        gone.set()
        assert ended.wait(10.0)

    monkeypatch.setattr(replay, "run_worker", work)
    replay._work(None, "replay")  # type: ignore[arg-type]
    assert told == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize(("steps", "whole"), [([1, 2, 3, 4], True), ([1, 2, 2, 4], False), ([0, 0, 3, 4], False)])
def test_what_moves_is_waited_for(steps: list[int], whole: bool) -> None:
    """However long it takes; what stands still is given up."""
    waited: list[float] = []

    def done(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) == len(steps)

    assert persists(done, lambda: steps[len(waited) - 1] if waited else 0) is whole
    assert set(waited) == {replay.DONE_S}
    assert len(waited) == (4 if whole else 3 if steps[0] else 1)
