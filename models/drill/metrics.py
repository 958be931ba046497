"""Figures of merit with their uncertainty: clips of one event are never counted as independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from models import metrics
from models.drill.data import Float64
from models.drill.protocol import Rows
from models.metrics import Interval

Metric = Callable[[Float64, Float64], float]
FALSE_ALARMS = 0.01


def auc(score: Float64, target: Float64) -> float:
    """Area under the ROC curve of scores (n,) against 0/1 targets (n,); ties count half."""
    return metrics.auc(target > 0.5, score)


def accuracy(score: Float64, target: Float64) -> float:
    """Share of scores (n,) on the right side of 0.5."""
    return float(np.mean((score > 0.5) == (target > 0.5)))


def recall_at_false_alarms(score: Float64, target: Float64, share: float = FALSE_ALARMS) -> float:
    """Recall at the lowest threshold that at most `share` of the normal clips exceed: none of them below 100 clips."""
    normal = np.sort(score[target < 0.5])[::-1]
    threshold = normal[min(int(share * len(normal)), len(normal) - 1)]
    return float(np.mean(score[target > 0.5] > threshold))


def wilson(right: int, count: int) -> Interval:
    """Share of `right` in `count` with the Wilson score interval."""
    return Interval(right / count, *metrics.wilson(right / count, count))


def over_repeats(metric: Metric, scores: Float64, target: Float64) -> float:
    """Mean of a metric over repeats; scores of shape (repeats, n), targets (n,)."""
    return float(np.mean([metric(row, target) for row in scores]))


def resamples(groups: Sequence[str], target: Float64, count: int, seed: int = 0) -> list[Rows]:
    """Rows of `count` bootstrap samples over whole groups, within each class; each holds both classes.

    Args:
        groups: of each clip.
        target: 0 or 1 for each clip, shape (n,).
        count: samples.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names = np.array(groups)
    by_class = []
    for c in (False, True):
        own = sorted(set(names[(target > 0.5) == c].tolist()))
        by_class.append([np.flatnonzero((names == g) & ((target > 0.5) == c)) for g in own])
    return [
        np.concatenate([members[int(i)] for members in by_class for i in rng.integers(0, len(members), len(members))])
        for _ in range(count)
    ]


def bootstrap(metric: Metric, scores: Float64, target: Float64, rows: Sequence[Rows]) -> Interval:
    """A metric over repeats with its percentile interval over groups; scores (repeats, n), rows from `resamples`."""
    values = [over_repeats(metric, scores[:, r], target[r]) for r in rows]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(over_repeats(metric, scores, target), float(low), float(high))


def mcnemar(a: Float64, b: Float64, target: Float64) -> float:
    """Exact two-sided p of McNemar's test on the decisions of two classifiers.

    Args:
        a: scores, shape (n,); pooled over repeats by their mean.
        b: scores, shape (n,).
        target: 0 or 1, shape (n,).

    Returns:
        p; 1 if they never differ in being right. Clips of one event are taken as independent, which makes p too small.
    """
    right_a, right_b = (a > 0.5) == (target > 0.5), (b > 0.5) == (target > 0.5)
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)
