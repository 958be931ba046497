"""One number out of several distances: z-calibration on vectors that were left out, then the minimum.

The minimum over calibrated back-ends beats every single one on DCASE machines (arXiv 2606.19269): a vector is abnormal
only when all views of normal agree that it is. Self-scores leave out whole starts of the machine, because the change
between two occasions, not the noise within one, is what a threshold must allow for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.anomaly.backends import BACK_ENDS, BackEnd, Bank
from models.anomaly.scale import Scale, fit_scale
from pipeline.messages import Float32

MAX_FOLDS = 20
BANK_SIZE = 2000
_BLOCKS_OF_ONE_START = 5


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A back-end with the mean and standard deviation of its left-out self-scores."""

    back_end: BackEnd
    mean: float
    std: float

    def z(self, x: Float32, apart: Float32) -> float:
        """Calibrated score of a standardised vector and its distances to the bank."""
        return (self.back_end.score(x, apart) - self.mean) / self.std


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """A fused score, the z of every back-end, which of them decided, and how far each bank vector is (n,)."""

    value: float
    z: dict[str, float]
    decided_by: str
    apart: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """The scale and the calibrated back-ends of one view in one operating state."""

    scale: Scale
    bank: Bank
    members: tuple[Member, ...]

    def score(self, x: Float32) -> Fused:
        """Fused score of one vector (d,) in its own unit."""
        standard = self.scale(x)
        apart = self.bank.distances(standard)
        z = {m.back_end.name: m.z(standard, apart) for m in self.members}
        decided_by = min(z, key=lambda name: z[name])
        return Fused(z[decided_by], z, decided_by, apart)


def fit(x: Float32, starts: Sequence[str], names: Sequence[str], floor: Float32) -> tuple[Fusion, NDArray[np.float64]]:
    """Learn a view of one state, and score every vector as if its start had not been there.

    Args:
        x: normal vectors (n, d) in time order within each start.
        starts: the start (recording, day, thermal state) of each vector; at least 5 vectors.
        names: back-ends to fuse, keys of `BACK_ENDS`.
        floor: smallest spread per dimension, see `fit_scale`.

    Returns:
        The fusion and the fused left-out scores, (n,).
    """
    raw = {name: np.empty(len(x)) for name in names}
    for train, test in folds(starts):
        assert not {starts[i] for i in train} & {starts[i] for i in test} or len(set(starts)) == 1
        scale, bank, back_ends = _learn(x[train], [starts[i] for i in train], names, floor)
        for i in test:
            held = scale(x[i])
            apart = bank.distances(held)
            for name, back_end in back_ends.items():
                raw[name][i] = back_end.score(held, apart)
    scale, bank, back_ends = _learn(x, starts, names, floor)
    members = tuple(Member(back_ends[n], float(raw[n].mean()), max(float(raw[n].std()), 1e-9)) for n in names)
    fused = np.min([(raw[m.back_end.name] - m.mean) / m.std for m in members], axis=0)
    return Fusion(scale, bank, members), fused


def folds(starts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Splits (train, test) into indices that leave whole starts out: one a fold, or twenty folds of several.

    With one start only, its fifths are left out in turn, with a margin of one vector on both sides because windows
    overlap; that tells the noise within the occasion and nothing about the next one.
    """
    order = list(dict.fromkeys(starts))
    if len(order) == 1:
        n = len(starts)
        edges = np.linspace(0, n, min(_BLOCKS_OF_ONE_START, n) + 1).astype(int)
        at = np.arange(n)
        for lo, hi in pairwise(edges):
            yield np.flatnonzero((at < lo - 1) | (at > hi)), np.flatnonzero((at >= lo) & (at < hi))
        return
    count = min(len(order), MAX_FOLDS)
    fold_of = {start: i % count for i, start in enumerate(order)}
    fold = np.array([fold_of[s] for s in starts])
    for k in range(count):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def keep(starts: Sequence[str]) -> NDArray[np.intp]:
    """Which vectors stay in the bank: all, or `BANK_SIZE` evenly over time with every start in its share."""
    n = len(starts)
    if n <= BANK_SIZE:
        return np.arange(n)
    by_start: dict[str, list[int]] = {}
    for i, start in enumerate(starts):
        by_start.setdefault(start, []).append(i)
    ordered = np.array([i for members in by_start.values() for i in members])
    return np.sort(ordered[np.arange(BANK_SIZE) * n // BANK_SIZE])


def _learn(
    x: Float32, starts: Sequence[str], names: Sequence[str], floor: Float32
) -> tuple[Scale, Bank, dict[str, BackEnd]]:
    scale = fit_scale(x, floor)
    standard = scale(x)
    bank = Bank(standard[keep(starts)])
    return scale, bank, {name: BACK_ENDS[name].fit(bank, standard) for name in names}
