"""When is it too far? Thresholds from left-out normal scores, and what they promise about false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, stdtrit

from pipeline.messages import NS

QUANTILE = 0.999
BLOCK_NS = 10 * NS
LOWEST = 0.5
"""No threshold lies below half a standard deviation of the calibrated score."""

Floats = NDArray[np.float64]


def block_maxima(scores: Floats, t_ns: NDArray[np.int64]) -> Floats:
    """Maxima over 10 s of event time: overlapping windows are no independent evidence, their block maxima nearly are.

    Args:
        scores: of one recording, (n,).
        t_ns: their event times, rising.
    """
    if len(scores) == 0:
        return np.empty(0)
    block = t_ns // BLOCK_NS
    first = np.flatnonzero(np.r_[True, np.diff(block) != 0])
    return np.asarray(np.maximum.reduceat(scores, first), np.float64)


def threshold(scores: Floats) -> float:
    """The 99.9 % quantile; while 1,000 scores are not there to tell it, at least their maximum + 0.1 IQR.

    Raises:
        ValueError: there are no scores.
    """
    if len(scores) == 0:
        raise ValueError("a threshold needs scores")
    value = float(np.quantile(scores, QUANTILE))
    if len(scores) < 1000:
        q25, q75 = np.quantile(scores, [0.25, 0.75])
        value = max(value, float(scores.max()) + 0.1 * float(q75 - q25))
    return max(value, LOWEST)


def new_start_limit(maxima: Sequence[float], confidence: float = 0.95) -> float:
    """What the maximum of one more start stays below, if starts vary normally: mean + t·s·√(1 + 1/n).

    The largest of n starts is exceeded by the next one with a chance of 1/(n + 1), whatever the quantile within them;
    this upper prediction limit allows for how few they are. (Hahn and Meeker, Statistical Intervals, 1991.)

    Args:
        maxima: largest left-out score of each start.
        confidence: one-sided.

    Returns:
        The limit, or minus infinity for fewer than three starts, which tell nothing about their spread.
    """
    n = len(maxima)
    if n < 3:
        return float("-inf")
    return float(np.mean(maxima) + stdtrit(n - 1, confidence) * np.std(maxima, ddof=1) * np.sqrt(1 + 1 / n))


def poisson_upper(count: int, exposure: float, confidence: float = 0.95) -> float:
    """One-sided upper limit of a Poisson rate after `count` events in `exposure` (Garwood 1936): χ²(2k+2)/2."""
    return float(gammaincinv(count + 1, confidence) / exposure)


def poisson_interval(count: int, exposure: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact limits of a Poisson rate (Garwood 1936)."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(gammaincinv(count, tail) / exposure)
    return low, float(gammaincinv(count + 1, 1.0 - tail) / exposure)
