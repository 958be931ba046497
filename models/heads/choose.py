"""Which head: kinds are compared on folds of the training rows, the simplest of the best is taken and calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from models.heads.folds import Fold, grouped_folds, stretches
from models.heads.head import KINDS, Floats, Head, Ints, Kind, softmax
from models.heads.logistic import fit_logistic
from models.heads.prototypes import fit_prototypes
from models.heads.two_layer import fit_two_layer
from models.probe.metrics import confusion, machine_f1
from pipeline.errors import BadInput
from pipeline.messages import Float32

ABSTAIN = 0.6
"""Below this probability of the best class a head abstains."""
FEW = 5
"""Up to so many clips of a class, two layers are not tried."""
_AS_GOOD = 0.005
_SIMPLEST_FIRST: tuple[Kind, ...] = ("linear", "prototypes", "two_layer")
_COLDEST, _HOTTEST = -3.0, 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Training rows without their features.

    Attributes:
        y: class of each (n,).
        labels: class names.
        groups: of each.
        start_s: place of each within its group.
    """

    y: Ints
    labels: tuple[str, ...]
    groups: Sequence[str]
    start_s: Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A head and how it was chosen.

    Attributes:
        head: trained on all rows, calibrated where there were folds.
        scores: kind → mean F1 of the classes on left-out folds; empty where nothing could be left out.
        left_out: logits of every row when its group was left out, at the head's temperature (n, C); None without folds.
        fair: whether whole groups were left out, so that `scores` say something about another occasion.
    """

    head: Head
    scores: Mapping[Kind, float]
    left_out: Floats | None
    fair: bool


def check_rows(rows: Rows) -> None:
    """Refuse what no head can be learned from.

    Raises:
        BadInput: no rows, one class only, or a class without a row.
    """
    if len(rows.labels) < 2 or len(rows.y) == 0:
        named = f"all are labelled {rows.labels[0]!r}" if rows.labels else "there are none"
        raise BadInput("one_class", f"a head tells classes apart, but of the usable clips {named}; label two classes")
    for c, label in enumerate(rows.labels):
        if not (rows.y == c).any():
            raise BadInput("one_class", f"class {label!r} has no usable clip to learn from")


def choose(x: Float32, rows: Rows, kinds: Sequence[Kind] = KINDS, seed: int = 0) -> Choice:
    """Choose a kind of head by left-out groups, train it on all rows and calibrate its confidence.

    Args:
        x: features (n, k).
        rows: classes and groups.
        kinds: to choose from; two layers are left out where a class has `FEW` clips or fewer.
        seed: of the two-layer head.

    Raises:
        BadInput: one class only.
    """
    check_rows(rows)
    folds = grouped_folds(rows.y, rows.groups)
    fair = folds is not None
    if folds is None:
        folds = grouped_folds(rows.y, stretches(rows.groups, rows.start_s))
    few = int(np.bincount(rows.y, minlength=len(rows.labels)).min()) <= FEW
    tried = [k for k in _SIMPLEST_FIRST if k in kinds and not (few and k == "two_layer" and len(kinds) > 1)]
    if folds is None:
        kind: Kind = "prototypes" if "prototypes" in tried else tried[0]
        return Choice(train(kind, x, rows, seed), {}, None, False)
    logits = {k: left_out(k, x, rows, folds, seed) for k in tried}
    scores = {k: mean_f1(rows, found) for k, found in logits.items()}
    best = max(scores.values())
    kind = next(k for k in tried if scores[k] >= best - _AS_GOOD)
    t = temperature(logits[kind], rows.y)
    return Choice(train(kind, x, rows, seed).at_temperature(t), scores, logits[kind] / t, fair)


def train(kind: Kind, x: Float32, rows: Rows, seed: int) -> Head:
    """One kind of head on all rows."""
    makers: Mapping[Kind, Callable[[], Head]] = {
        "linear": lambda: fit_logistic(x, rows.y, rows.labels),
        "prototypes": lambda: fit_prototypes(x, rows.y, rows.labels),
        "two_layer": lambda: fit_two_layer(x, rows.y, rows.labels, rows.groups, seed),
    }
    return makers[kind]()


def left_out(kind: Kind, x: Float32, rows: Rows, folds: Sequence[Fold], seed: int) -> Floats:
    """Logits of every row by the head that was trained without its fold; (n, C)."""
    found = np.empty((len(rows.y), len(rows.labels)))
    for learn, test in folds:
        part = Rows(rows.y[learn], rows.labels, [rows.groups[i] for i in learn], [rows.start_s[i] for i in learn])
        found[test] = train(kind, x[learn], part, seed).logits(x[test])
    return found


def mean_f1(rows: Rows, logits: Floats) -> float:
    """Unweighted mean of the F1 of all classes."""
    one = np.zeros(len(rows.y), np.intp)
    return float(machine_f1(confusion(rows.y, logits.argmax(axis=1), one, 1, len(rows.labels))[0]))


def temperature(logits: Floats, y: Ints) -> float:
    """The divisor of logits that makes the left-out labels likeliest (Guo et al., ICML 2017)."""

    def loss(log_t: float) -> float:
        p = softmax(logits / np.exp(log_t))
        return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(_COLDEST, _HOTTEST), method="bounded")
    return float(np.exp(found.x))
