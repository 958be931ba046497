"""Folds that keep groups together, so that what is chosen by them is chosen for an occasion not heard before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.heads.head import Ints
from pipeline.errors import StateError

Fold = tuple[Ints, Ints]
MOST = 5
STRETCH_S = 10.0


def grouped_folds(y: Ints, groups: Sequence[str], most: int = MOST) -> list[Fold] | None:
    """Pairs (train, test) of row numbers in which no group is on both sides and every class trains.

    Args:
        y: class of each row.
        groups: of each row.
        most: number of folds where every class has as many groups.

    Returns:
        None where a class has one group only.

    Raises:
        StateError: a fold let a group through.
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    classes = np.unique(y)
    has = np.zeros((len(names), len(classes)), bool)
    has[group, np.searchsorted(classes, y)] = True
    count = min(most, int(has.sum(axis=0).min()))
    if count < 2:
        return None
    found = _parts(_assigned(has, count)[group])
    if any(len(np.unique(y[train])) < len(classes) for train, _ in found):
        found = _parts(group)  # each group alone: every class has another one
    for train, test in found:
        if np.intersect1d(group[train], group[test]).size:
            raise StateError("a group is in the training and in the test part of a fold")
    return found


def _parts(fold: Ints) -> list[Fold]:
    rows = np.arange(len(fold))
    return [(rows[fold != k], rows[fold == k]) for k in np.unique(fold)]


def _assigned(has: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], count: int) -> Ints:
    """The fold of each group: class by class, the rarest first, into the fold that has fewest groups of it."""
    fold = np.full(len(has), -1, np.intp)
    for c in np.argsort(has.sum(axis=0), kind="stable"):
        for g in np.flatnonzero(has[:, c] & (fold < 0)):
            held = [int((has[:, c] & (fold == k)).sum()) for k in range(count)]
            total = [int((fold == k).sum()) for k in range(count)]
            fold[g] = min(range(count), key=lambda k: (held[k], total[k]))
    return fold


def stretches(groups: Sequence[str], start_s: Sequence[float]) -> list[str]:
    """Stand-ins for groups where occasions are too few: ten seconds each. Good for a choice, not for a figure."""
    return [f"{group}|{int(start // STRETCH_S)}" for group, start in zip(groups, start_s, strict=True)]
