"""Cuts that the machine says are good: what they reach raises the threshold at their speed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from benchmarks.detectors import delayed_scores
from operators.chatter_detector import ChatterDetector
from operators.chatter_evidence import evidence
from operators.chatter_points import Points
from pipeline.messages import Feature, Score
from tests.operators.simulated import TUNING, cut
from tests.operators.test_chatter import CLEAR, scores, told

RUNG = CLEAR | {"tonal": 0.3, "wavering": 1.0, "long_pair_db": 18.0}
"""Evidence of 2.0, so that fourteen windows reach 1 + (2.0 - 1.2) / 10 thresholds."""
LOUDER = RUNG | {"long_pair_db": 26.0}
"""Evidence of 4.0."""
GOOD = {"good": 1.0}


def windows(count: int, first: int, values: dict[str, float]) -> list[Feature]:
    """Long windows of one kind, from the one of this number on."""
    return [told(t=0.05 * (first + k), **values) for k in range(count)]


def told_of(score: Score) -> tuple[object, ...]:
    """All that a detector says."""
    return score.t_end_ns, score.value, score.threshold, score.complete, score.reasons


def taught(**values: float) -> tuple[ChatterDetector, list[Score]]:
    """After a second of a cut that is said to be good, and a moment of air."""
    detector = ChatterDetector(3, 20_000)
    found = scores(detector, windows(20, 0, RUNG | GOOD | values))
    scores(detector, windows(2, 20, CLEAR | {"cutting": 0.0, "level_db": -60.0, "long_tonal": 0.0}))
    return detector, found


def test_what_good_cuts_reach_raises_the_threshold() -> None:
    """1.25 times 1.08, by the weights: the same cut is good later on; louder chatter is found none the less."""
    reached = 1.0 + (evidence(RUNG) - 1.2) / 10.0
    assert reached == pytest.approx(1.08, abs=0.005)
    assert any(s.abnormal for s in scores(ChatterDetector(3, 20_000), windows(20, 0, RUNG)))
    detector, learned = taught()
    assert not any(s.complete or s.abnormal for s in learned)
    assert learned[-1].reasons["reached"] == pytest.approx(reached, abs=0.001)
    assert "said to be good; up to 1.08 times the usual threshold" in learned[-1].reasons["text"]
    later = scores(detector, windows(20, 30, RUNG))
    assert all(s.complete and not s.abnormal for s in later)
    usual = scores(ChatterDetector(3, 20_000), windows(1, 0, RUNG))[0].threshold
    assert later[0].threshold == pytest.approx(1.25 * reached * usual, abs=0.002)
    assert "threshold 1.35 times the usual one" in later[-1].reasons["text"]
    assert any(s.abnormal for s in scores(detector, windows(20, 50, LOUDER | {"long_side_db": 4.0})))


@pytest.mark.parametrize(("rpm", "abnormal"), [(9000.0, False), (9100.0, False), (9500.0, True), (8500.0, True)])
def test_it_holds_at_its_speed(rpm: float, abnormal: bool) -> None:
    """Within 2 %; nothing was learned about others."""
    detector, _ = taught()
    assert any(s.abnormal for s in scores(detector, windows(20, 30, RUNG | {"rpm": rpm}))) is abnormal


def test_chatter_that_is_said_to_be_good() -> None:
    """Told as such, and learned up to 1.5 times: what exceeds that is found."""
    detector, learned = taught(long_pair_db=35.0, long_side_db=6.0)
    assert "sounds like chatter: the threshold rises to 1.5 times at most" in learned[-1].reasons["text"]
    assert any(s.abnormal for s in scores(detector, windows(20, 30, CLEAR | {"long_side_db": 12.0})))


@pytest.mark.parametrize(
    "values",
    [{"cutting": 0.0, "level_db": -60.0}, {"contradicts_rpm": 7000.0}, {"tonal": 0.0, "coherent": 0.01}],
)
def test_what_is_not_learned(values: dict[str, float]) -> None:
    """No cut, a speed that its lines contradict, and a cut that shows nothing."""
    detector, _ = taught(**values)
    assert not any(reached for _, reached in detector.snapshot()["good"])
    assert any(s.abnormal for s in scores(detector, windows(20, 30, RUNG)))


def test_a_restart_changes_nothing_and_an_earlier_snapshot_fits() -> None:
    """To the bit, in the middle of learning and after it; versions that knew no good cuts have learned none."""
    hops = [*windows(20, 0, RUNG | GOOD), *windows(20, 30, RUNG), *windows(20, 50, LOUDER)]
    whole = scores(ChatterDetector(3, 20_000), hops)
    for at in (7, 20, 33):
        first, second = ChatterDetector(3, 20_000), ChatterDetector(3, 20_000)
        found = scores(first, hops[:at])
        second.restore(orjson.loads(orjson.dumps(first.snapshot())))
        assert [told_of(s) for s in found + scores(second, hops[at:])] == [told_of(s) for s in whole]
    earlier = {key: value for key, value in taught()[0].snapshot().items() if key != "good"}
    detector = ChatterDetector(3, 20_000)
    detector.restore(earlier)
    assert any(s.abnormal for s in scores(detector, windows(20, 30, RUNG)))


def test_speeds_that_are_remembered() -> None:
    """The largest value of each, of the last 32 of them."""
    points = Points()
    for k in range(40):
        points.at(1000.0 * 1.1**k)
        points.bear(1.2)
        points.bear(1.1)
    assert len(points.snapshot()["good"]) == 32
    assert points.times == pytest.approx(1.5)
    points.at(1000.0)
    assert points.times == 1.0


def test_a_program_that_rings_a_mode_in_every_part() -> None:
    """A simulated stable cut that raises an alarm does not after two earlier parts of it, which differ in noise."""
    made = cut(TUNING[-1], 100_077, "stable", snr_db=6.0 + 14.0 * ((77 * 0.37) % 1.0), seconds=10.0, parts=2)
    (alone,), (learned,) = (delayed_scores(one, "FS", [0.0]) for one in (replace(made, before=()), made))
    assert any(s.abnormal for s in alone)
    assert not any(s.abnormal for s in learned)
    assert sum(s.complete for s in learned) >= sum(s.complete for s in alone)
