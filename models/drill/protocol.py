"""How sounds are divided: the paper's way, with its leaks counted, and by whole events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drill.data import Float64
from pipeline.errors import BadInput

Rows = NDArray[np.intp]

VAE_SHARE = 34 / 67
"""Share of each class that the paper's autoencoder was trained on."""
SYNTHETIC_SHARE = 48 / 67
"""Synthetic sounds of each class per recorded one in the paper."""
TRAIN_SHARE = 0.7


def group_folds(groups: Sequence[str], target: Float64, k: int, seed: int) -> Rows:
    """Fold of every clip, 0 to k - 1: whole groups, each class dealt out evenly (stratified group k-fold).

    The class with fewer groups is dealt out first, the largest groups before the others, each into the fold with the
    fewest clips of that class. So every fold gets a group, and what is left beside it has both classes.

    Args:
        groups: of each clip; a group may hold both classes.
        target: 0 or 1, shape (n,).
        k: folds.
        seed: of the shuffle.

    Raises:
        BadInput: there are fewer groups than folds, or one group alone holds a class.
    """
    rng = np.random.default_rng([seed, k])
    names, group = np.unique(np.array(groups), return_inverse=True)
    clips = np.zeros((len(names), 2), np.intp)
    np.add.at(clips, (group, (target > 0.5).astype(np.intp)), 1)
    own = [np.flatnonzero(clips[:, c]) for c in (0, 1)]
    orders = [rows[rng.permutation(len(rows))] for rows in own]
    fewest = min(len(rows) for rows in own)
    if fewest < 2 or len(names) < k:
        raise BadInput(
            "too_few_groups",
            f"{len(names)} groups, {fewest} of them with one of the classes, cannot be divided into {k} folds "
            "that leave both classes to learn from",
        )
    fold = np.full(len(names), -1, np.intp)
    for c in sorted((0, 1), key=lambda c: len(own[c])):
        for g in sorted(orders[c], key=lambda g: -clips[g, c]):
            if fold[g] < 0:
                held = [(int(clips[fold == f, c].sum()), bool((fold == f).any())) for f in range(k)]
                fold[g] = min(range(k), key=held.__getitem__)
    return fold[group]


def by_class(target: Float64, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """A random division of the clips within each class: rows of the share (rounded up) and the others."""
    first, second = [], []
    for c in (False, True):
        rows = rng.permutation(np.flatnonzero((target > 0.5) == c))
        n = int(np.ceil(share * len(rows) - 1e-9))
        first.append(rows[:n])
        second.append(rows[n:])
    return np.concatenate(first), np.concatenate(second)


@dataclass(frozen=True, slots=True, eq=False)
class PaperSplit:
    """The paper's division: 34 + 34 for the autoencoder, then 162 and 68 of all 230, or 94 and 40 of the 134.

    Rows below the number of recorded sounds are those; the synthetic ones follow, normal first.

    Attributes:
        vae: recorded sounds that the autoencoder learns from.
        synthetic: how many it makes of each class.
        train: rows for the classifier, recorded and synthetic mixed.
        validation: rows that it is judged on.
        train_recorded: the same without synthetic sounds.
        validation_recorded: the same without synthetic sounds.
    """

    vae: Rows
    synthetic: int
    train: Rows
    validation: Rows
    train_recorded: Rows
    validation_recorded: Rows


def paper_split(target: Float64, seed: int) -> PaperSplit:
    """Divide as published: 67 + 67 sounds give 34 + 34, 48 + 48, 162/68 and 94/40.

    Args:
        target: 0 or 1 for each recorded sound, shape (n,).
        seed: of the shuffles.
    """
    rng = np.random.default_rng([seed, 70])
    vae, _ = by_class(target, VAE_SHARE, rng)
    synthetic = round(SYNTHETIC_SHARE * len(target) / 2)
    everything = np.concatenate([target, np.repeat([0.0, 1.0], synthetic)])
    train, validation = by_class(everything, TRAIN_SHARE, rng)
    return PaperSplit(vae, synthetic, train, validation, *by_class(target, TRAIN_SHARE, rng))


@dataclass(frozen=True, slots=True)
class Leaks:
    """What is wrong with a paper split.

    Attributes:
        synthetic: validation items that are synthetic.
        seen_by_vae: recorded validation items that the autoencoder was trained on.
        split_events: recorded validation items of which another microphone is in the training set.
        validation: items in all.
    """

    synthetic: int
    seen_by_vae: int
    split_events: int
    validation: int


def leaks(split: PaperSplit, events: Sequence[str]) -> Leaks:
    """Count the leaks of a paper split; `events` of the recorded sounds."""
    n = len(events)
    recorded = [int(i) for i in split.validation if i < n]
    seen = set(split.vae.tolist())
    trained = {events[int(i)] for i in split.train if i < n}
    return Leaks(
        synthetic=len(split.validation) - len(recorded),
        seen_by_vae=sum(i in seen for i in recorded),
        split_events=sum(events[i] in trained for i in recorded),
        validation=len(split.validation),
    )
