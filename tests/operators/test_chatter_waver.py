"""How a line wavers over seconds of a cut: a rung mode raises no alarm by it, an alarm that stands is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, nan, tanh
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.chatter import ChatterFeatures
from operators.chatter_detector import ChatterDetector
from operators.chatter_evidence import evidence
from operators.chatter_waver import Waver, Weighed
from operators.spindle import GivenSpeed
from pipeline.messages import Feature, Message, Score
from tests.operators.pieces import column, cuts, run, segments
from tests.operators.test_chatter import CLEAR, scores, told
from tests.operators.test_chatter_steady import LINE_HZ, MILL, RATE, RPM, TEETH, cycle, noise, rung

STRONG = CLEAR | {"tonal": 0.3, "long_side_db": 4.0}
"""Evidence of 5.1, of which 1.1 is left of a line that wavers: enough for an alarm, and not."""
MIDDLING = CLEAR | {"tonal": 0.3, "long_pair_db": 14.0}
"""Evidence of 1.0: never enough."""
WEAK = CLEAR | {"tonal": 0.3, "long_pair_db": 10.0, "coherent": 0.5}


def window(level_db: float = -20.0, wavering: float = 1.0, line_hz: float = LINE_HZ) -> dict[str, float]:
    """What of a long window counts."""
    return {"long_line_hz": line_hz, "level_db": level_db, "coherent": 0.5, "wavering": wavering}


def windows(count: int, values: Mapping[str, float], first: int = 0) -> list[Feature]:
    """Long windows of one kind, from the one of this number on."""
    return [told(t=0.05 * (first + k), **values) for k in range(count)]


def heard(x: np.ndarray) -> tuple[list[float], float]:
    """What each long window of these samples adds, and the ratio of the last sixty."""
    hops = run(ChatterFeatures(MILL, GivenSpeed(RPM), TEETH, RPM), segments(MILL, column(x)))
    waver = Waver()
    added = [waver.take(hop.values) for hop in hops if isinstance(hop, Feature) and "wavering" in hop.values]
    return added, waver.ratio


@pytest.mark.parametrize("seed", range(3))
def test_a_sine_keeps_its_evidence_and_a_rung_mode_loses_it(seed: int) -> None:
    """Three seconds in noise 10 dB below, or of a mode 15 Hz wide that white noise rings.

    In the mean of its second and third second; in moments its strongest line lies more than 10 Hz beside the others.
    """
    beside = 0.3 * noise(3.0, 50 + seed)
    added, ratio = heard(cycle(3.0) + beside)
    assert added == pytest.approx([0.0] * 53) and ratio == pytest.approx(1.0, abs=0.02)
    of_mode, _ = heard(rung(3.0, 7.5, seed) + beside)
    assert of_mode[:19] == [0.0] * 19
    assert np.mean(of_mode[19:]) < -2.0


@pytest.mark.parametrize("noise_db", [-inf, -3.8, 0.0, inf])
@pytest.mark.parametrize("slow", [True, False])
def test_the_ratio_of_a_limit_cycle_in_noise(noise_db: float, slow: bool) -> None:
    """2 - (S/(S+N))² of a steady line in narrow-band Gaussian noise, slower than the windows or faster, in the mean.

    1 without noise, 1.5 with that 3.8 dB below, 2 of noise alone; of each draw that of all its samples.
    """
    share = 1.0 / (1.0 + 10.0 ** (0.1 * noise_db))
    ratios = []
    for seed in range(100):
        parts = np.random.default_rng(seed).standard_normal((2, 60, 1 if slow else 20))
        squares = np.abs(np.sqrt(share) + np.sqrt(0.5 * (1.0 - share)) * (parts[0] + 1j * parts[1])) ** 2
        waver = Waver()
        for one in squares:
            waver.take(window(10.0 * np.log10(one.mean()), (one**2).mean() / one.mean() ** 2))
        assert waver.ratio == pytest.approx((squares**2).mean() / squares.mean() ** 2, rel=1e-3)
        ratios.append(waver.ratio)
    assert np.mean(ratios) == pytest.approx(2.0 - share**2, abs=0.1)


@pytest.mark.parametrize(("ratio", "adds"), [(1.49, 0), (1.65, -2), (1.81, -4), (3.49, -4), (4.25, -2), (5.01, 0)])
def test_what_a_ratio_adds(ratio: float, adds: float) -> None:
    """Windows of equal power have the mean of their ratios, whatever the gain; before twenty nothing is said."""
    for level_db in (-3000.0, -20.0, 3000.0):
        waver = Waver()
        found = [waver.take(window(level_db, ratio + (0.2 if k % 2 else -0.2))) for k in range(80)]
        assert waver.ratio == pytest.approx(ratio)
        assert found[:19] == [0.0] * 19
        assert found[19::2] == pytest.approx([adds] * 31)


def test_the_power_is_that_of_the_line() -> None:
    """Its share of the level: of 0.5 and 0.05 in turns ⟨P²⟩/⟨P⟩² is (1 + 0.01)/2 / 0.55²."""
    waver = Waver()
    for k in range(60):
        waver.take(window() | {"coherent": 0.05 if k % 2 else 0.5})
    assert waver.ratio == pytest.approx(0.505 / 0.55**2, rel=1e-4)


def test_a_window_that_may_not_speak_for_chatter_counts_for_nothing() -> None:
    """Neither for it nor against it."""
    weighed = Weighed()
    weighed.take(None)
    assert weighed.snapshot() == {"evidence": [0.0], "less": [0.0], "waver": []}


@pytest.mark.parametrize(("per_second", "adds"), [(0.6, 0.0), (4.0, -4.0), (12.0, 0.0), (40.0, 0.0)])
def test_growth_is_no_wavering(per_second: float, adds: float) -> None:
    """Power as e^(bt) has n tanh(bT/2n) / tanh(bT/2): near 1 for drift, far over noise's 2 for chatter's growth.

    Between them, a line that takes seconds to grow, it is taken for wavering; e^(6t) of the amplitude never is.
    """
    waver = Waver()
    step = 0.5 * 0.05 * per_second
    least = 0.0
    for n in range(1, 61):
        least = min(least, waver.take(window(10.0 * np.log10(np.e) * 2.0 * step * n)))
        assert n < 20 or waver.ratio == pytest.approx(n * tanh(step) / tanh(n * step), rel=1e-3)
    assert least == pytest.approx(adds)


def test_a_line_that_begins_anew_is_not_held_against_chatter() -> None:
    """Of sixty windows k with the line at 30 dB more have 60/k, until the fast and the firm way have long decided."""
    waver = Waver()
    for _ in range(60):
        waver.take(window(-50.0))
    found = []
    for k in range(1, 61):
        found.append(waver.take(window(-20.0)))
        assert waver.ratio == pytest.approx(60.0 / k, rel=0.12)
    assert found[:11] == [0.0] * 11
    assert found[43:] == [0.0] * 17


def test_only_windows_of_the_same_line_count() -> None:
    """Within 10 Hz of the present one, and twenty of the last sixty."""
    waver = Waver()
    assert not any(waver.take(window(wavering=2.0, line_hz=LINE_HZ + 10.1 * (k % 4))) for k in range(100))
    assert waver.take(window(wavering=2.0, line_hz=LINE_HZ + 15.0)) == -4.0  # of thirty, 5 Hz away on both sides
    assert len(waver.snapshot()) == 60


@pytest.mark.parametrize("wavering", [None, nan, inf])
def test_a_window_that_does_not_say_leaves_no_trace(wavering: float | None) -> None:
    """As of features of an earlier version, or of samples too large to be squared."""
    waver = Waver([[LINE_HZ, -23.0, 2.0]] * 30)
    values = window() | ({} if wavering is None else {"wavering": wavering})
    if wavering is None:
        del values["wavering"]
    before = waver.snapshot()
    assert waver.take(values) == 0.0 and waver.snapshot() == before


@pytest.mark.parametrize(("wavering", "raised"), [(1.0, True), (2.0, False)])
def test_a_line_that_has_wavered_for_a_second_raises_no_alarm(wavering: float, raised: bool) -> None:
    """Evidence that grows after it; by loud hops neither, as the evidence left is below 3. The reason says why."""
    kind = {"wavering": wavering}
    detector = ChatterDetector(3, 20_000)
    before = scores(detector, windows(40, MIDDLING | kind))
    assert not any(s.abnormal or "wavers" in s.reasons["text"] for s in before)
    found = scores(detector, windows(30, STRONG | kind, 40))
    loud = [told(t=3.5 + 0.01 * k, tonal=0.9) for k in range(6)]
    found += scores(detector, loud)
    assert any(s.abnormal for s in found) == raised
    assert ("wavers as that of a mode" in found[20].reasons["text"]) != raised
    assert found[-1].abnormal if raised else found[-1].value == found[-1].threshold


def test_an_alarm_that_stands_is_left_alone_until_it_has_ended() -> None:
    """Raised before the line was known to waver, it stays for three seconds, and ends with the evidence; once only."""
    detector = ChatterDetector(3, 20_000)
    hops = windows(60, STRONG | {"wavering": 2.0})
    hops += windows(20, WEAK | {"wavering": 2.0, "coherent": 0.04}, 60)
    hops += windows(60, STRONG | {"wavering": 2.0}, 80)
    found = [s.abnormal for s in scores(detector, hops)]
    ends = found.index(False, 3)
    assert found == [False] * 3 + [True] * (ends - 3) + [False] * (140 - ends)
    assert ends == 67  # of fourteen windows eight of -2.3 and six of 5.1 have a mean below 1.2


def test_no_alarm_stands_while_its_on_delay_runs() -> None:
    """The wavering of a second ends what would be an alarm after two; a steady line's is raised at once."""
    for wavering, raised in ((1.0, True), (2.0, False)):
        hops = [told(t=0.01 * k, **(STRONG | {"wavering": wavering} if k % 5 == 0 else {})) for k in range(400)]
        found = scores(ChatterDetector(3, 20_000, on_delay_s=2.0), hops)
        assert any(s.abnormal for s in found) == raised


def test_what_was_before_is_forgotten() -> None:
    """By air, a gap, another speed and a speed that the lines contradict."""
    hop = STRONG | {"wavering": 2.0}
    gap = Feature("m", ("s",), "chatter_lines", 10**10, {}, complete=False)
    for between in (
        [told(t=9.0, cutting=0.0, **hop)],
        [gap],
        [told(t=9.0, **hop | {"rpm": 12_000.0}), told(t=9.1, **hop)],
        [told(t=9.0 + 0.05 * k, **hop | {"contradicts_rpm": 9300.0}) for k in range(4)],
    ):
        detector = ChatterDetector(3, 20_000)
        scores(detector, windows(60, hop))
        assert len(detector.snapshot()["waver"]) == 60
        scores(detector, between)
        assert len(detector.snapshot()["waver"]) <= 1 and len(detector.snapshot()["less"]) <= 1


Stretch = tuple[float, float, float, float, float, int]
drawn = st.lists(
    st.tuples(
        st.sampled_from([1.0, 1.6, 1.9, 2.5]), st.sampled_from([0.0, 3.0, 9.0]), st.sampled_from([900.0, 906.0, 915.0]),
        st.sampled_from([0.0, 10.0, 24.0, 30.0]), st.sampled_from([0.2, 0.7, 0.9]), st.integers(1, 12),
    ),
    min_size=3, max_size=12,
)  # fmt: skip
"""Stretches of one kind of windows and short hops, and how many windows they last."""


def made(stretches: list[Stretch]) -> list[Feature]:
    """Their hops, twice the windows told."""
    kinds = [one for one in stretches for _ in range(2 * one[5])]
    hops = []
    for k, (wavering, down_db, line_hz, pair_db, tonal, _) in enumerate(kinds):
        slow = CLEAR | {"wavering": wavering, "long_line_hz": line_hz, "long_pair_db": pair_db}
        level = {"level_db": -20.0 - down_db, "tonal": tonal}
        hops += [told(t=0.05 * k + 0.01 * j, **level | ({} if j else slow)) for j in range(5)]
    return hops


class Said(NamedTuple):
    """What of a score counts."""

    detector: str
    t_end_ns: int
    value: float
    threshold: float
    complete: bool
    abnormal: bool
    reasons: Mapping[str, Any]


def outcome(detector: ChatterDetector, hops: Iterable[Message]) -> list[Said]:
    """All scores, those of the teeth too."""
    found = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score)]
    return [Said(s.detector, s.t_end_ns, s.value, s.threshold, s.complete, s.abnormal, s.reasons) for s in found]


@settings(max_examples=60, deadline=None)
@given(drawn, st.sampled_from([0.0, 0.4]))
def test_it_only_takes_alarms_away(stretches: list[Stretch], on_delay_s: float) -> None:
    """Against a detector that looks at no wavering: nothing is louder, thresholds and the teeth's scores are the same.

    Behind an abnormal hop, of no on-delay, which counts the hops before it, the score is the same, too.
    """
    hops = made(stretches)
    found = outcome(ChatterDetector(2, 20_000, on_delay_s=on_delay_s), hops)
    with patch.object(Waver, "take", return_value=0.0):
        without = outcome(ChatterDetector(2, 20_000, on_delay_s=on_delay_s), hops)
    stands = False
    for now, before in zip(found, without, strict=True):
        if now.detector != "chatter":
            assert now == before
            continue
        assert (now.threshold, now.complete) == (before.threshold, before.complete)
        assert now.value <= before.value and now.abnormal <= before.abnormal
        assert now.value == before.value or not stands or on_delay_s
        stands = now.abnormal


@settings(max_examples=40, deadline=None)
@given(drawn, st.integers(1, 400))
def test_a_restored_detector_goes_on_to_the_bit(stretches: list[Stretch], stop: int) -> None:
    """Through JSON and small, wherever it stops."""
    hops = made(stretches)
    one, two = ChatterDetector(3, 20_000), ChatterDetector(3, 20_000)
    outcome(one, hops[:stop])
    kept = orjson.dumps(one.snapshot())
    assert len(kept) < 20_000
    two.restore(orjson.loads(kept))
    assert outcome(one, hops[stop:]) == outcome(two, hops[stop:])
    assert two.snapshot() == one.snapshot()


def test_a_snapshot_of_an_earlier_version_is_taken() -> None:
    """Of whose evidence nothing was taken off; what wavers is looked at anew."""
    hops = windows(60, WEAK | {"wavering": 2.0})
    one, two = ChatterDetector(3, 20_000), ChatterDetector(3, 20_000)
    scores(one, hops[:40])
    now = orjson.loads(orjson.dumps(one.snapshot()))
    two.restore({name: state for name, state in now.items() if name not in {"less", "waver"}})
    assert two.snapshot() == now | {"less": now["evidence"], "waver": []}
    scores(two, hops[40:])
    assert two.snapshot()["less"][-1] == pytest.approx(evidence(WEAK) - 4.0, abs=1e-3)


@settings(max_examples=3, deadline=None)
@given(cuts(4 * RATE))
def test_no_chunking_changes_an_answer(places: list[int]) -> None:
    """Of a rung mode with neighbours over a quiet cut, three seconds after one of air, to the bit."""
    t = np.arange(3 * RATE) / RATE
    cutting = sum(0.02 * np.sin(2 * np.pi * k * TEETH * RPM / 60.0 * t + k) for k in range(1, 8))
    teeth = 1.0 + 0.8 * np.sin(2 * np.pi * TEETH * RPM / 60.0 * t)
    x = column(np.concatenate([1e-3 * noise(1.0, 9), 0.3 * teeth * rung(3.0, 8.0) + cutting]))

    def answers(at: list[int]) -> tuple[list[Said], dict[str, Any]]:
        detector = ChatterDetector(TEETH, 2 * RPM)
        hops = run(ChatterFeatures(MILL, GivenSpeed(RPM), TEETH, RPM), segments(MILL, x, at))
        return outcome(detector, hops), detector.snapshot()

    whole = answers([])
    assert answers(places) == whole
    assert len(whole[1]["waver"]) > 20 and min(np.subtract(whole[1]["less"], whole[1]["evidence"])) < 0.0
