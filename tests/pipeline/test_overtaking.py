"""The newer stream of a sensor stays behind the older one, whatever each of them waits for."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count, permutations

import pytest

from models.anomaly.score import AnomalyScore
from pipeline.fast import FastDetectors
from pipeline.messages import NS, Anchor, Context, DeadLetter, Input, Score
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0, chunks, machine
from tests.engines.waiting import MIC, drilling, given_up_in_between


@pytest.mark.parametrize("order", list(permutations(("acc+mic", "state", "rpm"))))
def test_every_order_of_arrival_gives_the_same_answer(order: tuple[str, ...]) -> None:
    """Facts that come last find the newer stream's windows given up long ago and the older one's waiting."""
    made = given_up_in_between()
    lane = Lane(made.settings)
    inputs = chain(made.log[""], *(made.log[name] for names in order for name in names.split("+")))
    records = {(r.topic, r.id): r for m in inputs for r in map(record_of, lane.process(m))}
    straight = {(r.topic, r.id): r for r in run_straight(made.settings, made.log)}
    assert {k[0] for k in straight} >= {"score", "alarm", "feature"}
    assert records == straight
    assert not lane.starving()


def test_what_waits_in_an_operator_that_fails_is_judged_by_its_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One window is a dead letter, as many scores of it are missing, and the order of the streams stays."""
    made, judge = given_up_in_between(), AnomalyScore.process
    calls = count()

    def judged(scorer: AnomalyScore, window: object) -> object:
        if next(calls) == 2:
            raise RuntimeError("as it happens")
        return judge(scorer, window)  # type: ignore[arg-type]

    def scores(order: tuple[str, ...]) -> tuple[list[str], list[str]]:
        lane = Lane(made.settings)
        out = [r for m in chain(made.log[""], *(made.log[name] for name in order)) for r in lane.process(m)]
        told = [f"{r.detector} {r.t_end_ns}" for r in out if isinstance(r, Score) and r.sensors == ("acc",)]
        return told, [r.error for r in out if isinstance(r, DeadLetter)]

    good, none = scores(("acc", "state"))
    assert not none
    monkeypatch.setattr(AnomalyScore, "process", judged)
    left, letters = scores(("acc", "state"))
    assert len(letters) == 1 and "as it happens" in letters[0]
    assert len(good) - len(left) == 2 and [one for one in good if one in left] == left


@pytest.mark.parametrize("late_s", [0.0, 1.5, 9.0])
def test_the_fast_lane_judges_what_waited_when_its_sensor_reconnected(late_s: float) -> None:
    """Twice, before the speed of the first stream is told: the scores of the lane, in its order."""
    settings = LaneSettings(machine(MIC, drill={"taught_holes": 2}, spindle={"rpm_context": "rpm"}))
    x = drilling(MIC, 1.9)
    feed: list[tuple[int, int, Input]] = []
    for epoch in range(3):
        parts = chunks(replace(MIC, epoch=epoch), x, 0.02, anchor=Anchor(0, T0 + 2 * epoch * NS))
        feed += [(chunk.t1_ns, 1, chunk) for chunk in parts]
    told = (Context("m", "rpm", T0 + k * NS // 2, 9000.0) for k in range(-2, 16))
    feed += [(fact.t_ns + round(late_s * NS), 0, fact) for fact in told]
    lane, ear = Lane(settings), FastDetectors(settings)
    heard: list[str] = []
    expected: list[str] = []
    for _, _, message in sorted(feed, key=lambda entry: entry[:2]):
        expected += [one.id for one in lane.process(message) if isinstance(one, Score)]
        heard += [one.id for one in ear.listen(message) if isinstance(one, Score)]  # type: ignore[arg-type]
    assert len(heard) > 15 and heard == expected
