"""Normalised cross-correlation of two sounds, and what independent noise of their lengths would reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import correlate

from models.drill.data import Float64


@dataclass(frozen=True, slots=True)
class Correlation:
    """The peak of the cross-correlation.

    Attributes:
        peak: largest absolute value over all lags, 0-1.
        lag: samples by which the second sound comes later in the first.
        noise: median peak of independent white noise of the same lengths.
        p: share of noise pairs that reach this peak, (k + 1)/(n + 1).
    """

    peak: float
    lag: int
    noise: float
    p: float


def full_correlation(a: Float64, b: Float64) -> tuple[float, int]:
    """Largest absolute correlation over all lags, divided by the whole energies, as MATLAB's ``xcorr(…, 'coeff')``."""
    a, b = a - a.mean(), b - b.mean()
    product = np.abs(correlate(a, b, "full", "fft")) / np.sqrt(float(np.sum(a**2)) * float(np.sum(b**2)))
    best = int(np.argmax(product))
    return float(product[best]), best - (len(b) - 1)


def against_noise(a: Float64, b: Float64, trials: int = 200, seed: int = 0) -> Correlation:
    """The peak of two sounds beside that of white noise pairs.

    Args:
        a: shape (n,).
        b: shape (m,).
        trials: noise pairs.
        seed: of the noise.
    """
    peak, lag = full_correlation(a, b)
    noise = _noise_peaks(len(a), len(b), trials, seed)
    p = (int(np.sum(noise >= peak)) + 1) / (trials + 1)
    return Correlation(peak, lag, float(np.median(noise)), p)


@lru_cache(maxsize=16)
def _noise_peaks(n: int, m: int, trials: int, seed: int) -> Float64:
    """Peaks of independent white noise pairs of n and m samples, shape (trials,)."""
    rng = np.random.default_rng(seed)
    return np.array([full_correlation(rng.standard_normal(n), rng.standard_normal(m))[0] for _ in range(trials)])
