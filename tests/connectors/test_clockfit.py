"""Clock fitting against clocks whose truth is a formula."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.clockfit import LONGEST_CHUNK, ClockFit
from pipeline.messages import NS, Anchor, Rate

T0 = 1_790_000_000 * NS


def truth(n: int, rate: int, ppm: float) -> int:
    return T0 + round(n * NS / (rate * (1 + ppm * 1e-6)))


def chunks(
    fit: ClockFit, ppm: float, chunk: int, seconds: float, jitter: Callable[[], float]
) -> Iterator[tuple[int, Anchor]]:
    """Feed one observation per chunk; yield (n, anchor) once there are three."""
    rate = fit.rate.num
    for n in range(0, round(seconds * rate), chunk):
        assert not fit.observe(n, truth(n, rate, ppm) + round(jitter()))
        if n >= 3 * chunk:
            yield n, fit.anchor(n)


@pytest.mark.parametrize("ppm", [100.0, -100.0])
def test_a_day_at_100_ppm_keeps_time_and_never_goes_back(ppm: float) -> None:
    draw = random.Random(1)
    fit = ClockFit(Rate(8000))
    held: Anchor | None = None
    for n, anchor in chunks(fit, ppm, 4000, 86_400, lambda: draw.uniform(-5e6, 5e6)):
        bound = 3_000_000 if n > 180 * 8000 else 8_000_000
        assert abs(anchor.at(n, fit.rate) - truth(n, 8000, ppm)) < bound
        if held is not None:
            assert anchor.at(n, fit.rate) > held.at(n - 1, fit.rate)
        held = anchor
    assert fit.outliers == 0
    assert fit.ppm == pytest.approx(ppm, abs=15)
    assert 1_000_000 < fit.uncertainty_ns < 5_000_000


@settings(max_examples=25, deadline=None)
@given(
    ppm=st.floats(-200, 200),
    rate=st.sampled_from([50, 2000, 44_100, 96_000]),
    longest=st.integers(1, LONGEST_CHUNK),
    seed=st.integers(0, 2**32),
)
def test_time_never_decreases_and_anchors_hold_the_index(ppm: float, rate: int, longest: int, seed: int) -> None:
    draw = random.Random(seed)
    fit = ClockFit(Rate(rate))
    n, held = 0, None
    for _ in range(300):
        assert not fit.observe(n, truth(n, rate, ppm) + round(draw.gauss(0, 2e6)))
        anchor = fit.anchor(n)
        if held is not None:
            assert anchor.at(n, fit.rate) > held.at(n - 1, fit.rate)
            assert anchor == held or anchor.n == n
        held = anchor
        n += draw.randint(1, longest)


def test_a_clock_that_is_exact_keeps_its_first_anchor() -> None:
    fit = ClockFit(Rate(48_000))
    anchors = {anchor for _, anchor in chunks(fit, 0.0, 4800, 60, lambda: 0.0)}
    assert len(anchors) == 1


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_the_longest_chunk_still_follows_200_ppm(ppm: float) -> None:
    fit = ClockFit(Rate(48_000))
    for n, anchor in chunks(fit, ppm, LONGEST_CHUNK, 3600, lambda: 0.0):
        assert abs(anchor.at(n, fit.rate) - truth(n, 48_000, ppm)) < 4_500_000
    assert fit.ppm == pytest.approx(ppm, abs=0.1)


@pytest.mark.parametrize("step_s", [0.15, -0.15, 3600.0, -3600.0])
def test_a_lasting_step_is_told_within_about_a_second(step_s: float) -> None:
    fit = ClockFit(Rate(48_000))
    list(chunks(fit, 20.0, 4800, 30, lambda: 0.0))
    told = [
        n for n in range(30 * 48_000, 40 * 48_000, 4800) if fit.observe(n, truth(n, 48_000, 20.0) + round(step_s * NS))
    ]
    assert told[0] == 31 * 48_000


def test_a_step_is_told_by_the_third_time_where_they_come_rarely() -> None:
    """Two late answers of a driver, two seconds apart, are no clock that was set."""
    fit = ClockFit(Rate(1000))
    for n in range(0, 40_000, 2000):
        assert not fit.observe(n, truth(n, 1000, 0.0))
    assert [fit.observe(n, truth(n, 1000, 0.0) + NS) for n in range(40_000, 46_000, 2000)] == [False, False, True]


def test_a_clock_that_is_put_right_moves_anchors_by_a_millisecond_a_chunk() -> None:
    """50 ms, less than a step: in steps that no window notices, and in the end all of it."""
    fit = ClockFit(Rate(1000))
    list(chunks(fit, 0.0, 100, 60, lambda: 0.0))
    held, moves = fit.anchor(60_000), []
    for n in range(60_000, 180_000, 100):
        assert not fit.observe(n, truth(n, 1000, 0.0) + 50_000_000)
        anchor = fit.anchor(n)
        moves.append(anchor.at(n, fit.rate) - held.at(n, fit.rate))
        held = anchor
    assert max(moves) == 1_000_000
    assert held.at(180_000, fit.rate) == truth(180_000, 1000, 0.0) + 50_000_000


@pytest.mark.parametrize("ppm", [20.0, -20.0])
def test_an_anchor_stays_within_ten_microseconds_of_the_line(ppm: float) -> None:
    fit = ClockFit(Rate(48_000))
    for n, anchor in chunks(fit, ppm, 4800, 120, lambda: 0.0):
        assert n < 30 * 48_000 or abs(anchor.at(n, fit.rate) - fit.time_ns(n)) <= 10_000


def test_no_crystal_is_believed_to_be_500_ppm_off() -> None:
    fit = ClockFit(Rate(1000))
    list(chunks(fit, 600.0, 100, 120, lambda: 0.0))
    assert fit.ppm == pytest.approx(500.0)


def test_the_uncertainty_is_the_standard_deviation_of_the_scatter() -> None:
    """Gaussian, one time a second; the median of many, as each is of a hundred and twenty."""
    draw, found = random.Random(1), []
    for _ in range(30):
        fit = ClockFit(Rate(1000))
        list(chunks(fit, 0.0, 1000, 125, lambda: draw.gauss(0.0, 2e6)))
        found.append(fit.uncertainty_ns)
    assert sorted(found)[15] == pytest.approx(2e6, rel=0.1)


def test_single_late_times_are_outliers_and_move_nothing() -> None:
    fit = ClockFit(Rate(48_000))
    for n in range(0, 120 * 48_000, 4800):
        late = 400_000_000 if n % (7 * 4800) == 0 and n else 0
        assert not fit.observe(n, truth(n, 48_000, 0.0) + late)
        assert abs(fit.time_ns(n) - truth(n, 48_000, 0.0)) <= 1
    assert fit.outliers == 171


def test_times_that_stray_to_both_sides_are_no_step() -> None:
    fit = ClockFit(Rate(1000))
    fit.observe(0, T0)
    for k in range(1, 100):
        assert not fit.observe(500 * k, T0 + k * NS // 2 + (NS if k % 2 else -NS))
    assert not fit.observe(50_000, T0 + 50 * NS)
    assert fit.outliers == 99


def test_a_gap_of_an_hour_leaves_old_observations_behind() -> None:
    fit = ClockFit(Rate(1000))
    for n in range(0, 60_000, 100):
        fit.observe(n, truth(n, 1000, 0.0))
    start = 3_660_000
    for n in range(start, start + 10_000, 100):
        fit.observe(n, truth(n, 1000, 0.0) + 50_000_000)
    assert fit.time_ns(start + 10_000) == truth(start + 10_000, 1000, 0.0) + 50_000_000


def test_no_time_without_an_observation() -> None:
    with pytest.raises(ValueError, match="no observation"):
        ClockFit(Rate(48_000)).time_ns(0)
