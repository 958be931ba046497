"""F1 per class and per machine from confusions, with intervals from resampling what belongs together.

The task score is the F1 of a class, the machine's score the unweighted mean of its classes' F1 (arXiv 2507.06481,
Table 3 from Table 4). Confusions are kept per repeat and per unit of resampling: the group, or stretches of ten
seconds where there are too few groups to resample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heads.folds import STRETCH_S, stretches
from models.heads.head import Floats, Ints
from models.metrics import Interval
from models.probe.clips import Clips

RESAMPLES = 1000
_FEWEST_GROUPS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is drawn with replacement: number of each clip's unit (n,), how many there are, and what they are."""

    of: Ints
    count: int
    name: str


def units(clips: Clips) -> Units:
    """Groups where every class has five of them, else stretches of ten seconds within groups."""
    by_class = [len(np.unique(clips.group[clips.label == c])) for c in clips.labels]
    if min(by_class) >= _FEWEST_GROUPS:
        names, of = np.unique(clips.group, return_inverse=True)
        return Units(of.astype(np.intp), len(names), "groups")
    names, of = np.unique(stretches(clips.group.tolist(), clips.start_s.tolist()), return_inverse=True)
    return Units(of.astype(np.intp), len(names), f"stretches of {STRETCH_S:g} s (too few groups to resample)")


def confusion(truth: Ints, answer: Ints, unit: Ints, count: int, classes: int) -> NDArray[np.int64]:
    """How often each class was answered for each, per unit: shape (count, classes, classes), truth in rows."""
    table = np.zeros((count, classes, classes), np.int64)
    np.add.at(table, (unit, truth, answer), 1)
    return table


def f1(table: NDArray[np.int64] | Floats) -> Floats:
    """F1 of each class of confusions (…, classes, classes); NaN where it never occurs."""
    hit = np.diagonal(table, axis1=-2, axis2=-1).astype(np.float64)
    truth, answered = table.sum(axis=-1), table.sum(axis=-2)
    return np.where(truth > 0, 2.0 * hit / np.maximum(truth + answered, 1), np.nan)


def machine_f1(table: NDArray[np.int64] | Floats) -> Floats:
    """Unweighted mean of the F1 of the classes that occur."""
    return _mean(f1(table), -1)


def interval(tables: NDArray[np.int64], classes: bool = False, resamples: int = RESAMPLES) -> list[Interval]:
    """Mean over the repeats with percentiles under resampling of units, of the machine or of each class.

    Args:
        tables: confusions (repeats, units, classes, classes).
        classes: one interval per class instead of one of the machine.
        resamples: how often units are drawn.
    """
    value, drawn = _drawn(tables, classes, resamples)
    low, high = _bounds(drawn)
    return [
        Interval(float(v), min(float(v), float(lo)), max(float(v), float(hi)))
        for v, lo, hi in zip(value, low, high, strict=True)
    ]


def difference(a: NDArray[np.int64], b: NDArray[np.int64], resamples: int = RESAMPLES) -> Interval:
    """Machine score of `a` less that of `b`, both resampled by the same draws; confusions as in `interval`."""
    (first,), one = _drawn(a, False, resamples)
    (second,), other = _drawn(b, False, resamples)
    low, high = _bounds(one - other)[:, 0]
    return Interval(float(first - second), float(low), float(high))


def _drawn(tables: NDArray[np.int64], classes: bool, resamples: int) -> tuple[Floats, Floats]:
    """The figure (k,) and what it becomes in each draw (resamples, k)."""
    repeats, count, c, _ = tables.shape
    figure = f1 if classes else machine_f1
    rng = np.random.default_rng(0)
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    drawn = np.empty((repeats, resamples, c if classes else 1))
    for repeat, table in enumerate(tables):
        sums = (weights @ table.reshape(count, -1)).reshape(resamples, c, c)
        drawn[repeat] = figure(sums).reshape(resamples, -1)
    whole = figure(tables.sum(axis=1)).reshape(repeats, -1)
    return _mean(whole, 0), _mean(drawn, 0)


def _mean(x: Floats, axis: int) -> Floats:
    """Mean of what is defined; NaN where nothing is."""
    there = ~np.isnan(x)
    total, count = np.where(there, x, 0.0).sum(axis=axis), there.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _bounds(drawn: Floats) -> Floats:
    """2.5 and 97.5 % of each column (2, k), of the draws in which it is defined."""
    found = [column[~np.isnan(column)] for column in drawn.T]
    rows = [np.quantile(column, [0.025, 0.975]) if len(column) else np.full(2, np.nan) for column in found]
    return np.stack(rows, axis=1)
