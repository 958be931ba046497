"""Filters and Mel spectra: 32 × 1 and 32 × 2, the listed centres, 6/21/5, edges."""

from __future__ import annotations

import numpy as np
import pytest

from models.drill.filters import band_limited
from models.drill.spectrogram import INFORMATIVE, band_levels, fine_mel, paper_mel
from operators.mel import DRILL, centres

LISTED = """96 205 329 471 631 814 1022 1258 1526 1832 2179 2574 3023 3534 4115 4775 5526 6380 7352 8456 9712 11141
12765 14613 16713 19102 21819 24908 28421 32416 36959 42125"""


@pytest.mark.parametrize(("samples", "frames"), [(1999, 1), (2000, 1), (4000, 2)])
def test_frames(samples: int, frames: int) -> None:
    assert paper_mel(np.random.default_rng(0).standard_normal(samples)).shape == (32, frames)


def test_centres_and_division() -> None:
    np.testing.assert_array_equal(np.rint(centres(DRILL)), [int(c) for c in LISTED.split()])
    assert (INFORMATIVE.start, INFORMATIVE.stop) == (6, 27)
    assert band_levels(np.random.default_rng(0).standard_normal((3, 1999))).shape == (3, 21)


def test_filters_pass_the_band_in_phase_and_stop_the_rest() -> None:
    t = np.arange(4000) / 96_000
    for f, least, most in ((5000.0, 0.999, 1.001), (1500.0, 0.99, 1.001), (500.0, 0.0, 1e-3), (30_000.0, 0.0, 1e-3)):
        x = np.sin(2 * np.pi * f * t)
        y = band_limited(x)[1000:3000]
        gain = float(y @ x[1000:3000] / (x[1000:3000] @ x[1000:3000]))
        assert least <= abs(gain) <= most, f
        if least > 0:
            np.testing.assert_allclose(y, x[1000:3000], atol=0.02)


def test_edges_of_short_sounds_hold() -> None:
    """The first and last 5 % of 2,000 samples stay near what a long signal gives there, 20 dB below it."""
    rng = np.random.default_rng(1)
    errors, powers = [], []
    for _ in range(20):
        long = rng.standard_normal(12_000)
        whole, short = band_limited(long)[5000:7000], band_limited(long[5000:7000])
        edge = np.r_[0:100, 1900:2000]
        errors.append(np.mean((whole - short)[100:1900] ** 2))
        powers.append(np.mean(short[edge] ** 2) / np.mean(short[100:1900] ** 2))
    assert np.mean(errors) < 0.01 * 0.44  # white noise keeps 42 of 96 parts of its power
    assert 0.7 < np.mean(powers) < 1.4


def test_tone_lies_in_its_band_with_its_power() -> None:
    """Bands of unit area give the density of noise: 1 / 48 kHz per hertz for samples of standard deviation 1."""
    t = np.arange(1999) / 96_000
    assert int(np.argmax(paper_mel(np.sin(2 * np.pi * 6380.0 * t))[:, 0])) == 17
    noise = np.random.default_rng(2).standard_normal((300, 1999))
    levels = np.mean(10.0 ** (band_levels(noise) / 10.0), axis=0)
    assert np.ptp(10.0 * np.log10(levels[1:-1])) < 1.0


def test_fine_mel_sees_when_and_where() -> None:
    x = np.random.default_rng(3).standard_normal((1, 1999)) * 1e-3
    x[0, 1000:1100] += np.sin(2 * np.pi * 8000.0 * np.arange(100) / 96_000)
    mel = fine_mel(x)
    assert mel.shape == (1, 32, 28)
    band, frame = np.unravel_index(int(np.argmax(mel[0])), (32, 28))
    assert abs(frame * 64 + 128 - 1050) <= 64
    assert 18 <= band <= 22
