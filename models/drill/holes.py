"""Training rows of the classifier that listens to a stream: level differences cut from recordings of whole holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.drill.cells import seed_of
from models.drill.data import Float64
from models.drill.grid import best_penalty, inner_folds
from models.drill.levels import CLIP_S, check_rate, contrast
from models.drill.metrics import accuracy, auc, bootstrap, recall_at_false_alarms, resamples
from models.drill.protocol import Rows, group_folds
from models.logistic import Logistic, fit_logistic
from pipeline.errors import BadInput

_NORMAL, _FRACTURE = 8, 4
"""Rows taken of a recording: anywhere before a fracture, and of the fracture itself."""
_AFTER_S = (0.004, 0.016)
"""When a row of a fracture ends after it: the live grid of 10 ms has one or two such rows for each."""
_CLEAR_S = 0.05
_FIRST_S = 2.0 * CLIP_S + 1e-3
"""The earliest end of a row: it hears two clips."""
_INNER = 4
_LEAST_GROUPS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Holes:
    """Rows of many recordings.

    Attributes:
        x: level differences in dB, shape (n, 21).
        target: 1 for a fracture, shape (n,).
        groups: of each row's recording.
    """

    x: Float64
    target: Float64
    groups: list[str]

    @property
    def broken(self) -> Float64:
        """1 for every row of a recording with a fracture, shape (n,): what folds are dealt out by."""
        found = {g for g, y in zip(self.groups, self.target, strict=True) if y > 0.5}
        return np.array([float(g in found) for g in self.groups])


def cut(samples: Float64, rate_hz: float, onset_s: float | None, seed: int, where: str) -> tuple[Float64, Float64]:
    """Rows of one recording and their targets, (n, 21) and (n,).

    Args:
        samples: shape (n, channels).
        rate_hz: 96 or 48 kHz.
        onset_s: of the fracture, from the first sample; None for a whole hole. What follows is used for nothing.
        seed: of the places.
        where: for errors.

    Raises:
        BadInput: another rate, or the fracture does not lie where rows can be cut before and after it.
    """
    check_rate(rate_hz, where)
    length = len(samples) / rate_hz
    if onset_s is not None and not _FIRST_S + _CLEAR_S < onset_s < length - _AFTER_S[1]:
        raise BadInput(
            "onset",
            f"{where}: onset_s lies {onset_s:g} s after start_s; rows before and after it can be cut between "
            f"{_FIRST_S + _CLEAR_S:.3f} s and {length - _AFTER_S[1]:.3f} s",
        )
    rng = np.random.default_rng(seed)
    last = length if onset_s is None else onset_s - _CLEAR_S
    ends = rng.uniform(_FIRST_S, last, _NORMAL)
    target = np.zeros(_NORMAL)
    if onset_s is not None:
        ends = np.concatenate([ends, onset_s + rng.uniform(*_AFTER_S, _FRACTURE)])
        target = np.concatenate([target, np.ones(_FRACTURE)])
    rows = [contrast(samples[: round(end * rate_hz)], rate_hz) for end in ends]
    return np.stack(rows), target


def train(holes: Holes, folds: int = 5, seed: int = 0) -> tuple[Logistic, dict[str, Any]]:
    """Logistic regression on all rows, and its scores on held-out recordings beside those of the loudness alone.

    Args:
        holes: all rows.
        folds: of whole recordings.
        seed: of the folds.

    Raises:
        BadInput: too few groups with a fracture, or without one.
    """
    _check_groups(holes, folds)
    c = _penalty(holes, np.arange(len(holes.target)), seed)
    fold = group_folds(holes.groups, holes.broken, folds, seed_of(seed, "holes"))
    held_out = np.empty(len(holes.target))
    for f in range(folds):
        fit = np.flatnonzero(fold != f)
        best = _penalty(holes, fit, seed)
        model = fit_logistic(holes.x[fit], holes.target[fit], best)
        held_out[fold == f] = model.probability(holes.x[fold == f])
    rows = resamples(holes.groups, holes.target, 1000, seed)
    scores: dict[str, Any] = {"protocol": f"leak-free, {folds} folds of whole recordings"}
    for name, metric in (("auc", auc), ("accuracy", accuracy), ("recall at 1 % false alarms", recall_at_false_alarms)):
        found = bootstrap(metric, held_out[None], holes.target, rows)
        scores[name] = [round(v, 4) for v in (found.value, found.low, found.high)]
    louder = bootstrap(auc, holes.x.mean(axis=1)[None], holes.target, rows)
    scores["auc of the mean difference alone"] = [round(v, 4) for v in (louder.value, louder.low, louder.high)]
    return fit_logistic(holes.x, holes.target, c), scores


def _check_groups(holes: Holes, folds: int) -> None:
    """Each outer fold must leave two groups of either kind, which the inner folds divide again."""
    broken = {g for g, y in zip(holes.groups, holes.target, strict=True) if y > 0.5}
    whole, needed = set(holes.groups) - broken, max(folds, _LEAST_GROUPS)
    if min(len(whole), len(broken)) < needed:
        raise BadInput(
            "too_few_groups",
            f"{len(broken)} groups with a fracture and {len(whole)} with whole holes alone: {folds} folds of whole "
            f"recordings need {needed} of either kind; record more, or choose fewer --folds",
        )


def _penalty(holes: Holes, rows: Rows, seed: int) -> float:
    """The inverse penalty with the lowest cross-entropy over inner folds of whole recordings."""
    own, broken = [holes.groups[int(i)] for i in rows], holes.broken[rows]
    fold = group_folds(own, broken, inner_folds(own, broken, _INNER), seed_of(seed, "inner"))
    return best_penalty(holes.x[rows], holes.target[rows], fold)


def joined(parts: Sequence[tuple[str, tuple[Float64, Float64]]]) -> Holes:
    """Rows of many recordings: (group, rows of `cut`) of each."""
    return Holes(
        np.concatenate([x for _, (x, _) in parts]),
        np.concatenate([y for _, (_, y) in parts]),
        [group for group, (_, y) in parts for _ in y],
    )
