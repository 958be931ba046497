import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.jit import compiled
from connectors.simulator.milling import Cut, Depth, Milling
from connectors.simulator.milling_kernel import cut, interpolate
from connectors.simulator.stability import limit
from pipeline.errors import MissingExtra

SLOT, HALF, LOW = Engagement.slot(), Engagement.down(0.5), Engagement.down(0.1)
RUNOUT = (4e-6, -4e-6)


def nonlinear(engagement: Engagement, rpm: float, depth_m: float, seconds: float = 1.2) -> tuple[Milling, np.ndarray]:
    milling = Milling(
        Cut(BENCHMARK, engagement, rpm, Depth.constant(depth_m), runout_m=RUNOUT, force_noise=0.02), seed=3
    )
    blocks, t = [], 0.0
    while t < seconds:
        x, _ = milling.steps()
        blocks.append(x)
        t += len(x) * milling.dt
    return milling, np.concatenate(blocks)


def grows(engagement: Engagement, rpm: float, depth_m: float) -> bool:
    """Whether a tiny disturbance of the linear equation grows."""
    run = Cut(BENCHMARK, engagement, rpm, Depth.constant(depth_m), feed_m=0.0, linear=True, x0_m=1e-9, largest_m=1e300)
    milling = Milling(run, seed=0)
    sizes, t = [], 0.0
    while t < 0.8:
        x, _ = milling.steps()
        sizes.append(np.log(np.sqrt(np.mean(x**2))))
        t += len(x) * milling.dt
    half = len(sizes) // 2
    return float(np.polyfit(np.arange(half), sizes[-half:], 1)[0]) > 0.0


@pytest.mark.parametrize("rpm", [5000, 9200, 10000, 13830, 16000, 20000])
def test_linear_mode_loses_stability_where_floquet_theory_says(rpm: float) -> None:
    depth = limit(BENCHMARK, HALF, rpm).depth_m
    assert not grows(HALF, rpm, depth - 0.1e-3)
    assert grows(HALF, rpm, depth + 0.1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rpm", [5000, 9200, 10000, 13830, 16000, 20000])
@pytest.mark.parametrize("engagement", [SLOT, LOW])
def test_linear_mode_at_other_immersions(engagement: Engagement, rpm: float) -> None:
    depth = limit(BENCHMARK, engagement, rpm).depth_m
    assert not grows(engagement, rpm, depth - 0.1e-3)
    assert grows(engagement, rpm, depth + 0.1e-3)


@pytest.mark.parametrize(("rpm", "depth_mm"), [(9200, 2.0), (13830, 2.0)])
def test_robust_stable_points(rpm: float, depth_mm: float) -> None:
    milling, _ = nonlinear(HALF, rpm, depth_mm * 1e-3)
    ratio = milling.once_per_revolution()[1]
    assert np.median(ratio[-50:]) < 0.05


@pytest.mark.parametrize(("rpm", "depth_mm"), [(10000, 3.0), (16000, 3.0), (5000, 1.0), (20000, 1.0)])
def test_robust_chatter_points(rpm: float, depth_mm: float) -> None:
    milling, _ = nonlinear(HALF, rpm, depth_mm * 1e-3)
    ratio = milling.once_per_revolution()[1]
    assert np.median(ratio[-50:]) > 0.3


@pytest.mark.parametrize(("engagement", "rpm"), [(HALF, 5000.0), (HALF, 20000.0), (SLOT, 10000.0)])
def test_hopf_chatter_sounds_at_the_floquet_frequency(engagement: Engagement, rpm: float) -> None:
    found = limit(BENCHMARK, engagement, rpm)
    assert found.family == "hopf"
    milling, x = nonlinear(engagement, rpm, 1.15 * found.depth_m)
    x = x[len(x) // 2 :]
    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)))) ** 2
    f = np.fft.rfftfreq(len(x), milling.dt)
    spindle = rpm / 60.0
    power[np.abs(f - spindle * np.round(f / spindle)) < 6.0] = 0.0
    line, passing = f[np.argmax(power)], BENCHMARK.teeth * rpm / 60.0
    # The motion has the lines |f_c + k f_TP| of both signs; the strongest is one of them.
    apart = [abs((line - sign * found.frequency_hz + passing / 2) % passing - passing / 2) for sign in (1, -1)]
    assert min(apart) < 0.01 * found.frequency_hz
    assert abs(line - BENCHMARK.f0_hz) < passing


def test_below_the_limit_the_motion_repeats() -> None:
    for rpm in (5000.0, 10000.0, 20000.0):
        milling, _ = nonlinear(HALF, rpm, 0.65 * limit(BENCHMARK, HALF, rpm).depth_m)
        assert np.median(milling.once_per_revolution()[1][-50:]) < 0.1


def test_displacement_and_acceleration_belong_together() -> None:
    milling, x = nonlinear(HALF, 11000.0, 0.5e-3, 0.3)
    again = Milling(milling.run, seed=3)
    a = np.concatenate([again.steps()[1] for _ in range(len(x) // 8192)])
    second = np.diff(x[: len(a)], 2) / milling.dt**2
    np.testing.assert_allclose(second, a[2:], rtol=1e-6, atol=1e-6 * np.abs(a).max())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=6))
def test_reading_in_pieces_changes_no_bit(pieces: list[int]) -> None:
    run = Cut(BENCHMARK, HALF, 16000, Depth((0.0, 0.2), (1e-3, 3e-3)), runout_m=RUNOUT, force_noise=0.05)
    whole = Milling(run, seed=5).read(sum(pieces))
    milling = Milling(run, seed=5)
    np.testing.assert_array_equal(np.concatenate([milling.read(n) for n in pieces]), whole)


def test_seeds() -> None:
    run = Cut(BENCHMARK, HALF, 16000, Depth.constant(1e-3), force_noise=0.05)
    same, other = Milling(run, seed=1).read(5000), Milling(run, seed=2).read(5000)
    np.testing.assert_array_equal(Milling(run, seed=1).read(5000), same)
    assert np.abs(same - other).max() > 0.0


def test_read_is_the_acceleration_at_the_new_rate() -> None:
    run = Cut(BENCHMARK, HALF, 11000, Depth.constant(0.5e-3))
    milling, steps = Milling(run, seed=0, rate_hz=48_000), Milling(run, seed=0)
    x = milling.read(48_000)
    a = np.concatenate([steps.steps()[1] for _ in range(12)])
    band = np.fft.rfftfreq(24_000, 1 / 48_000) < 8000.0
    spectrum = np.abs(np.fft.rfft(x[24_000:] * np.hanning(24_000)))[band] / 24_000
    n = int(0.5 / steps.dt)
    first = round(0.5 / steps.dt)
    fine = np.abs(np.fft.rfft(a[first : first + n] * np.hanning(n)))[: len(spectrum)] / n
    assert np.sum(spectrum**2) == pytest.approx(np.sum(fine**2), rel=1e-3)


def test_the_compiled_loops_are_the_written_ones() -> None:
    rng = np.random.default_rng(0)
    grid = 200
    phi = 2 * np.pi * np.arange(grid) / grid
    results = []
    for function in (cut, compiled(cut)):
        state, surface = np.array([1e-5, 0.0]), np.zeros(grid)
        x, a = np.zeros(500), np.zeros(500)
        noise = np.random.default_rng(1).normal(0, 0.1, 500)
        forces = HALF.gate(phi, 2 * np.pi / grid) * (6e8 * np.cos(phi) + 2e8 * np.sin(phi))
        constants = np.array([25.0, 127.0, 3.3e7, 1.3e-5])
        function(
            state, surface, np.sin(phi), forces, np.array(RUNOUT), 7, np.full(500, 2e-3), noise, 1e-4, 0.0, False,
            constants, x, a,
        )  # fmt: skip
        results.append((x, a, surface))
    for written, machine in zip(*results, strict=True):
        np.testing.assert_allclose(machine, written, rtol=1e-9, atol=1e-15)
    history, table = rng.normal(size=300), rng.normal(size=(9, 16))
    written, machine = np.empty(100), np.empty(100)
    interpolate(history, -20, 3, 1.7, table, written)
    compiled(interpolate)(history, -20, 3, 1.7, table, machine)
    np.testing.assert_allclose(machine, written, rtol=1e-9)


def test_a_missing_tooth_may_leave_its_feed_to_the_next() -> None:
    run = Cut(BENCHMARK, HALF, 16000, Depth.constant(3e-3), runout_m=RUNOUT)
    kept = Milling(run, seed=0).read(40_000)
    passed = Milling(Cut(BENCHMARK, HALF, 16000, Depth.constant(3e-3), runout_m=RUNOUT, missed_feed=True), 0).read(
        40_000
    )
    assert np.abs(kept - passed).max() > 0.0


def test_a_tool_that_breaks_rests() -> None:
    run = Cut(BENCHMARK, HALF, 10000, Depth.constant(3e-3), linear=True, largest_m=1e-4)
    milling = Milling(run, seed=0)
    x = milling.read(48_000)
    assert milling.broken
    assert not np.any(x[-20_000:])


def test_depth_profile() -> None:
    depth = Depth((1.0, 2.0, 4.0), (0.0, 1e-3, 2e-3))
    assert depth.reaches(1.5e-3) == pytest.approx(3.0)
    assert depth.reaches(0.0) == 1.0
    assert depth.reaches(3e-3) is None
    np.testing.assert_allclose(depth.at(np.array([0.0, 1.5, 9.0])), [0.0, 0.5e-3, 2e-3])


def test_wrong_number_of_runouts_is_refused() -> None:
    with pytest.raises(ValueError, match="2 teeth"):
        Milling(Cut(BENCHMARK, HALF, 10000, Depth.constant(1e-3), runout_m=(0.0,)), 0)


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)

    def fresh() -> None:
        return None

    with pytest.raises(MissingExtra, match="simulate"):
        compiled(fresh)
