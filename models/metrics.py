"""Figures of merit that several rooms tell: the area under the ROC curve, and the interval of a share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def auc(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the chance that an abnormal one scores above a normal one, ties count half.

    Args:
        truth: which are abnormal, shape (n,); some are, and some are not.
        score: shape (n,).
    """
    positive = int(truth.sum())
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) of a share `p` of `n` independent ones; all between 0 and 1 where n is 0."""
    if n == 0:
        return 0.0, 1.0
    centre = p + Z95**2 / (2 * n)
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    # of none or all a limit is 0 or 1, but for rounding
    return max(0.0, min(p, float((centre - half) / scale))), min(1.0, max(p, float((centre + half) / scale)))
