"""When the indicators of a cut are enough: three loud hops with strong evidence, or evidence that lasts."""

from __future__ import annotations

from math import log

import orjson
import pytest

from benchmarks.detectors import chatter_scores
from operators.chatter_detector import ChatterDetector
from operators.chatter_evidence import SURE, Evidence, evidence
from operators.persistence import Persistence
from pipeline.messages import NS, Alarm
from tests.operators.simulated import cut
from tests.operators.test_chatter import CLEAR, scores, told


def test_two_hops_are_no_chatter() -> None:
    """Chips and entries last one or two; three in a row are needed."""
    detector = ChatterDetector(3, 20_000)
    values = [0.9, 0.9, 0.0, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9]
    hops = [told(t=0.01 * k, tonal=v, **({} if k else CLEAR)) for k, v in enumerate(values)]
    found = scores(detector, hops)
    assert [s.abnormal for s in found] == [False] * 8 + [True]


def test_a_lone_line_must_last() -> None:
    """A warning tone without neighbours counts from 350 ms on."""
    detector = ChatterDetector(3, 20_000)
    first = told(t=0.0, tonal=0.9, **CLEAR | {"pair_db": 0.0, "long_pair_db": 0.0, "long_side_db": 20.0})
    found = scores(detector, [first, *(told(t=0.01 * k, tonal=0.9, pair_db=0.0) for k in range(1, 60))])
    assert [s.abnormal for s in found].index(True) in range(35, 40)


@pytest.mark.parametrize("pair_db", [24.0, 20.0])
def test_loud_hops_need_strong_evidence(pair_db: float) -> None:
    """Noise that rings a mode is loud for moments; without strong evidence in the long window it stays at the limit."""
    detector = ChatterDetector(3, 20_000)
    first = told(t=0.0, tonal=0.9, **CLEAR | {"long_pair_db": pair_db})
    found = scores(detector, [first, *(told(t=0.01 * k, tonal=0.9) for k in range(1, 9))])
    assert any(s.abnormal for s in found) == (evidence(first.values) >= SURE) == (pair_db == 24.0)
    assert found[-1].value == pytest.approx(0.9 if pair_db == 24.0 else found[-1].threshold)


def test_evidence_is_the_weighted_sum() -> None:
    """Worked out by hand; every term within its bounds, and no more than 0 where hardly anything is coherent."""
    values = {"coherent": 0.5, "long_pair_db": 12.0, "long_side_db": 5.0, "forced_db": -10.0, "residual": 1.0}
    assert evidence(values) == pytest.approx(-3.5 + 3.0 + 2.0 - 1.0)
    assert evidence(values | {"coherent": 0.2}) == pytest.approx(0.5 - 0.5 * log(4.0))
    assert evidence(values | {"residual": 1e9}) == pytest.approx(0.5 + 1.2 * log(100.0))
    assert evidence(values | {"long_pair_db": -300.0, "long_side_db": -300.0}) == pytest.approx(-4.5)
    assert evidence(values | {"long_pair_db": 300.0}) == pytest.approx(0.5 + 0.25 * 23.0)
    assert evidence(values | {"forced_db": -300.0}) == pytest.approx(0.5 - 3.0)
    assert evidence(values | {"forced_db": 300.0}) == pytest.approx(0.5 + 3.0)
    assert evidence(values | {"long_side_db": 300.0}) == pytest.approx(0.5 + 0.4 * 25.0)
    assert evidence(values | {"coherent": 0.04, "long_side_db": 30.0, "residual": 9.0}) == 0.0
    assert evidence(values | {"coherent": 0.04}) == pytest.approx(0.5 - 0.5 * log(24.0))  # what speaks against, stays


@pytest.mark.parametrize(("each", "windows"), [(5.1, 4), (4.9, 8), (3.1, 8), (2.9, 14), (1.3, 14), (1.1, None)])
def test_less_evidence_must_last_longer(each: float, windows: int | None) -> None:
    """Through a snapshot in the middle, too."""
    so_far = Evidence()
    enough = None
    for n in range(1, 31):
        so_far.take(each)
        assert (so_far.ratio == 0.0) == (n < 4)
        if so_far.ratio > 1.0 and enough is None:
            enough = n
        if n == 3:
            so_far = Evidence(orjson.loads(orjson.dumps(so_far.snapshot())))
    assert enough == windows
    assert len(so_far.snapshot()) == 14


def test_evidence_against_is_no_less_than_none() -> None:
    """A score is a share and never below 0; as far over what is enough as 10, it is 2."""
    for each, ratio in ((-9.0, 0.0), (0.0, 0.0), (2.5, 0.5), (5.0, 1.0), (15.0, 2.0)):
        so_far = Evidence([each] * 4)
        assert so_far.ratio == pytest.approx(ratio)


def test_what_is_no_evidence() -> None:
    """Windows of a contradicted speed and lines of the idle machine count for nothing; air, and a gap, end it all."""
    strong = CLEAR | {"tonal": 0.3, "long_side_db": 20.0}
    for blank in ({"contradicts_rpm": 9300.0}, {"tonal": 0.0}):
        detector = ChatterDetector(3, 20_000)
        scores(detector, [told(t=0.01 * k, cutting=0.0, tonal=0.05) for k in range(200)])
        hops = [told(t=2.0 + 0.05 * k, **strong | (blank if k == 2 else {})) for k in range(4)]
        assert [s.abnormal for s in scores(detector, hops)] == [False] * 3 + [True]  # three strong ones and a zero
        assert detector.snapshot()["evidence"][2] == 0.0
        (air,) = scores(detector, [told(t=2.3, cutting=0.0, **CLEAR)])
        assert not air.abnormal and detector.snapshot()["evidence"] == []


def test_a_cut_without_evidence_scores_nothing_and_clears_the_alarm() -> None:
    """A second of chatter, then clean cutting beside a line of the idle machine: the alarm ends after its wait."""
    detector = ChatterDetector(3, 20_000)
    scores(detector, [told(t=0.01 * k, cutting=0.0, tonal=0.1, **CLEAR) for k in range(100)])
    strong = CLEAR | {"tonal": 0.9, "long_side_db": 20.0}
    hops = [told(t=1.0 + 0.05 * k, **strong) for k in range(20)]
    hops += [told(t=2.0 + 0.05 * k, **CLEAR | {"tonal": 0.0}) for k in range(200)]
    found = scores(detector, hops)
    assert found[-1].value == 0.0
    waits = Persistence(alpha=1.0, k=1, n=1, clear_s=3.0, clear_ratio=0.8)
    alarms = [m for score in found for m in waits.process(score) if isinstance(m, Alarm)]
    assert [alarm.transition for alarm in alarms] == ["raised", "cleared"]
    assert alarms[1].t_ns < 7 * NS


def test_evidence_from_before_a_contradicted_speed_counts_no_more() -> None:
    """Chatter for a moment, a minute of another speed's lines, a stable cut: the old windows raise nothing."""
    detector = ChatterDetector(3, 20_000, on_delay_s=60.0)
    chatter = [told(t=0.05 * k, tonal=0.9, **CLEAR | {"long_side_db": 20.0}) for k in range(14)]
    wrong = [told(t=0.7 + 0.05 * k, tonal=0.9, **CLEAR | {"contradicts_rpm": 9300.0}) for k in range(100)]
    stable = [told(t=5.7 + 0.05 * k, tonal=0.01, **CLEAR | {"long_pair_db": 0.0, "coherent": 0.06}) for k in range(20)]
    scores(detector, [*chatter, *wrong])
    assert detector.snapshot()["evidence"] == []
    assert all(s.value < s.threshold for s in scores(detector, stable))


@pytest.mark.parametrize(
    ("seed", "index", "sensor"),
    [(8101, 1, "sound"), (8101, 5, "sound"), (8101, 68, "sound"), (8101, 0, "acceleration"), (8111, 6, "acceleration")],
)
def test_chatter_that_is_no_loud_family(seed: int, index: int, sensor: str) -> None:
    """Without neighbours in a balanced slot, beside strong forced vibration, broad, or with weak multiples."""
    made = cut(seed, index, "chatter", snr_db=10.0 + 10.0 * ((index * 0.37) % 1.0), air_s=1.5)
    assert made.onset_s is not None
    unit = "FS" if sensor == "sound" else "m/s2"
    raised = [s.t_end_ns / 1e9 for s in chatter_scores(made, unit) if s.abnormal]
    assert raised and made.onset_s < raised[0] < made.onset_s + 2.0
    assert "mismatch" not in str([s.reasons.get("speed") for s in chatter_scores(made, unit)])
