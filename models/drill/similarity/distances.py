"""Distances between sets of sounds: spectra, distributions, copies and variety."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from models.drill.data import RATE_HZ, Float64
from models.drill.filters import HIGH_HZ, LOW_HZ
from operators.spectral import hann


def log_spectral_distance(a: Float64, b: Float64, segment: int = 256) -> float:
    """Root mean square difference of the Welch spectra in dB between 1 and 22 kHz.

    Args:
        a: shape (n,).
        b: shape (m,).
        segment: samples per Hann segment, half overlapping.
    """
    levels = []
    for x in (a, b):
        frames = np.lib.stride_tricks.sliding_window_view(x, segment)[:: segment // 2]
        power = np.mean(np.abs(np.fft.rfft(frames * hann(segment), axis=1)) ** 2, axis=0)
        levels.append(10.0 * np.log10(power + 1e-20))
    f = np.arange(len(levels[0])) * (RATE_HZ / segment)
    heard = (f >= LOW_HZ) & (f <= HIGH_HZ)
    return float(np.sqrt(np.mean((levels[0][heard] - levels[1][heard]) ** 2)))


@dataclass(frozen=True, slots=True)
class Mmd:
    """Squared maximum mean discrepancy, and the share of random divisions that reach it."""

    value: float
    p: float


def mmd(a: Float64, b: Float64, permutations: int = 499, seed: int = 0) -> Mmd:
    """Squared MMD (biased estimate) with a Gaussian kernel of median bandwidth (Gretton et al., JMLR 2012).

    Args:
        a: features, shape (n, d).
        b: features, shape (m, d).
        permutations: random divisions of both together.
        seed: of the divisions.
    """
    both = np.concatenate([a, b])
    squared = cdist(both, both, "sqeuclidean")
    bandwidth = np.median(squared[np.triu_indices(len(both), 1)])
    kernel = np.exp(-squared / max(float(bandwidth), 1e-30))
    signs = np.where(np.arange(len(both)) < len(a), 1.0 / len(a), -1.0 / len(b))
    value = float(signs @ kernel @ signs)
    rng = np.random.default_rng(seed)
    order = [rng.permutation(signs) for _ in range(permutations)]
    reached = sum(float(s @ kernel @ s) >= value for s in order)
    return Mmd(value, (reached + 1) / (permutations + 1))


@dataclass(frozen=True, slots=True)
class TwoSample:
    """How well a classifier tells two sets apart: 0.5 if it cannot; and the exact binomial p against 0.5."""

    accuracy: float
    p: float


def two_sample(a: Float64, b: Float64, seed: int = 0) -> TwoSample:
    """Classifier two-sample test by logistic regression in five folds (Lopez-Paz and Oquab, ICLR 2017).

    The larger set is thinned to the size of the smaller, so that guessing gives 0.5.

    Args:
        a: features, shape (n, d).
        b: features, shape (m, d).
        seed: of thinning and folds.
    """
    from scipy.stats import binomtest

    from models.logistic import fit_logistic

    rng = np.random.default_rng(seed)
    n = min(len(a), len(b))
    x = np.concatenate([a[rng.permutation(len(a))[:n]], b[rng.permutation(len(b))[:n]]])
    y = np.repeat([0.0, 1.0], n)
    fold = np.concatenate([rng.permutation(n) % 5, rng.permutation(n) % 5])
    right = 0
    for k in range(5):
        model = fit_logistic(x[fold != k], y[fold != k], 1.0)
        right += int(np.sum((model.probability(x[fold == k]) > 0.5) == (y[fold == k] > 0.5)))
    return TwoSample(right / (2 * n), float(binomtest(right, 2 * n, 0.5, "greater").pvalue))


def nearest_ratio(synthetic: Float64, training: Float64) -> float:
    """Median distance from a synthetic to its nearest training sound over that between training sounds.

    Well below 1 means copies. Features of shape (n, d) and (m, d).
    """
    own = cdist(training, training)
    np.fill_diagonal(own, np.inf)
    return float(np.median(cdist(synthetic, training).min(axis=1)) / max(float(np.median(own.min(axis=1))), 1e-30))


def diversity(synthetic: Float64, recorded: Float64) -> float:
    """Mean distance between synthetics over that between recorded sounds; aim for 0.7-1.3."""
    return float(pdist(synthetic).mean() / max(float(pdist(recorded).mean()), 1e-30))
