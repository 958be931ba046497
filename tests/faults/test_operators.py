"""Operators that raise: the message becomes a dead letter, the operator starts afresh, everybody else goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from models.anomaly.score import AnomalyScore
from operators.base import Stateful, Windowed
from operators.persistence import Persistence
from operators.rewindow import Rewindow
from pipeline.messages import DeadLetter, Decision, Message, Result, Score
from pipeline.runner import Lane
from tests.engines.scenarios import (
    Scenario,
    baseline_of,
    chunks,
    new_baseline,
    normal_noise,
    restart_before_its_state,
)
from tests.faults.rig import ACC, lane, plant, unnoticed


def faulty(kind: type[Windowed | Stateful], when: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let an operator of machine m raise; returns a list whose only element counts its calls."""
    calls = [0]
    ours: Callable[[Any, Message], Iterable[Message]] = kind.process

    def process(self: Any, message: Message) -> Iterable[Message]:
        stream = getattr(message, "stream", None)
        machine = stream.machine if stream is not None else message.machine
        if machine == "m":
            calls[0] += 1
            if when(calls[0]):
                raise ZeroDivisionError("a fault of the operator's")
        return ours(self, message)

    monkeypatch.setattr(kind, "process", process)
    return calls


def test_an_operator_that_raises_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One dead letter that names stage and error and holds the message; the stage goes on with the next one."""
    faulty(Rewindow, lambda k: k == 30, monkeypatch)
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)))
    made.feed(chunks(ACC, normal_noise(ACC, 8.0, 3)))
    (letter,) = made.records("dlq")
    assert letter["reason"] == "operator_error"
    assert letter["error"] == "window: ZeroDivisionError: a fault of the operator's"
    assert letter["topic"] == "raw.vibration"
    assert len(letter["value"]) > 1000
    assert made.metrics()("stethos_dead_letters_total", machine="m", reason="operator_error") == 1
    ends = [b["t_end_ns"] for b in made.records("feature") if b["name"] == "vibration"]
    assert len(ends) >= 5
    assert made.records("score")
    assert made.health() == [("normal", ())]
    assert unnoticed(made)


def test_an_operator_that_always_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred dead letters and a count; the stages beside it and the other machine go on."""
    faulty(Rewindow, lambda _: True, monkeypatch)
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)))
    made.feed(chunks(ACC, normal_noise(ACC, 12.0, 3)))
    assert len(made.records("dlq")) == 100
    assert made.metrics()("stethos_refused_messages_total", machine="m", reason="operator_error") == 120
    assert not [b for b in made.records("feature") if b["name"] == "vibration"]
    assert len(made.records("score")) > 15
    assert unnoticed(made)


def test_a_stateful_operator_that_raises_starts_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm comes all the same, a few scores later; the scores themselves are untouched."""
    faulty(Persistence, lambda k: k in {5, 9}, monkeypatch)
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)))
    made.feed(chunks(ACC, normal_noise(ACC, 14.0, 3, (3.0, 12.0))))
    assert {b["reason"] for b in made.records("dlq")} == {"operator_error"}
    assert any(b["transition"] == "raised" for b in made.records("alarm"))
    assert unnoticed(made)


def raising(kind: type, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the call with this number of an operator's `process` raise."""
    left, ours = [call], kind.process  # type: ignore[attr-defined]

    def process(self: Any, message: Message) -> Iterable[Message]:
        left[0] -= 1
        if left[0] == 0:
            raise ZeroDivisionError("a fault of the operator's")
        return ours(self, message)

    monkeypatch.setattr(kind, "process", process)


def judged(scenario: Scenario) -> tuple[list[Score], list[DeadLetter]]:
    """Scores and dead letters of a lane that hears a scenario, all sensors of a log in turns."""
    lane, out = Lane(scenario.settings), list[Result]()
    for batch in zip_longest(*scenario.log.values()):
        for message in batch:
            out += lane.process(message) if message is not None else []
    return [r for r in out if isinstance(r, Score)], [r for r in out if isinstance(r, DeadLetter)]


def test_what_raises_when_its_state_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that waited for a context are judged outside a sample's way through the lane; nothing of it escapes."""
    told = restart_before_its_state()
    raising(AnomalyScore, 7, monkeypatch)
    late = {"acc": told.log["acc"], "context": [*[None] * len(told.log["acc"]), *told.log["context"]]}
    scores, letters = judged(Scenario(told.settings, late))  # type: ignore[arg-type]
    assert [letter.reason for letter in letters] == ["operator_error"]
    assert len(scores) >= 6


def test_an_operator_that_starts_afresh_keeps_to_what_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline that was put in force stays in force."""
    decided = new_baseline()
    (decision,) = decided.log[""]
    assert isinstance(decision, Decision)
    raising(AnomalyScore, 20, monkeypatch)
    scores, letters = judged(decided)
    assert [letter.reason for letter in letters] == ["operator_error"]
    after = [score.settings for score in scores if score.t_end_ns > decision.t_ns]
    assert len(after) > 5 and set(after) == {decision.body["baseline"]}
