from dataclasses import replace

import numpy as np
import pytest

from connectors.simulator.microphone_model import (
    DriveLines,
    Microphone,
    Pickup,
    Recorder,
    background,
    machine_sound,
    room,
)
from connectors.simulator.modes import Modes
from connectors.simulator.noise import White
from connectors.simulator.rotation import Harmonics, Rotation
from connectors.simulator.tracks import BLOCK, Given

RATE = 48_000
PICKUP = replace(
    Pickup.draw(np.random.default_rng(0)),
    carrier_hz=None,
    coolant_db=None,
    agc=False,
    snr_db=20.0,
    level_dbfs=-20.0,
    rt60_s=0.4,
    roll_off_hz=8000.0,
)


def microphone(pickup: Pickup = PICKUP, seed: int = 1) -> Microphone:
    rotation = Rotation(12_000, 0.002, seed, "spindle")
    return Microphone(
        machine_sound(White(RATE, seed, "work"), rotation, pickup, seed, "m"), pickup, seed=seed, name="m"
    )


def test_rotation_angle_is_the_integral_of_its_speed() -> None:
    rotation = Rotation(6000, 0.002, 3, "x")
    t = np.linspace(0.0, 50.0, 50_001)
    f = rotation.frequency(t)
    assert np.abs(f / 100.0 - 1.0).max() <= 0.002
    turned = np.concatenate([[0.0], np.cumsum(0.5 * (f[1:] + f[:-1]) * np.diff(t))]) * 2 * np.pi
    np.testing.assert_allclose(rotation.angle(t) - rotation.angle(t[:1]), turned, atol=1e-3)
    np.testing.assert_allclose(
        rotation.block(2, RATE), rotation.angle(np.arange(2 * BLOCK, 3 * BLOCK) / RATE), atol=1e-4
    )


def test_harmonics_are_cosines_of_multiples_of_the_angle() -> None:
    rotation = Rotation(9000, 0.001, 1, "x")
    amplitudes, phases = np.array([1.0, 0.5, 0.25]), np.array([0.1, 0.2, 0.3])
    angle = rotation.angle(np.arange(BLOCK) / RATE)
    expected = sum(a * np.cos((k + 1) * angle + p) for k, (a, p) in enumerate(zip(amplitudes, phases, strict=True)))
    np.testing.assert_allclose(Harmonics(RATE, rotation, amplitudes, phases).read(0, BLOCK), expected, atol=1e-3)


def test_drive_lines_stand_beside_the_carrier() -> None:
    pickup = replace(PICKUP, carrier_hz=8000.0, pole_pairs=2, slip=0.03)
    rotation = Rotation(6000, 0.0, 1, "x")
    x = DriveLines(RATE, rotation, pickup, np.random.default_rng(0)).read(0, 2 * RATE)
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    peaks = f[
        np.flatnonzero((power[1:-1] > power[:-2]) & (power[1:-1] > power[2:]) & (power[1:-1] > 1e-3 * power.max())) + 1
    ]
    electrical = 2 * 100.0 / 0.97
    expected = sorted(8000.0 + s * q * electrical for s in (-1, 1) for q in (2, 4, 6))
    np.testing.assert_allclose(np.sort(peaks), expected, atol=1.0)


def test_room_falls_by_60_db_in_its_reverberation_time() -> None:
    response = room(RATE, PICKUP, 1, "m")
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    db = 10 * np.log10(energy / energy[0])
    t = np.arange(len(db)) / RATE
    use = (db < -8) & (db > -25)
    slope = np.polyfit(t[use], db[use], 1)[0]
    assert -60.0 / slope == pytest.approx(0.4, rel=0.15)


def test_microphone_rolls_off() -> None:
    x = microphone().read(0, 4 * RATE).astype(float)
    power = np.abs(np.fft.rfft(x)) ** 2
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    level = [10 * np.log10(power[(f > lo) & (f < 1.1 * lo)].mean()) for lo in (2000.0, 11_300.0)]
    assert level[0] - level[1] > 10.0  # fourth order, half an octave above the corner: -12 dB


def test_gain_sets_the_level() -> None:
    x = microphone().read(RATE, 5 * RATE) / 32_768.0
    low = microphone(replace(PICKUP, level_dbfs=-26.0)).read(RATE, 5 * RATE) / 32_768.0
    assert 20 * np.log10(np.std(x) / np.std(low)) == pytest.approx(6.0, abs=0.2)


def test_background_lies_as_far_below_the_work_as_told() -> None:
    quiet = background(RATE, Rotation(12_000, 0.002, 1, "s"), PICKUP, 1, "m").read(0, 8 * RATE)
    assert np.std(quiet) == pytest.approx(1.0, rel=0.15)


def test_recorder_clips_and_rounds() -> None:
    x = Recorder(Given(np.array([0.0, 0.4, 1e-5, 2.0, -2.0]), RATE), 1.0).read(0, 5)
    np.testing.assert_array_equal(x, [0, 13107, 0, 32767, -32768])


def test_levelling_brings_far_levels_together() -> None:
    step = np.concatenate([np.full(6 * BLOCK, 0.02), np.full(6 * BLOCK, 0.3)])
    noise = np.random.default_rng(0).normal(size=len(step)) * step
    x = Recorder(Given(noise, RATE), 1.0, agc=True).read(0, len(step)) / 32_768.0
    assert np.std(x[3 * BLOCK : 6 * BLOCK]) == pytest.approx(0.08, rel=0.1)  # 12 dB is all it has
    assert np.std(x[9 * BLOCK :]) == pytest.approx(0.1, rel=0.1)


def test_any_piece_and_any_order_give_the_same_bits() -> None:
    pickup = replace(PICKUP, agc=True, coolant_db=0.0, carrier_hz=5000.0)
    whole = microphone(pickup).read(0, 4 * BLOCK)
    other = microphone(pickup)
    for n0, n1 in ((100_000, 130_000), (0, 1), (3 * BLOCK - 7, 3 * BLOCK + 9), (5, 70_000)):
        np.testing.assert_array_equal(other.read(n0, n1), whole[n0:n1])


def test_seeds_differ() -> None:
    assert np.any(microphone(seed=1).read(0, 1000) != microphone(seed=2).read(0, 1000))


def test_drawn_pickups_stay_in_their_ranges() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        p = Pickup.draw(rng)
        assert (
            6 <= p.lines <= 30 and -9 <= p.tilt_db <= -3 and 0.2 <= p.rt60_s <= 0.6 and 4000 <= p.roll_off_hz <= 16_000
        )
        assert all(700 <= f <= 6000 for f in p.modes.f_hz) and all(0.01 <= z <= 0.03 for z in p.modes.zeta)


def test_a_mode_has_its_gain_and_damping() -> None:
    modes = Modes((1000.0,), (0.02,), (0.7,))
    impulse = np.zeros(96_000)
    impulse[0] = 1.0
    seen = np.abs(np.fft.rfft(modes.apply(impulse, RATE)))
    f = np.fft.rfftfreq(96_000, 1 / RATE)
    assert seen.max() == pytest.approx(0.7, rel=1e-3)
    assert f[np.argmax(seen)] == pytest.approx(1000.0, abs=2.0)
    wide = f[seen > 0.7 / np.sqrt(2)]
    assert wide[-1] - wide[0] == pytest.approx(2 * 0.02 * 1000.0, rel=0.05)
    assert modes.ring_s() == pytest.approx(6.91 / (2 * np.pi * 20.0), rel=1e-3)
