"""Figures of merit with 95 % intervals: groups are resampled, because recordings of one group are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from models.metrics import Z95, auc, wilson

RESAMPLES = 1000
_SEED = 0
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Metric:
    """A value with its 95 % interval and the number of recordings behind it; NaN limits where groups are too few."""

    value: float
    low: float
    high: float
    n: int

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return not np.isnan(self.low)

    def document(self) -> dict[str, float | int | None]:
        """As `summary.json` holds it; limits are null where there is no interval."""
        low, high = (self.low, self.high) if self.bounded else (None, None)
        return {"value": self.value, "low": low, "high": high, "n": self.n}


def partial_auc(truth: Bools, score: Floats, max_fpr: float = 0.1) -> float:
    """AUC up to a false-positive rate, standardised to 0.5 for chance and 1 for perfect (McClish 1989).

    This is the pAUC of DCASE task 2 (p = 0.1).
    """
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    tpr = np.r_[0.0, np.cumsum(truth[order])[ends] / truth.sum()]
    fpr = np.r_[0.0, np.cumsum(~truth[order])[ends] / (~truth).sum()]
    stop = int(np.searchsorted(fpr, max_fpr, side="right"))
    x = np.r_[fpr[:stop], max_fpr]
    y = np.r_[tpr[:stop], np.interp(max_fpr, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1])]
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    least = max_fpr**2 / 2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))


def balanced_accuracy(truth: NDArray[np.str_], decided: NDArray[np.str_]) -> float:
    """Mean recall over the classes that occur."""
    return float(np.mean([np.mean(decided[truth == c] == c) for c in np.unique(truth)]))


def macro_f1(truth: NDArray[np.str_], decided: NDArray[np.str_]) -> float:
    """Mean F1 over the classes that occur or were decided."""
    scores = []
    for c in np.union1d(truth, decided):
        hit = float(np.sum((truth == c) & (decided == c)))
        scores.append(2 * hit / float(np.sum(truth == c) + np.sum(decided == c)))
    return float(np.mean(scores))


def proportion(hit: Bools, groups: Sequence[str]) -> Metric:
    """A share of recordings, with Wilson's interval for as many independent ones as their groups are worth.

    That is p(1 - p) over the variance of the share between groups, with Student's t for their number (Korn and
    Graubard, Survey Methodology 24, 1998). Groups that all agree do not tell it: each then counts once.
    """
    n, p = len(hit), float(hit.mean())
    group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    count = int(group.max()) + 1
    worth = float(count)
    if 1 < count < n and 0.0 < p < 1.0:
        off = np.bincount(group, hit - p)
        variance = count / (count - 1) * float(off @ off) / n**2
        t = float(stdtrit(count - 1, 0.975))
        worth = min(max(1.0, p * (1 - p) / variance * (Z95 / t) ** 2), n) if variance > 0.0 else n
    return Metric(p, *wilson(p, worth), n)


def bootstrap(
    groups: Sequence[str],
    figure: Callable[[NDArray[np.intp]], float | None],
    resamples: int = RESAMPLES,
    classes: NDArray[np.generic] | None = None,
) -> Metric | None:
    """A figure over recordings, with percentiles of what it becomes when whole groups are drawn with replacement.

    Args:
        groups: of each recording.
        figure: the figure over the recordings with these indices; None where it is not defined.
        resamples: how often groups are drawn.
        classes: of each recording; without two groups of each, drawing tells nothing and there is no interval.

    Returns:
        None where the figure is not defined on all recordings.
    """
    everything = np.arange(len(groups))
    value = figure(everything)
    if value is None:
        return None
    if fewest_groups(groups, np.zeros(len(groups)) if classes is None else classes) < 2:
        return Metric(value, float("nan"), float("nan"), len(groups))
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    by_group = [np.array(m) for m in members.values()]
    rng = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(resamples):
        pick = rng.integers(len(by_group), size=len(by_group))
        again = figure(np.concatenate([by_group[k] for k in pick]))
        if again is not None:
            drawn.append(again)
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (value, value)
    return Metric(value, min(value, float(low)), max(value, float(high)), len(groups))


def fewest_groups(groups: Sequence[str], classes: NDArray[np.generic]) -> int:
    """Groups of the class that has fewest."""
    of = np.asarray(groups, dtype=str)
    return min(len(np.unique(of[classes == c])) for c in np.unique(classes))


def ranking_metrics(
    truth: Bools, score: Floats, groups: Sequence[str], resamples: int = RESAMPLES
) -> dict[str, Metric]:
    """AUC and pAUC of recordings; nothing where all are normal or all abnormal."""

    def of(area: Callable[[Bools, Floats], float]) -> Metric | None:
        return bootstrap(groups, lambda i: area(truth[i], score[i]) if _both(truth[i]) else None, resamples, truth)

    found = {"auc": of(auc), "pauc_0.1": of(partial_auc)}
    return {name: metric for name, metric in found.items() if metric is not None}


def binary_metrics(truth: Bools, score: Floats, decision: Bools, groups: Sequence[str]) -> dict[str, Metric]:
    """AUC, pAUC, balanced accuracy, recall and precision of recordings; only those that are defined."""

    def balanced(i: NDArray[np.intp]) -> float | None:
        if not _both(truth[i]):
            return None
        return (float(decision[i][truth[i]].mean()) + float((~decision[i][~truth[i]]).mean())) / 2

    metrics = ranking_metrics(truth, score, groups)
    if (accuracy := bootstrap(groups, balanced, classes=truth)) is not None:
        metrics["balanced_accuracy"] = accuracy
    of = np.asarray(groups, dtype=str)
    if truth.any():
        metrics["recall"] = proportion(decision[truth], of[truth].tolist())
    if decision.any():
        metrics["precision"] = proportion(truth[decision], of[decision].tolist())
    return metrics


def _both(truth: Bools) -> bool:
    return bool(truth.any() and not truth.all())


def class_metrics(truth: NDArray[np.str_], decided: NDArray[np.str_], groups: Sequence[str]) -> dict[str, Metric]:
    """Macro F1 and balanced accuracy of recordings."""
    found = {
        "macro_f1": bootstrap(groups, lambda i: macro_f1(truth[i], decided[i]), classes=truth),
        "balanced_accuracy": bootstrap(groups, lambda i: balanced_accuracy(truth[i], decided[i]), classes=truth),
    }
    return {name: metric for name, metric in found.items() if metric is not None}


def delay_metrics(delays_s: Sequence[float], groups: Sequence[str]) -> dict[str, Metric]:
    """Median and 99th percentile of the delay between onset and alarm."""
    if not delays_s:
        return {}
    values = np.array(delays_s)
    found = {
        "delay_s_p50": bootstrap(groups, lambda i: float(np.quantile(values[i], 0.5))),
        "delay_s_p99": bootstrap(groups, lambda i: float(np.quantile(values[i], 0.99))),
    }
    return {name: metric for name, metric in found.items() if metric is not None}
