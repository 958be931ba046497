"""Similarity measures beside what independent noise gives; figures of noise are those known for these lengths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from models.drill.claims import published_coherence
from models.drill.similarity.coherence import chance_of_published, coherence, point95
from models.drill.similarity.correlation import against_noise, full_correlation
from models.drill.similarity.distances import diversity, log_spectral_distance, mmd, nearest_ratio, two_sample
from models.drill.similarity.report import similarity


def test_correlation_finds_a_shifted_copy() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(2000)
    peak, lag = full_correlation(a, np.roll(a, -5))
    assert lag == 5 and peak > 0.98


def test_correlation_of_independent_noise() -> None:
    rng = np.random.default_rng(1)
    found = against_noise(rng.standard_normal(4000), rng.standard_normal(1999), 100)
    assert found.noise == pytest.approx(0.06, abs=0.02)
    assert found.p > 0.01
    a = rng.standard_normal(4000)
    assert against_noise(a, a[1000:2999] + 0.3 * rng.standard_normal(1999), 100).p < 0.02


def test_coherence_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal(2000)
    b = np.convolve(a, [0.5, 1.0, 0.3], "same") + 0.5 * rng.standard_normal(2000)
    found = coherence(a, b, permutations=1)
    f, expected = signal.coherence(a, b, 96_000, "hann", 256, 128, detrend="constant")
    np.testing.assert_allclose(found.f_hz, f)
    np.testing.assert_allclose(found.coherence, expected, rtol=1e-9)
    _, cross = signal.csd(b, a, 96_000, "hann", 256, 128)
    np.testing.assert_allclose(found.phase_deg[1:-1], np.degrees(np.angle(cross))[1:-1], atol=1e-6)
    assert found.segments == 14


def test_permutation_p_is_uniform_on_independent_noise() -> None:
    """The acceptance criterion: Kolmogorov-Smirnov p above 0.01."""
    rng = np.random.default_rng(3)
    p = [
        coherence(rng.standard_normal(1999), rng.standard_normal(1999), permutations=49, seed=i).p_maximum
        for i in range(150)
    ]
    spread = np.array(p) - rng.random(150) / 50.0  # the p-values are multiples of 1/50
    assert stats.kstest(spread, "uniform").pvalue > 0.01


def test_permutation_finds_what_is_shared() -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal(1999)
    tone = 0.5 * np.sin(2 * np.pi * 4312.5 * np.arange(1999) / 96_000)
    noisy = 0.7 * a + 0.7 * rng.standard_normal(1999)
    assert coherence(a, noisy).p_maximum == pytest.approx(1 / 200)
    assert coherence(a, a + tone).significant


def test_floor_and_95_percent_point() -> None:
    assert point95(8) == pytest.approx(0.348, abs=5e-4)
    with pytest.raises(ValueError, match="four"):
        coherence(np.ones(500), np.ones(500))


def test_what_noise_gives_by_the_published_method() -> None:
    """Mean 0.135, 95 % point 0.37; maximum above 0.559 in 69 %, above 0.494 in 94 %; 5.5 % reach all three."""
    chance = chance_of_published(published_coherence(), 1500)
    assert chance.mean == pytest.approx(0.135, abs=0.01)
    assert chance.point95 == pytest.approx(0.37, abs=0.015)
    assert chance.above_highest == pytest.approx(0.69, abs=0.06)
    assert chance.above_second == pytest.approx(0.94, abs=0.04)
    assert chance.top_three == pytest.approx((0.35, 0.40, 0.48), abs=0.025)
    assert chance.reach_all == pytest.approx(0.055, abs=0.025)


def test_log_spectral_distance_of_a_gain_is_the_gain() -> None:
    a = np.random.default_rng(5).standard_normal(2000)
    assert log_spectral_distance(a, 2.0 * a) == pytest.approx(20 * np.log10(2.0), abs=1e-6)
    assert log_spectral_distance(a, a) == 0.0


def test_mmd_and_two_sample_test_on_equal_and_shifted_sets() -> None:
    rng = np.random.default_rng(6)
    same = [mmd(rng.standard_normal((20, 3)), rng.standard_normal((25, 3)), 99, i).p for i in range(60)]
    assert stats.kstest(np.array(same) - rng.random(60) / 100.0, "uniform").pvalue > 0.01
    a, b = rng.standard_normal((40, 3)), rng.standard_normal((60, 3))
    assert mmd(a, b + 2.0).p == pytest.approx(1 / 500)
    assert abs(two_sample(a, b).accuracy - 0.5) < 0.2
    assert two_sample(a, b + 3.0).accuracy > 0.9 and two_sample(a, b + 3.0).p < 1e-6


def test_copies_and_want_of_variety_show() -> None:
    rng = np.random.default_rng(7)
    training = rng.standard_normal((40, 5))
    assert nearest_ratio(training[:10] + 1e-3, training) < 0.01
    assert 0.7 < nearest_ratio(rng.standard_normal((40, 5)), training) < 1.3
    assert diversity(training, training) == pytest.approx(1.0)
    assert diversity(0.1 * training, training) == pytest.approx(0.1)


def test_report_says_that_noise_of_the_same_kind_is_alike_and_a_tone_is_not() -> None:
    rng = np.random.default_rng(8)
    held_out, training = ([rng.standard_normal(n) for n in (2000, 4000) * 6] for _ in range(2))
    same = similarity(held_out, training, rng.standard_normal((12, 1999)))
    assert same.synthetic.correlation_significant < 0.35 and same.synthetic.coherence_significant < 0.35
    assert same.mmd_p > 0.01 and 0.7 < same.diversity < 1.4 and same.c2st_p > 0.01
    tone = np.sin(2 * np.pi * 5000.0 * np.arange(1999) / 96_000) + 0.01 * rng.standard_normal((12, 1999))
    other = similarity(held_out, training, tone)
    assert other.mmd_p < 0.01 and other.c2st > 0.9
    assert other.synthetic.log_spectral_db > 2 * same.synthetic.log_spectral_db
