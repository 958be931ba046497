"""Alarms of detectors that nobody tells any more, since another baseline or encoder is in force: over, and said so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from models.anomaly.baseline import Baseline
from operators.cusum import MINUTE_NS
from pipeline.messages import NS, Alarm, Decision, Input, Record, Score, Span
from pipeline.stages import UNTOLD, LaneSettings
from pipeline.stages_drift import Drift
from pipeline.stages_models import LEFT_NS, AnomalyOfEmbedding
from pipeline.stages_physics import Raise
from tests.engines.drifting import ACC, minutes_of
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import (
    T0,
    baseline_of,
    chunks,
    learned_baseline,
    learned_folder,
    learned_models,
    machine,
    normal_noise,
    stream,
)

MIC = stream("mic", "acoustic", 32000)
SWITCH_S = 9.1


def chosen(baseline: Baseline, at_s: float) -> Decision:
    """A decision for a baseline."""
    body = {"sensor": baseline.sensor, "baseline": baseline.settings, "path": ""}
    return Decision("m", f"m|baseline|{at_s}", T0 + round(at_s * NS), "baseline", body)


def promoted(at_s: float) -> Decision:
    """A decision for the other encoder, and its head."""
    newer = [{"path": str(learned_folder() / name)} for name in ("encoder-2", "head-2")]
    body = learned_models().for_lane().verify({"action": "promote", "packages": newer})
    return Decision("m", "m|model|1", T0 + round(at_s * NS), "model", body)


def heard() -> LaneSettings:
    """A microphone that is judged by its embedding, too; another baseline of it, without, is at hand."""
    models = learned_models()
    first, other = learned_baseline(MIC), baseline_of(MIC, 4)
    announced = machine(MIC, model=models.config.model_dump(by_alias=True))
    artefacts = {baseline.settings: baseline for baseline in (first, other)}
    return LaneSettings(announced, {"mic": first.settings}, artefacts, models=models)


@cache
def loud() -> tuple[Input, ...]:
    """Loud from the third second on, to the end."""
    return tuple(chunks(MIC, normal_noise(MIC, 14.0, 7, (3.0, 14.0))))


def of(records: list[Record], topic: str, detector: str) -> list[dict[str, Any]]:
    """What was told of a detector, in order."""
    return [dict(r.body) for r in records if r.topic == topic and r.body["detector"] == detector]


@pytest.mark.parametrize(("change", "why"), [("baseline", "has learned no embedding"), ("model", "commission again")])
def test_an_alarm_of_the_embedding_ends_with_what_judged_it(change: str, why: str) -> None:
    """However loud it is; the other detectors' alarms stay; every engine says the same."""
    decision = chosen(baseline_of(MIC, 4), SWITCH_S) if change == "baseline" else promoted(SWITCH_S)
    log: dict[str, list[Input]] = {"": [decision], "mic": list(loud())}
    records = run_straight(heard(), log)
    raised, cleared = of(records, "alarm", "embedding")
    assert (raised["transition"], cleared["transition"]) == ("raised", "cleared")
    assert cleared["raised_ns"] == raised["t_ns"] and cleared["severity"] == raised["severity"]
    assert "m mic: embedding is no longer judged; " in cleared["text"] and why in cleared["text"]
    first = next(s for s in of(records, "score", "embedding") if s["t_end_ns"] > decision.t_ns)
    assert cleared["t_ns"] == first["t_end_ns"] and not first["complete"] and first["reasons"][UNTOLD]
    assert [a["transition"] for a in of(records, "alarm", "level")] == ["raised"]
    for seed in (1, 2):
        hostile = run_hostile(heard(), log, seed)
        for topic in ("alarm", "score"):
            assert sorted(map(str, of(hostile, topic, "embedding"))) == sorted(
                map(str, of(records, topic, "embedding"))
            )


def test_a_baseline_without_an_embedding_says_so_for_a_minute() -> None:
    """Windows of a machine that runs for years under it are not told one by one; nor where no other one was before."""
    settings = heard()
    assert settings.models is not None
    other = baseline_of(MIC, 4)
    operator = AnomalyOfEmbedding(settings, MIC, settings.models)
    operator.switch(chosen(other, 10.0))
    assert operator._left(T0 + 11 * NS) and operator._left(T0 + 10 * NS + LEFT_NS)
    assert not operator._left(T0 + 9 * NS) and not operator._left(T0 + 11 * NS + LEFT_NS)
    alone = LaneSettings(settings.machine, {"mic": other.settings}, settings.artefacts, models=settings.models)
    assert not AnomalyOfEmbedding(alone, MIC, settings.models)._left(NS)


def minute_by_minute(settings: str, sigmas: float, first_s: int, last_s: int) -> Iterator[Score]:
    """A score a second, so many standard deviations above a mean of 5."""
    for second in range(first_s, last_s):
        yield Score(
            "m", ("acc",), "level", T0 // MINUTE_NS * MINUTE_NS + second * NS, 5.0 + 0.5 * sigmas, 99.0, settings,
            lineage=(Span("acc", 0, second, second + 1),),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("known", "text"), [(False, "is no longer judged; normal was learned from"), (True, "back to")]
)
def test_a_drift_ends_with_a_baseline_that_knows_no_minutes(known: bool, text: str) -> None:
    """With its first whole minute; one that knows them clears it by its own first minute, as it always did."""
    cell = minutes_of().cells[0]["level"]
    old, new = (
        replace(minutes_of(), hours=hours, cells=({"level": replace(cell, minute_mean=5.0, minute_std=std)},))
        for hours, std in ((1.0, 0.5), (2.0, 0.5 if known else 1.0))
    )
    settings = LaneSettings(machine(ACC, drift=True), {}, {b.settings: b for b in (old, new)})
    drift, rule, alarms = Drift(settings), Raise(settings), list[Alarm]()
    scores = [*minute_by_minute(old.settings, 3.0, 1, 600), *minute_by_minute(new.settings, 0.0, 600, 800)]
    for score in scores:
        for told in drift.process(score):
            alarms += [alarm for alarm in rule.process(told) if isinstance(alarm, Alarm)]
        state, held = drift.snapshot(), rule.snapshot()
        drift, rule = Drift(settings), Raise(settings)
        drift.restore(state)
        rule.restore(held)
    assert [(a.detector, a.transition, a.severity) for a in alarms] == [
        ("level_drift", "raised", "advisory"), ("level_drift", "cleared", "advisory"),
    ]  # fmt: skip
    assert text in alarms[1].text and alarms[1].settings == new.settings
    assert alarms[1].t_ns - T0 // MINUTE_NS * MINUTE_NS == 660 * NS


def test_the_drift_of_what_is_not_told_ends_with_it() -> None:
    """Once; where there was no sum, nothing is said."""
    settings = LaneSettings(machine(ACC, drift=True), {}, {(b := minutes_of()).settings: b})
    drift = Drift(settings)
    gone = next(minute_by_minute("other", 0.0, 700, 701))
    gone = replace(gone, complete=False, reasons={"text": "no more", UNTOLD: True})
    assert list(drift.process(gone)) == []
    for score in minute_by_minute(b.settings, 3.0, 1, 200):
        list(drift.process(score))
    (told,) = drift.process(gone)
    assert isinstance(told, Score)
    assert (told.detector, told.complete, told.reasons) == ("level_drift", False, gone.reasons)
    assert list(drift.process(replace(gone, t_end_ns=gone.t_end_ns + NS))) == []
