"""Lost teeth and flip chatter: levels that are known by construction, and simulated cuts whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.milling import Cut, Depth, Milling
from operators.chatter import CHATTER, ChatterFeatures
from operators.chatter_detector import ChatterDetector
from operators.spindle import GivenSpeed
from operators.teeth import FLIP, RISE_DB, TOOTH_LOSS, RisingLines, Teeth
from pipeline.messages import NS, Feature, Score
from tests.operators.pieces import ANCHOR, column, run, segments, stream

RATE = 48_000


def window(k: int, turn: float = -20.0, half: float = -20.0, tooth: float = -30.0) -> Feature:
    """A long window, 50 ms after the last."""
    values = {"turn_db": turn, "half_tooth_db": half, "tooth_db": tooth}
    return Feature("m", ("s",), CHATTER, round(0.05 * k * NS), values)


def heard(teeth: Teeth, windows: list[Feature]) -> list[Score]:
    """What is said to windows of stable cutting."""
    return [score for each in windows for score in teeth.take(each, 0, cutting=True)]


def test_a_step_of_the_runout_lines_is_a_lost_tooth() -> None:
    """From half a second after it on, by as many dB as they rose, with the reason."""
    windows = [window(k, turn=-20.0 if k < 100 else -10.0) for k in range(150)]
    found = [s for s in heard(Teeth(3, "x", every=1000), windows) if s.abnormal]
    assert [s.detector for s in found] == [TOOTH_LOSS]
    assert found[0].t_end_ns == round(0.05 * 109 * NS)
    assert found[0].value == pytest.approx(10.0)
    assert "lost or chipped tooth, or another tool" in found[0].reasons["text"]


@pytest.mark.parametrize(("teeth", "detector"), [(4, FLIP), (2, TOOTH_LOSS), (3, None)])
def test_half_tooth_lines_alone_are_flip_chatter(teeth: int, detector: str | None) -> None:
    """Of four teeth; with two it may be a lost one; with three the energy ratio sees it, and nothing is said here."""
    windows = [window(k, half=-20.0 if k < 100 else -12.0) for k in range(150)]
    found = [s for s in heard(Teeth(teeth, "x", every=1000), windows) if s.abnormal]
    assert [s.detector for s in found] == ([] if detector is None else [detector])
    assert all("flip chatter" in s.reasons["text"] for s in found)


def test_a_lost_tooth_of_four_is_not_called_flip_chatter() -> None:
    """It raises all multiples of the rotation."""
    windows = [window(k, *((-20.0, -20.0) if k < 100 else (-8.0, -8.0))) for k in range(150)]
    assert {s.detector for s in heard(Teeth(4, "x", every=1000), windows) if s.abnormal} == {TOOTH_LOSS}


def test_another_depth_is_another_cut() -> None:
    """Where the tooth passing itself changed by more than 4 dB nothing is compared across."""
    windows = [window(k, *((-20.0, -20.0, -30.0) if k < 100 else (-8.0, -8.0, -18.0))) for k in range(150)]
    assert not any(s.abnormal for s in heard(Teeth(4, "x", every=1000), windows))


def test_a_tooth_lost_in_the_air_is_told_by_what_was_taught() -> None:
    """Between two passes there is nothing to compare with but the first three seconds."""
    teeth = Teeth(3, "x", every=1000)
    assert not any(s.abnormal for s in heard(teeth, [window(k) for k in range(100)]))
    teeth.leave()
    after = heard(teeth, [window(100 + k, turn=-9.0) for k in range(40)])
    assert [s.value for s in after if s.abnormal] == [pytest.approx(11.0)]


def test_untaught_is_said() -> None:
    """Until three seconds of cutting were heard at this speed."""
    said = heard(Teeth(3, "x", every=1), [window(k) for k in range(100)])
    assert "not commissioned" in said[20].reasons["text"] and not said[20].reasons["taught"]
    assert said[-1].reasons["text"] == "teeth as usual"


def test_another_tool_is_learned_anew() -> None:
    """After a minute of cutting the new level is taken for usual, and a rise over it is a new one."""
    teeth = Teeth(3, "x", every=100_000)
    heard(teeth, [window(k) for k in range(100)])
    stays = heard(teeth, [window(100 + k, turn=-10.0) for k in range(1400)])
    assert [s.abnormal for s in stays] == [True, False]
    again = heard(teeth, [window(1500 + k, turn=-2.0) for k in range(40)])
    assert [s.value for s in again if s.abnormal] == [pytest.approx(8.0)]


def test_one_tooth_has_none_to_lose() -> None:
    """No score at all."""
    assert heard(Teeth(1, "x", every=1), [window(k) for k in range(50)]) == []


@given(st.lists(st.floats(-40, 0), min_size=1, max_size=200), st.integers(0, 199))
@settings(max_examples=30, deadline=None)
def test_a_snapshot_goes_on_where_it_was(levels: list[float], at: int) -> None:
    """Through JSON, between any two windows."""
    whole, first = RisingLines(), RisingLines()
    expected = [whole.take(level, -30.0 + level / 10.0, 7) for level in levels]
    found = [first.take(level, -30.0 + level / 10.0, 7) for level in levels[:at]]
    second = RisingLines()
    second.restore(orjson.loads(orjson.dumps(first.snapshot())))
    found += [second.take(level, -30.0 + level / 10.0, 7) for level in levels[at:]]
    assert found == expected


def test_noise_does_not_rise() -> None:
    """A level that wanders by 2 dB (standard deviation) stays below the threshold for ten minutes."""
    rng = np.random.default_rng(5)
    lines = RisingLines()
    highest = max(lines.take(-20.0 + 2.0 * x, -30.0, 0).db for x in rng.standard_normal(12_000))
    assert highest < RISE_DB


@pytest.mark.parametrize("teeth", [2, 3, 4])
def test_a_tooth_of_the_simulated_mill_is_lost(teeth: int) -> None:
    """By the tool's acceleration at 20 dB: nothing before, `tooth_loss` within a second after."""
    tool = replace(BENCHMARK, teeth=teeth, f0_hz=1130.0)
    depth = Depth((0.5, 0.7), (0.0, 0.15e-3))
    runout = tuple((1e-6 * np.array([2.0, -1.0, 1.0, 0.0])[:teeth]).tolist())
    made = Cut(tool, Engagement.down(0.5), 7000.0, depth, runout_m=runout, force_noise=0.03, lost=(1, 5.0))
    x = Milling(made, seed=11, rate_hz=RATE).read(8 * RATE)
    x = x + 0.1 * np.std(x) * np.random.default_rng(1).standard_normal(len(x))
    mill = stream(RATE)
    detector = ChatterDetector(teeth, 20_000, every=50)
    hops = run(ChatterFeatures(mill, GivenSpeed(7000.0), teeth, 7000.0), segments(mill, column(x)))
    scores = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score)]
    first = next(s for s in scores if s.detector == TOOTH_LOSS and s.abnormal)
    assert 5.0 < (first.t_end_ns - ANCHOR.t_ns) / NS < 6.2
    assert not any(s.abnormal for s in scores if s.detector == "chatter" and s.t_end_ns < ANCHOR.t_ns + 5 * NS)
