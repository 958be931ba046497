"""Operators that raise: the message becomes a dead letter, the operator starts afresh, everybody else goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from operators.base import Stateful, Windowed
from operators.persistence import Persistence
from operators.rewindow import Rewindow
from pipeline.messages import Message
from tests.engines.scenarios import baseline_of, chunks, normal_noise
from tests.faults.rig import ACC, lane, plant, unnoticed


def faulty(kind: type[Windowed | Stateful], when: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let an operator of machine m raise; returns a list whose only element counts its calls."""
    calls = [0]
    ours: Callable[[Any, Message], Iterable[Message]] = kind.process

    def process(self: Any, message: Message) -> Iterable[Message]:
        stream = getattr(message, "stream", None)
        machine = stream.machine if stream is not None else message.machine  # type: ignore[union-attr]
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
