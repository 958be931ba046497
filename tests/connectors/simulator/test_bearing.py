from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import butter, hilbert, sosfiltfilt

from connectors.simulator.bearing import SKF_6205, BearingFault, Motor, decibels, growing, vibration
from connectors.simulator.rotation import Rotation

RATE = 25_600
LENGTH = 4 * RATE


def motor(seed: int = 1) -> Motor:
    return replace(
        Motor.draw(np.random.default_rng(seed), 1797.0, SKF_6205, seed, "m"), rotation=Rotation(1797.0, 5e-4, seed, "m")
    )


def test_check_values_of_the_6205() -> None:
    assert SKF_6205.bpfo == pytest.approx(3.585, abs=5e-4)
    assert SKF_6205.bpfi == pytest.approx(5.415, abs=5e-4)
    assert SKF_6205.bsf == pytest.approx(2.357, abs=1e-3)
    assert SKF_6205.ftf == pytest.approx(0.398, abs=5e-4)


@pytest.mark.parametrize("fault", ["outer_race", "inner_race", "ball", "gear_tooth"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fault_frequency_stands_in_the_envelope_spectrum_at_0_db(fault: BearingFault, seed: int) -> None:
    m = motor(seed)
    x = vibration(m, {fault: decibels(0.0)}, t0_s=7.0, length=LENGTH, rate_hz=RATE, seed=seed)[:LENGTH, 0]
    band = butter(4, [0.7 * m.f_res_hz, 1.3 * m.f_res_hz], "bandpass", fs=RATE, output="sos")
    envelope = np.abs(hilbert(sosfiltfilt(band, x))) ** 2
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(LENGTH)))
    f = np.fft.rfftfreq(LENGTH, 1 / RATE)
    expected = m.per_revolution(fault) * m.rotation.f_hz
    near = np.abs(f / expected - 1.0) < 0.01
    floor = np.median(spectrum[(f > 5.0) & (f < 600.0)])
    assert 20 * np.log10(spectrum[near].max() / floor) > 10.0


def test_healthy_motors_have_no_such_line() -> None:
    m = motor()
    x = vibration(m, {}, t0_s=0.0, length=LENGTH, rate_hz=RATE, seed=1)[:LENGTH, 0]
    band = butter(4, [0.7 * m.f_res_hz, 1.3 * m.f_res_hz], "bandpass", fs=RATE, output="sos")
    envelope = np.abs(hilbert(sosfiltfilt(band, x))) ** 2
    spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(LENGTH)))
    f = np.fft.rfftfreq(LENGTH, 1 / RATE)
    for fault in ("outer_race", "inner_race"):
        expected = m.per_revolution(fault) * m.rotation.f_hz
        assert spectrum[np.abs(f - expected) < 0.5].max() < 5 * np.median(spectrum[(f > 5.0) & (f < 600.0)])


def test_impulses_have_the_level_told() -> None:
    m = replace(motor(), lines=np.zeros(4), mesh=0.0)
    quiet = vibration(m, {}, t0_s=0.0, length=LENGTH, rate_hz=RATE, seed=1)
    loud = vibration(m, {"outer_race": decibels(6.0)}, t0_s=0.0, length=LENGTH, rate_hz=RATE, seed=1)
    ratio = np.mean((loud - quiet) ** 2) * len(loud) / LENGTH / np.mean(quiet[:LENGTH] ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(6.0, abs=0.2)


def test_shaft_and_mesh_lines() -> None:
    m = replace(motor(), teeth=31, mesh=0.5, rotation=Rotation(1800.0, 0.0, 1, "m"))
    x = vibration(m, {}, t0_s=0.0, length=LENGTH, rate_hz=RATE, seed=1)[:LENGTH, 0]
    amplitude = 2 * np.abs(np.fft.rfft(x)) / LENGTH
    f = np.fft.rfftfreq(LENGTH, 1 / RATE)
    at = {line: amplitude[np.argmin(np.abs(f - line))] for line in (30.0, 60.0, 930.0, 900.0, 960.0)}
    assert at[30.0] == pytest.approx(m.lines[0] * m.axes[0], rel=0.05, abs=0.01)
    assert at[60.0] == pytest.approx(m.lines[1] * m.axes[0], rel=0.05, abs=0.01)
    assert at[930.0] == pytest.approx(0.5 * m.axes[0], rel=0.05, abs=0.01)
    assert at[900.0] == pytest.approx(0.075 * m.axes[0], rel=0.2, abs=0.01)


def test_growth() -> None:
    severity = growing(10.0, from_db=-20.0, to_db=0.0, over_s=20.0)
    np.testing.assert_allclose(severity(np.array([0.0, 9.99, 10.0, 20.0, 30.0, 99.0])), [0, 0, 0.1, 10**-0.5, 1, 1])


def test_seeds() -> None:
    m = motor()
    a, b, c = (vibration(m, {"ball": decibels(3)}, t0_s=0, length=1000, rate_hz=RATE, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.any(a != c)
