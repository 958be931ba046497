"""The baseline-plus-25-percent alarm against the standard's own example and closed forms."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from operators.severity import LIMITS
from operators.severity_alarm import CHANGE, SEVERITY, SeverityAlarm
from pipeline.messages import Feature, Score

RIGID = LIMITS[1, "rigid"]


def window(velocity: float, t: int = 0, *, complete: bool = True) -> Feature:
    """One second of a severity feature."""
    return Feature("m", ("acc",), "severity", t, {"rms_velocity_mm_s": velocity} if complete else {}, complete)


def judged(alarm: SeverityAlarm, levels: Sequence[float]) -> list[dict[str, Score]]:
    """The scores of each window by name."""
    said = [[s for s in alarm.process(window(v, t)) if isinstance(s, Score)] for t, v in enumerate(levels)]
    return [{s.detector: s for s in scores} for scores in said]


def test_the_standards_example() -> None:
    """Baseline 0.8 mm/s, group 1, rigid: alarm at 0.8 + 0.25 * 4.5 = 1.925 mm/s, deep inside zone A."""
    below, above = judged(SeverityAlarm(RIGID, 0.8), [1.92, 1.93])
    assert below[SEVERITY].threshold == pytest.approx(1.925)
    assert not below[SEVERITY].abnormal
    assert above[SEVERITY].abnormal
    assert above[SEVERITY].reasons["zone"] == "A"


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize(("share", "changed"), [(0.24, False), (0.26, True)])
def test_a_change_up_or_down_is_significant(way: int, share: float, changed: bool) -> None:
    """AC-V5: by more than 25 % of 4.5 mm/s = 1.125 mm/s, inside zones A and B."""
    (found,) = judged(SeverityAlarm(RIGID, 3.0), [3.0 + way * share * 4.5])
    assert found[CHANGE].abnormal is changed and found[CHANGE].reasons["zone"] in "AB"
    assert found[CHANGE].threshold == pytest.approx(1.125)


def test_the_alarm_is_capped() -> None:
    """Not above 1.25 times B/C, whatever the baseline."""
    (found,) = judged(SeverityAlarm(RIGID, 6.0), [6.0])
    assert found[SEVERITY].threshold == pytest.approx(1.25 * 4.5)
    assert found[SEVERITY].abnormal


def test_the_baseline_is_learned_where_none_is_given() -> None:
    """The median of the first windows; until then the scores are incomplete and say so."""
    found = judged(SeverityAlarm(RIGID, learn=5), [1.0, 1.2, 9.0, 1.1, 1.0, 1.1])
    assert [f[SEVERITY].complete for f in found] == [False] * 4 + [True] * 2
    assert "not commissioned: 4 of 5" in found[3][SEVERITY].reasons["text"]
    assert found[-1][SEVERITY].reasons["baseline_mm_s"] == 1.1


def test_a_machine_that_stands_teaches_nothing_and_has_not_changed() -> None:
    """Mounted while it stands; later it stops and goes on."""
    alarm = SeverityAlarm(LIMITS[1, "rigid"], learn=5)
    judged(alarm, [0.02] * 50)
    first = judged(alarm, [1.2] * 5)[-1]
    assert first[SEVERITY].reasons["baseline_mm_s"] == pytest.approx(1.2)
    stopped = judged(alarm, [0.02])[0][CHANGE]
    assert stopped.complete and stopped.value == 0.0 and stopped.reasons["text"] == "the machine stands still"


def test_missing_samples_teach_and_judge_nothing() -> None:
    """Both scores are incomplete."""
    alarm = SeverityAlarm(RIGID, learn=1)
    assert not any(s.complete for s in alarm.process(window(0.0, complete=False)) if isinstance(s, Score))
    assert judged(alarm, [2.0])[0][SEVERITY].reasons["baseline_mm_s"] == 2.0


def test_a_restored_one_goes_on_alike() -> None:
    """Through JSON, while it learns and after; small."""
    levels = [1.0 + 0.01 * k for k in range(20)]
    straight = judged(SeverityAlarm(RIGID, learn=10), levels)
    for stop in (4, 15):
        first = SeverityAlarm(RIGID, learn=10)
        head = judged(first, levels[:stop])
        second = SeverityAlarm(RIGID, learn=10)
        second.restore(orjson.loads(orjson.dumps(first.snapshot())))
        rest = judged(second, levels[stop:])
        assert [f[CHANGE].value for f in (*head, *rest)] == [f[CHANGE].value for f in straight]
    full = SeverityAlarm(RIGID, learn=1000)
    judged(full, [123.4567] * 999)
    assert len(orjson.dumps(full.snapshot())) < 20_000


def test_the_configurations_baseline_wins_over_the_snapshots() -> None:
    """One that was corrected, given after one was learned, or taken back; what was learned goes on being used."""
    limits = LIMITS[1, "rigid"]

    def baseline(before: SeverityAlarm, after: SeverityAlarm) -> float | None:
        for level in (0.12, 0.12):
            list(before.process(window(level)))
        after.restore(orjson.loads(orjson.dumps(before.snapshot())))
        return after._baseline

    assert baseline(SeverityAlarm(limits, 0.12), SeverityAlarm(limits, 1.2)) == 1.2
    assert baseline(SeverityAlarm(limits, learn=2), SeverityAlarm(limits, 1.2)) == 1.2
    assert baseline(SeverityAlarm(limits, 1.2), SeverityAlarm(limits, learn=2)) is None
    assert baseline(SeverityAlarm(limits, learn=2), SeverityAlarm(limits, learn=2)) == 0.12
    learn = {"learn": 2, "basis": "acc 8000 m/s2"}
    assert baseline(SeverityAlarm(limits, **learn), SeverityAlarm(limits, **learn)) == 0.12  # type: ignore[arg-type]
    other = {**learn, "basis": "acc 8000 g"}
    assert baseline(SeverityAlarm(limits, **learn), SeverityAlarm(limits, **other)) is None  # type: ignore[arg-type]
    assert baseline(SeverityAlarm(limits, learn=2), SeverityAlarm(LIMITS[2, "rigid"], learn=2)) is None
    old = SeverityAlarm(limits, 1.2)
    old.restore({"schema": 1, "baseline": 0.12, "heard": []})
    assert old._baseline == 1.2


def test_wrong_settings_are_refused() -> None:
    """And wrong messages."""
    with pytest.raises(ValueError, match="mm/s"):
        SeverityAlarm(RIGID, -1.0)
    with pytest.raises(ValueError, match="windows"):
        SeverityAlarm(RIGID, learn=0)
    with pytest.raises(TypeError, match="severity"):
        SeverityAlarm(RIGID).process(Feature("m", ("s",), "other", 0, {}))


@pytest.mark.parametrize(
    ("baseline", "level", "stands"), [(6.0, 0.5, True), (6.0, 0.7, False), (0.3, 0.09, True), (0.3, 0.11, False)]
)
def test_a_machine_stands_below_a_tenth_of_its_baseline_or_of_a_millimetre(
    baseline: float, level: float, stands: bool
) -> None:
    """Nothing runs; what its neighbours shake it by is no change of its own."""
    (found,) = judged(SeverityAlarm(RIGID, baseline), [level])
    assert found[CHANGE].complete
    assert found[CHANGE].value == pytest.approx(0.0 if stands else abs(level - baseline))
    assert ("stands still" in found[CHANGE].reasons["text"]) is stands
