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
PENALTIES = (0.01, 0.1, 1.0)
"""Inverse penalties C of the linear head that are compared, the strongest penalty first."""
USUAL = 1.0
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
        scores: kind → mean F1 of the classes on the left-out folds that chose; empty where nothing could be left out.
        c: inverse penalty of a linear head.
        fair: whether whole groups were left out, so that `scores` say something about another occasion.
    """

    head: Head
    scores: Mapping[Kind, float]
    fair: bool
    c: float = USUAL


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

    A linear head's penalty is chosen in the same way: the strongest whose cross-entropy, averaged over groups, is
    within one standard error of the best (Breiman et al., Classification and Regression Trees, 1984, §3.4.3), since
    an occasion outside of these groups differs more.

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
        return Choice(train(kind, x, rows, seed), {}, False)
    logits: dict[Kind, Floats] = {}
    c = USUAL
    for k in tried:
        if k == "linear":
            c, logits[k] = _penalised(x, rows, folds)
        else:
            logits[k] = left_out(k, x, rows, folds, seed)
    scores = {k: mean_f1(rows, found) for k, found in logits.items()}
    best = max(scores.values())
    kind = next(k for k in tried if scores[k] >= best - _AS_GOOD)
    t = temperature(logits[kind], rows.y)
    return Choice(train(kind, x, rows, seed, c).at_temperature(t), scores, fair, c)


def _penalised(x: Float32, rows: Rows, folds: Sequence[Fold]) -> tuple[float, Floats]:
    """Inverse penalty of the linear head, and its logits on the left-out folds."""
    logits = {c: left_out("linear", x, rows, folds, 0, c) for c in PENALTIES}
    losses = {c: _losses(rows, found) for c, found in logits.items()}
    best = min(PENALTIES, key=lambda c: losses[c].mean())
    count = len(losses[best])
    error = float(losses[best].std(ddof=1) / np.sqrt(count)) if count > 2 else 0.0
    c = next(c for c in PENALTIES if losses[c].mean() <= losses[best].mean() + error)
    return c, logits[c]


def _losses(rows: Rows, logits: Floats) -> Floats:
    """Mean cross-entropy of each group at the likeliest temperature; (groups,)."""
    p = softmax(logits / temperature(logits, rows.y))
    each = -np.log(np.maximum(p[np.arange(len(rows.y)), rows.y], 1e-12))
    group = np.unique(np.asarray(rows.groups, dtype=str), return_inverse=True)[1]
    mean: Floats = np.bincount(group, each) / np.bincount(group)
    return mean


def train(kind: Kind, x: Float32, rows: Rows, seed: int, c: float = USUAL) -> Head:
    """One kind of head on all rows; `c` is the inverse penalty of a linear one."""
    makers: Mapping[Kind, Callable[[], Head]] = {
        "linear": lambda: fit_logistic(x, rows.y, rows.labels, c),
        "prototypes": lambda: fit_prototypes(x, rows.y, rows.labels),
        "two_layer": lambda: fit_two_layer(x, rows.y, rows.labels, rows.groups, seed),
    }
    return makers[kind]()


def left_out(kind: Kind, x: Float32, rows: Rows, folds: Sequence[Fold], seed: int, c: float = USUAL) -> Floats:
    """Logits of every row by the head that was trained without its fold; (n, C)."""
    found = np.empty((len(rows.y), len(rows.labels)))
    for learn, test in folds:
        part = Rows(rows.y[learn], rows.labels, [rows.groups[i] for i in learn], [rows.start_s[i] for i in learn])
        found[test] = train(kind, x[learn], part, seed, c).logits(x[test])
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
