"""Alignment of clocks that are far apart, are set within a stream, or run slower than one sample a millisecond."""

from __future__ import annotations

import numpy as np
import pytest

from operators.align import AlignEstimate, AlignTrack
from operators.envelope import CELL_NS, CellTrack, power
from pipeline.messages import Anchor, Segment
from tests.operators.pieces import stream
from tests.operators.test_align import PAIR, SOUND, START, Scene, by_time, estimate, features, pieces


@pytest.mark.parametrize("period_ms", [100, 120])
@pytest.mark.parametrize("offset_ms", [60, 80, 95])
def test_strokes_match_a_whole_period_off(offset_ms: int, period_ms: int) -> None:
    """The true offset lies beyond the search, one by a period less within it: no such offset is taken over."""
    rng = np.random.default_rng(0)

    def heard(delay_ms: float) -> list[Segment]:
        since = np.mod(1000 * np.arange(4 * 8000) / 8000 - delay_ms, period_ms)
        x = (0.05 + np.exp(-since / 8)) * rng.standard_normal(len(since))
        return pieces(SOUND if delay_ms == 0 else stream(8000, sensor="acc"), x.astype(np.float32)[:, None])

    found = features(AlignEstimate("m", PAIR), by_time(heard(0), heard(offset_ms)))
    assert len(found) == 3 and not any(f.values["accepted"] for f in found)
    within = abs(offset_ms - period_ms) < 50
    assert all(f.values["ambiguous"] == within for f in found)


@pytest.mark.parametrize(("before_s", "drift"), [(300, 0.0), (300, 0.05), (45, 0.0)])
def test_a_clock_that_is_set_is_no_drift(before_s: int, drift: float) -> None:
    """30 ms within a stream: a minute later offset and drift (ms/s) are those of the clock as it is now."""
    rng, tracker = np.random.default_rng(0), AlignTrack()
    for t in range(before_s + 600):
        true = 5 + drift * t + (30 if t >= before_s else 0)
        (told,) = features(tracker, [estimate(t, true + rng.normal(0, 0.3))])
        off = abs(told.values["offset_ms"] - true)
        assert off < 2.0 + told.values["error_ms"]
        if t > before_s + 60:
            assert off < 1.0 and abs(told.values["drift_ppm"] - 1000 * drift) < 60
    assert told.values["drift_ppm"] == pytest.approx(1000 * drift, abs=1)


def test_a_drift_that_is_not_well_known_makes_the_offset_uncertain() -> None:
    """By its standard error, as `np.polyfit` has it, times the age of the last estimate."""
    rng, tracker = np.random.default_rng(3), AlignTrack()
    features(tracker, [estimate(t, rng.normal(5, 1.0)) for t in range(0, 1000, 20)])
    seconds, offsets = np.array(tracker.snapshot()["pairs"][0]["history"]).T
    _, spread = np.polyfit((seconds - START) / 1e9, offsets, 1, cov=True)
    near, far = (features(tracker, [estimate(t, 0, accepted=False)])[0].values for t in (981, 1580))
    assert far["error_ms"] - near["error_ms"] == pytest.approx(599 * np.sqrt(spread[0, 0]), rel=1e-6)


@pytest.mark.parametrize("rate", [1000, 1024])
def test_a_corrected_clock_of_1_khz_loses_no_window(rate: int) -> None:
    """It runs 100 ppm slow and its anchor is moved every second: milliseconds fall between two samples."""
    scene, slow = Scene(6, seed=3), stream(rate, "m/s2", sensor="acc", modality="vibration")
    heard = scene.heard(rate / 1.0001, 6, 0.012, 20)
    acc = []
    for second, n0 in enumerate(range(0, len(heard) - rate, rate)):
        late = Anchor(n0, START + 850_000 + second * (10**9 + 100_000))
        acc += pieces(slow, heard[n0 : n0 + rate], rate, n0=n0, anchor=late)
    found = features(AlignEstimate("m", PAIR), by_time(pieces(SOUND, scene.heard(8000, 6, 0, 20)), acc))
    assert [f.complete for f in found] == [True] * 4
    assert all(abs(f.values["offset_ms"] - 12) < 5 for f in found)


def test_a_cell_between_two_samples_takes_its_neighbours_power() -> None:
    """And adds nothing to the mean: samples at 0.5, 1.5, 3.4, 4.4 ms and so on, none in the third millisecond."""
    slow, track, cell = stream(1000, sensor="acc"), CellTrack(), START // CELL_NS
    x = np.array([2.0, -2.0, 4.0, -4.0, 0.0], np.float32)[:, None]
    track.segment(Segment(slow, Anchor(0, START + 500_000), 0, x[:2]))
    track.segment(Segment(slow, Anchor(2, START + 3_400_000), 2, x[2:]))
    cells = track.moments(cell, cell + 5)
    assert cells is not None
    assert (cells.samples.tolist(), cells.total.tolist()) == ([1, 1, 0, 1, 1], [[2.0, -2.0, 0.0, 4.0, -4.0]])
    assert power(cells) == pytest.approx([4.0, 4.0, 10.0, 16.0, 16.0])
    track.segment(Segment(slow, Anchor(6, START + 7_400_000), 6, x))  # one sample was lost
    assert track.moments(cell, cell + 8) is None
