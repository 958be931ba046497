from dataclasses import replace

import numpy as np
import pytest

from connectors.simulator.drill_head import Break, Head, drill_head
from connectors.simulator.drilling import Bit, Damage, Hole, drill, worn

RATE = 96_000
LENGTH = 4 * RATE
HOLE = Hole(touch_s=0.5, full_s=0.7, through_s=3.2, out_s=3.4)
BIT = replace(Bit.draw(np.random.default_rng(4)), jams_per_s=0.0)
FRACTURE = Damage(
    "fracture", 2.0, drop_db=-20.0, peak=12.0, rise_s=5e-4, decay_s=2e-3, rub_db=None, fragments_per_s=0.0
)


def sound(damage: Damage | None, bit: Bit = BIT, seed: int = 1) -> np.ndarray:
    return drill(bit, HOLE, damage, rate_hz=RATE, length=LENGTH, seed=seed) / bit.level


def level_db(x: np.ndarray, t0: float, t1: float) -> float:
    return float(10 * np.log10(np.mean(x[int(t0 * RATE) : int(t1 * RATE)] ** 2) + 1e-30))


def test_phases() -> None:
    x = sound(None)
    assert level_db(x, 0.0, 0.5) < -100.0
    assert level_db(x, 1.0, 3.0) == pytest.approx(10 * np.log10(1 + BIT.lips**2 / 2), abs=0.3)
    assert level_db(x, 3.6, 4.0) < -60.0


def test_lips_modulate_at_twice_the_speed() -> None:
    x = sound(None)[RATE : 3 * RATE]
    envelope = np.abs(np.fft.rfft((x**2 - np.mean(x**2)) * np.hanning(len(x))))
    f = np.fft.rfftfreq(len(x), 1 / RATE)
    near = (f > 5.0) & (f < 500.0)
    assert f[near][np.argmax(envelope[near])] == pytest.approx(2 * BIT.rpm / 60.0, abs=1.0)


def test_fracture_is_a_burst_and_then_less_noise() -> None:
    x, whole = sound(FRACTURE), sound(None)
    np.testing.assert_array_equal(x[: 2 * RATE], whole[: 2 * RATE])
    burst = np.abs(x[2 * RATE : 2 * RATE + RATE // 100]).max()
    assert burst == pytest.approx(12.0, rel=0.35)
    assert level_db(x, 2.2, 3.1) - level_db(whole, 2.2, 3.1) == pytest.approx(-20.0, abs=0.5)


def test_rubbing_brings_friction_back() -> None:
    rub = replace(FRACTURE, rub_db=-14.0, fragments_per_s=3.0)
    assert level_db(sound(rub), 2.2, 3.1) > level_db(sound(FRACTURE), 2.2, 3.1) + 3.0
    assert level_db(sound(rub), 2.2, 3.1) < level_db(sound(None), 2.2, 3.1) - 6.0


def test_chipping_is_a_small_loss_with_a_line_at_the_speed() -> None:
    chip = replace(FRACTURE, fault="chipped", drop_db=-4.0, peak=2.0)
    x = sound(chip)
    drop = level_db(x, 2.2, 3.1) - level_db(sound(None), 2.2, 3.1)
    assert -6.0 < drop < -1.0


def test_wear_raises_the_band_from_2_to_8_khz() -> None:
    old = worn(BIT, 1.0)
    x, y = sound(None), sound(None, replace(old, feed_m=BIT.feed_m))
    f = np.fft.rfftfreq(LENGTH, 1 / RATE)
    band = (f > 2000.0) & (f < 8000.0)
    gain = 10 * np.log10(np.sum(np.abs(np.fft.rfft(y))[band] ** 2) / np.sum(np.abs(np.fft.rfft(x))[band] ** 2))
    assert 0.8 < gain < 3.5


def test_chance_is_the_seeds() -> None:
    np.testing.assert_array_equal(sound(FRACTURE, seed=3), sound(FRACTURE, seed=3))
    assert np.any(sound(None, seed=3) != sound(None, seed=4))


def test_damages_and_holes_are_drawn_within_their_ranges() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        bit = Bit.draw(rng)
        hole = Hole.draw(rng, 5.0, bit)
        assert 0.0 < hole.touch_s < hole.full_s < hole.through_s < hole.out_s < 5.0
        damage = Damage.draw(rng, "fracture", hole)
        assert hole.full_s < damage.t_s < hole.through_s and -30 <= damage.drop_db <= -10 and 5 <= damage.peak <= 20
        assert Damage.draw(rng, "broken", hole).t_s == 0.0


def test_one_silent_bit_of_ninety_cannot_be_heard_in_the_level() -> None:
    head = Head.draw(np.random.default_rng(1), 90)
    silent = replace(FRACTURE, fault="broken", t_s=0.0, drop_db=-200.0, peak=0.0)
    rate, length = 24_000, 24_000 * 2
    hole = Hole(0.1, 0.2, 1.8, 1.9)
    changes = []
    whole = drill_head(head, hole, None, rate_hz=rate, length=length, seed=1)
    assert whole.shape == (length, 4)
    middle = slice(length // 4, 3 * length // 4)
    for spindle in range(0, 90, 15):
        x = drill_head(head, hole, Break(spindle, silent), rate_hz=rate, length=length, seed=1)
        changes.append(10 * np.log10(np.mean(x[middle] ** 2) / np.mean(whole[middle] ** 2)))
    assert np.mean(changes) == pytest.approx(10 * np.log10(89 / 90), abs=0.05)


def test_a_break_reaches_the_nearest_microphone_first() -> None:
    head = Head.draw(np.random.default_rng(1), 120)
    gains, delays = head.paths()
    np.testing.assert_allclose(gains * delays, 1.0 / 343.0)
    hole = Hole(0.1, 0.15, 0.9, 0.95)
    damage = replace(FRACTURE, t_s=0.5, peak=20_000.0)
    x = drill_head(head, hole, Break(0, damage), rate_hz=RATE, length=RATE, seed=2)
    first = [int(np.argmax(np.abs(x[:, k]) > 0.3 * np.abs(x[:, k]).max())) for k in range(4)]
    assert int(np.argmin(first)) == int(np.argmin(delays[0]))
    expected = (delays[0] - delays[0].min()) * RATE
    np.testing.assert_allclose(np.array(first) - min(first), expected, atol=60)
