"""When a cut's own lines contradict the told speed: combs through zero do, lines of chatter do not."""

from __future__ import annotations

import numpy as np
import pytest

from operators.contradiction import SURPRISE, contradiction, foreign_comb, wrong_ratio

TOLERANCE = 2.0


def test_a_chattering_cut_does_not_contradict() -> None:
    """898.8 Hz would be the 28th multiple of 32.1 Hz, where a blind comb locked; its neighbours are not."""
    family = [(733.2, 0.5), (898.8, 1.0), (1064.2, 0.5), (165.6, 0.1), (331.2, 0.1)]
    assert contradiction(family, 1656, 6, 1.0) == 0
    true = [(165.6 * k, 1 / k) for k in range(1, 6)]
    assert contradiction(true, 1656, 6, 1.0) == 0
    assert contradiction(true, 1656 * 1.03, 6, 1.0) == pytest.approx(1656)
    assert contradiction([], 1656, 6, 1.0) == 0


def comb(spacing: float, orders: range, tilt: float = 1.0) -> list[tuple[float, float]]:
    return [(spacing * k, k**-tilt) for k in orders]


@pytest.mark.parametrize("factor", [0.42, 0.6, 0.7, 0.8, 0.88, 1.12, 1.25, 1.4, 1.6, 1.8, 2.6])
def test_a_stable_cut_contradicts_a_speed_far_from_its_own(factor: float) -> None:
    """Told the tooth passing of another speed; what is said is the true one, whether or not the tool runs out."""
    true = 450.0
    found = foreign_comb(comb(true, range(1, 8)), factor * true, true, TOLERANCE)
    assert found is not None
    assert found.spacing_hz == pytest.approx(true, rel=1e-6)
    assert found.surprise >= SURPRISE
    runout = [(true / 3 * k, 0.02) for k in (1, 2, 4, 5, 7)]
    found = foreign_comb([*comb(true, range(1, 8)), *runout], factor * true, true, TOLERANCE)
    assert found is not None
    assert min(abs(found.spacing_hz - hz) for hz in (true, true / 3)) < 1e-3


@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_multiples_of_the_true_speed_are_not_told_from_chatter(multiple: int) -> None:
    """At twice the true speed a stable cut has the lines of period-two chatter."""
    assert foreign_comb(comb(450.0, range(1, 8)), multiple * 450.0, 450.0, TOLERANCE) is None


def test_too_few_lines_prove_nothing() -> None:
    assert foreign_comb([], 500.0, 450.0, TOLERANCE) is None
    assert foreign_comb(comb(450.0, range(1, 3)), 500.0, 450.0, TOLERANCE) is None
    assert foreign_comb(comb(450.0, range(1, 4)), 500.0, 450.0, 3 * TOLERANCE) is None


def test_chatter_rarely_contradicts() -> None:
    """Of two thousand families f_c + j f_TP with forced vibration and stray lines, fewer than one in a hundred."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(2000):
        passing, line = rng.uniform(150.0, 1000.0), rng.uniform(200.0, 5000.0)
        family = [(abs(line + j * passing), 10.0 ** -rng.uniform(0.0, 3.0)) for j in range(-3, 4)]
        forced = [(k * passing, 10.0 ** -rng.uniform(1.0, 3.0)) for k in range(1, 4)]
        stray = [(rng.uniform(100.0, 6000.0), 10.0 ** -rng.uniform(2.0, 4.0)) for _ in range(4)]
        lines = sorted([*family, *forced, *stray], key=lambda one: -one[1])[:12]
        wrong += foreign_comb(lines, passing, lines[0][0], TOLERANCE) is not None
    assert wrong < 20


def test_rational_chatter_does_not_contradict() -> None:
    """Families at a half, a third or a quarter of the tooth passing are multiples of something, too."""
    for q in (2, 3, 4):
        for p in range(1, 4 * q):
            family = [(abs(300.0 * p / q + 300.0 * j), 1.0 / (1 + abs(j))) for j in range(-2, 6)]
            lines = [(f, power) for f, power in family if f > 50.0]
            assert foreign_comb(lines, 300.0, 300.0 * p / q, TOLERANCE) is None, (p, q)


def test_multiples_of_a_limit_cycle_that_hardly_bear_energy_contradict_nothing() -> None:
    """Chatter that is not quite a sine has multiples of its own line, a few per cent of it; a cut's are strong."""
    for weak, contradicts in ((0.002, False), (0.2, True)):
        near = [(460.0, 1.0), (920.0, weak), (1380.0, weak)]
        assert contradiction(near, 9000.0, 3, TOLERANCE) == pytest.approx(9200.0 if contradicts else 0.0)
        far = [(700.0, 1.0), *((700.0 * k, weak) for k in range(2, 8))]
        assert (foreign_comb(far, 450.0, 700.0, TOLERANCE) is not None) == contradicts


def test_three_multiples_are_the_least() -> None:
    """Two lines are multiples of something too easily."""
    for count in (2, 3, 4):
        found = contradiction(comb(460.0, range(2, 2 + count)), 9000.0, 3, TOLERANCE)
        assert found == pytest.approx(9200.0 if count > 2 else 0.0)


def test_a_comb_beside_lines_that_the_told_speed_explains_does_not_contradict() -> None:
    """Of two such lines nothing follows, of three it does; nor where the comb has less than 70 % of the energy."""
    other = comb(450.0, range(1, 8))
    for own, contradicts in (([500.0, 1000.0], True), ([500.0, 1000.0, 2000.0], False)):
        found = foreign_comb([*other, *((f, 0.01) for f in own)], 500.0, 333.0, TOLERANCE)
        assert (found is not None) == contradicts
    energy = sum(power for _, power in other)
    for share, contradicts in ((0.75, True), (0.65, False)):
        stray = energy * (1.0 / share - 1.0) / 2.0
        lines = sorted([*other, (777.0, stray), (1111.0, stray)], key=lambda one: -one[1])
        found = foreign_comb(lines, 500.0, 333.0, TOLERANCE)
        assert (found is not None) == contradicts


def test_lines_a_tooth_passing_apart_from_chatter_are_its_own() -> None:
    """Lines at 400 ± 300 j Hz: six of eight are multiples of 200 Hz, too, and prove no other speed."""
    lines = [(400.0, 1.0), *((f, 0.3) for f in (200.0, 800.0, 1000.0, 1400.0, 1600.0)), (700.0, 0.1), (1300.0, 0.1)]
    assert foreign_comb(lines, 300.0, 400.0, TOLERANCE) is None
    assert foreign_comb(lines, 300.0, 333.0, TOLERANCE) is not None  # had the chatter been elsewhere


def turning(hz: float, teeth: int, count: int = 8) -> list[tuple[float, float]]:
    """The lines of a stable cut with a tool that runs out: every multiple of the rotation, those of its teeth most."""
    return [(hz * k, (1.0 if k % teeth == 0 else 0.2) / k) for k in range(1, count + 1)]


@pytest.mark.parametrize("teeth", [2, 3, 4])
@pytest.mark.parametrize("times", [1.5, 3.0])
def test_a_speed_told_too_high_by_thirds(times: float, teeth: int) -> None:
    """A line at every (second) third of the told rotation; of three teeth under thrice the speed, chatter has them."""
    found = wrong_ratio(turning(120.0, teeth), 120.0 * times, teeth, TOLERANCE)
    assert found == (0.0 if (times, teeth) == (3.0, 3) else times)
    assert wrong_ratio(turning(120.0, teeth), 120.0, teeth, TOLERANCE) == 0.0


def test_twice_the_speed_looks_like_flip_chatter() -> None:
    """Flip chatter of three teeth is (k + ½) f_TP, lines at halves of the rotation."""
    assert wrong_ratio(turning(120.0, 3), 240.0, 3, TOLERANCE) == 0.0
    passing = 3 * 120.0
    flip = [((k + 0.5) * passing, 1.0 / (k + 1)) for k in range(5)] + [(k * passing, 0.1) for k in range(1, 5)]
    assert wrong_ratio(flip, 120.0, 3, TOLERANCE) == 0.0


def test_two_thirds_of_the_speed() -> None:
    """Lines at three halves of the told rotation; not where the told tooth passing has lines of its own."""
    true = [(180.0 * k, (1.0 if k % 5 == 0 else 0.1) / k) for k in (1, 3, 5, 7, 10, 15)]
    assert wrong_ratio(true, 120.0, 5, TOLERANCE) == pytest.approx(2.0 / 3.0)
    assert wrong_ratio([*true, (600.0, 0.1)], 120.0, 5, TOLERANCE) == 0.0


@pytest.mark.parametrize(("teeth", "order"), [(1, 16), (1, 17), (2, 32), (2, 34), (4, 28)])
def test_chatter_at_a_third_is_no_speed_told_three_times_too_high(teeth: int, order: int) -> None:
    """f_c = `order` f_r/3 and its neighbours, all multiples of a third of the tooth passing; one is mirrored."""
    passing = teeth * 120.0
    family = [(order * 40.0 + j * passing, 10.0 ** -abs(j)) for j in range(-2, 3)]
    forced = [(k * passing, 0.1 / k) for k in range(1, 4)]
    assert wrong_ratio([*family, *forced, (5 * passing / 3.0, 0.004)], 120.0, teeth, TOLERANCE) == 0.0


def test_chatter_at_a_third_is_rarely_taken_for_a_wrong_ratio() -> None:
    """Of two thousand Hopf families wherever they lie, fewer than one in a hundred."""
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(2000):
        teeth, rotation = int(rng.integers(2, 6)), rng.uniform(60.0, 400.0)
        passing, line = teeth * rotation, rng.uniform(200.0, 5000.0)
        family = [(abs(line + j * passing), 10.0 ** -rng.uniform(0.0, 3.0)) for j in range(-3, 4)]
        forced = [(k * passing, 10.0 ** -rng.uniform(0.0, 2.0)) for k in range(1, 4)]
        runout = [(k * rotation, 10.0 ** -rng.uniform(1.5, 3.0)) for k in (1, 2)]
        lines = sorted([*family, *forced, *runout], key=lambda one: -one[1])
        wrong += bool(wrong_ratio(lines, rotation, teeth, 1.25))
    assert wrong < 20


def test_few_lines_are_no_ratio() -> None:
    assert wrong_ratio([], 120.0, 2, TOLERANCE) == 0.0
    assert wrong_ratio([(80.0, 1.0), (160.0, 0.5), (320.0, 0.2)], 120.0, 2, TOLERANCE) == 0.0
