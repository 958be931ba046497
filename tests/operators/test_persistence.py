import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.persistence import Persistence
from pipeline.messages import NS, Score, Span


def score(t_s: float, value: float, **more: Any) -> Score:
    more = {"settings": "a", "threshold": 2.0, "reasons": {"text": "band 3 kHz up"}, **more}
    return Score("lathe", ("mic",), "anomaly", round(t_s * NS), value, more.pop("threshold"), **more)


def feed(persistence: Persistence, values: Iterable[float], start: float = 0.5, **more: Any) -> list[Any]:
    return [a for i, v in enumerate(values) for a in persistence.process(score(start + 0.5 * i, v, **more))]


def test_a_lasting_step_raises_when_three_smoothed_scores_exceed() -> None:
    # EWMA of a step to 2: 1 - 0.8^i exceeds 1/2 from the 4th score on, so the 6th is the third one above
    alarms = feed(Persistence(), [0.0] * 20 + [4.0] * 10)
    assert [(a.transition, a.t_ns) for a in alarms] == [("raised", round(13.0 * NS))]
    alarm = alarms[0]
    assert alarm.alarm == f"lathe|mic|anomaly|{alarm.raised_ns}"
    assert alarm.id == f"{alarm.alarm}|0"
    assert alarm.value == pytest.approx(4.0 * (1 - 0.8**6))
    assert alarm.text == "lathe mic: anomaly at 148 % of its threshold, 3 of 5 scores above it; band 3 kHz up"


def test_one_loud_window_raises_nothing() -> None:
    assert feed(Persistence(), [0.0] * 5 + [9.0] + [0.0] * 50) == []


def test_one_window_of_thirty_times_the_threshold_raises_nothing_either() -> None:
    """Its moving mean exceeds for many scores."""
    assert feed(Persistence(), [0.0] * 5 + [90.0] + [0.0] * 50) == []


def test_it_clears_after_thirty_calm_seconds_and_can_come_again() -> None:
    alarms = feed(Persistence(), [5.0] * 12 + [0.0] * 100 + [5.0] * 12)
    assert [(a.transition, a.ordinal) for a in alarms] == [("raised", 0), ("cleared", 1), ("raised", 0)]
    raised, cleared, again = alarms
    assert cleared.raised_ns == raised.t_ns
    # EWMA falls from 2.33 below 0.8: 0.8^5 * 2.33 = 0.76, at the 5th calm score (8.5 s)
    assert cleared.t_ns == round(38.5 * NS)
    assert again.alarm != raised.alarm
    assert "back to normal after" in cleared.text


def test_between_the_dead_band_and_the_threshold_it_stays() -> None:
    assert [a.transition for a in feed(Persistence(), [5.0] * 12 + [1.8] * 400)] == ["raised"]


def test_a_pause_in_the_scores_starts_the_wait_again() -> None:
    p = Persistence()
    feed(p, [5.0] * 12 + [0.0] * 60)  # calm from 8.5 s to 36 s
    assert feed(p, [0.0] * 50, start=100.0) == []
    assert [a.transition for a in feed(p, [0.0] * 12, start=125.0)] == ["cleared"]


def test_an_excursion_above_the_dead_band_starts_the_wait_again() -> None:
    """Calm from 1.0 s, above the dead-band (not the threshold) at 2.5 s, calm from 3.0 s: cleared at 3.0 + 2 s."""
    p = Persistence(alpha=1.0, k=1, n=1, clear_s=2.0, clear_ratio=0.8)
    values = [5.0, 0.1, 0.1, 0.1, 1.8, *[0.1] * 6]  # threshold 2: 1.8 is 90 % of it
    alarms = feed(p, values)
    assert [(a.transition, a.t_ns / NS) for a in alarms] == [("raised", 0.5), ("cleared", 5.0)]


def test_incomplete_and_old_scores_do_nothing() -> None:
    p = Persistence(alpha=1.0, k=2, n=3)
    feed(p, [5.0])
    before = p.snapshot()
    feed(p, [5.0], start=0.5)
    feed(p, [5.0], start=0.2)
    feed(p, [5.0], start=1.0, complete=False)
    assert p.snapshot() == before
    assert [a.transition for a in feed(p, [5.0], start=9.0)] == ["raised"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_leaves_the_alarm_to_be_cleared(value: float) -> None:
    p = Persistence(alpha=1.0, k=1, n=1, clear_s=1.0)
    assert [a.transition for a in feed(p, [5.0])] == ["raised"]
    before = p.snapshot()
    assert feed(p, [value] * 3, start=1.5) == []
    assert p.snapshot() == before
    assert [a.transition for a in feed(p, [0.1] * 5, start=3.0)] == ["cleared"]


def test_a_score_without_a_threshold_does_nothing() -> None:
    """A quotient by zero would start the operator afresh, and the active alarm would stand for ever."""
    p = Persistence(alpha=1.0, k=1, n=1, clear_s=1.0)
    feed(p, [5.0])
    before = p.snapshot()
    assert feed(p, [5.0] * 3, start=1.5, threshold=0.0) == []
    assert p.snapshot() == before
    assert [a.transition for a in feed(p, [0.1] * 5, start=3.0)] == ["cleared"]


def test_the_text_ends_where_the_detector_gave_no_reason() -> None:
    (alarm,) = feed(Persistence(alpha=1.0, k=1, n=1), [5.0], reasons={})
    assert alarm.text == "lathe mic: anomaly at 250 % of its threshold, 1 of 1 scores above it"


def test_a_calm_score_raises_nothing_where_fewer_exceedances_are_asked_for_than_before() -> None:
    """The snapshot of a run with k = 3 holds two of them; it goes on with k = 2."""
    before, after = Persistence(alpha=1.0, k=3, n=5), Persistence(alpha=1.0, k=2, n=5)
    feed(before, [5.0, 5.0])
    after.restore(json.loads(json.dumps(before.snapshot())))
    assert feed(after, [0.1], start=2.0) == []
    assert [a.transition for a in feed(after, [5.0], start=2.5)] == ["raised"]


def test_a_clock_that_was_set_back_clears_after_the_whole_wait() -> None:
    p = Persistence(alpha=1.0, k=1, n=1, clear_s=2.0)
    assert [a.transition for a in feed(p, [5.0, 0.1], start=100.0, lineage=(Span("mic", 0, 0, 1),))] == ["raised"]
    calm = feed(p, [0.1] * 9, start=1.0, lineage=(Span("mic", 1, 0, 1),))
    assert [(a.transition, a.t_ns / NS) for a in calm] == [("cleared", pytest.approx(3.5, abs=0.6))]


@pytest.mark.parametrize(
    ("begins", "epoch", "told"),
    [(101.0, 0, " after 2 s"), (1.0, 1, ""), (99.0, 1, ""), (1.7e9, 1, ""), (86_400.0, 1, " after 86302 s")],
)
def test_how_long_it_stood_is_told_where_the_clock_was_not_set(begins: float, epoch: int, told: str) -> None:
    """Cleared before it was raised; back by two seconds only; raised in 1970; cleared a day later by another stream."""
    p = Persistence(alpha=1.0, k=1, n=1, clear_s=1.0)
    feed(p, [5.0], start=100.0, lineage=(Span("mic", 0, 0, 1),))
    feed(p, [5.0], start=begins, lineage=(Span("mic", epoch, 0, 1),))
    again = Persistence(alpha=1.0, k=1, n=1, clear_s=1.0)
    again.restore(json.loads(json.dumps(p.snapshot())))
    (cleared,) = feed(again, [0.1] * 3, start=begins + 0.5, lineage=(Span("mic", epoch, 1, 2),))
    assert cleared.text == f"lathe mic: anomaly back to normal{told}"


def test_new_settings_start_anew_but_an_active_alarm_stays() -> None:
    p = Persistence(alpha=1.0, k=2, n=3)
    assert [a.transition for a in feed(p, [5.0, 5.0])] == ["raised"]
    assert feed(p, [5.0] * 5, start=2.0, settings="b") == []
    q = Persistence(alpha=1.0, k=2, n=3)
    feed(q, [5.0])
    assert feed(q, [5.0], start=2.0, settings="b") == []
    assert p.snapshot()["raised_ns"] == NS


def test_thresholds_may_differ_between_states() -> None:
    p = Persistence(alpha=1.0, k=2, n=2)
    assert feed(p, [3.0], threshold=4.0) == []
    assert feed(p, [3.0], start=1.0, threshold=2.0) == []
    assert [a.transition for a in feed(p, [5.0], start=1.5, threshold=4.0)] == ["raised"]


@given(st.lists(st.floats(0, 8), max_size=200), st.integers(0, 200), st.integers(0, 10))
def test_a_restored_one_goes_on_to_the_bit(values: list[float], cut: int, overlap: int) -> None:
    scores = [score(0.5 * (i + 1), v) for i, v in enumerate(values)]
    whole = Persistence()
    expected = [a for s in scores for a in whole.process(s)]
    first, second = Persistence(), Persistence()
    got = [a for s in scores[:cut] for a in first.process(s)]
    snapshot = json.dumps(first.snapshot())
    assert len(snapshot) < 20_000
    second.restore(json.loads(snapshot))
    got += [a for s in scores[max(0, min(cut, len(scores)) - overlap) :] for a in second.process(s)]
    assert [(a.id, a.value, a.text) for a in got] == [(a.id, a.value, a.text) for a in expected]
    assert second.snapshot() == whole.snapshot()


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"k": 6}, {"clear_ratio": 1.5}, {"clear_s": -1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="required"):
        Persistence(**wrong)
