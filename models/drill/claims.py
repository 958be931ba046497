"""What may be said about augmentation, and what is published beside it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from models.drill.data import Float64
from models.drill.metrics import auc, mcnemar, over_repeats, wilson
from models.drill.protocol import Rows
from models.metrics import Interval


@dataclass(frozen=True, slots=True)
class Gain:
    """An arm against no augmentation.

    Attributes:
        auc: gain of the AUC with its paired bootstrap interval over groups.
        mcnemar_p: on the decisions pooled over repeats.
    """

    auc: Interval
    mcnemar_p: float

    @property
    def verdict(self) -> str:
        """``"helps"`` or ``"harms"`` only if the interval of the gain excludes 0, else ``"not shown"``."""
        if self.auc.low > 0.0:
            return "helps"
        return "harms" if self.auc.high < 0.0 else "not shown"


def gain(arm: Float64, none: Float64, target: Float64, rows: Sequence[Rows]) -> Gain:
    """Compare two sets of held-out scores of the same clips, both of shape (repeats, n); rows as in `resamples`."""
    values = [over_repeats(auc, arm[:, r], target[r]) - over_repeats(auc, none[:, r], target[r]) for r in rows]
    low, high = np.quantile(values, [0.025, 0.975])
    value = over_repeats(auc, arm, target) - over_repeats(auc, none, target)
    return Gain(Interval(value, float(low), float(high)), mcnemar(arm.mean(axis=0), none.mean(axis=0), target))


@dataclass(frozen=True, slots=True)
class Published:
    """One published accuracy; counts are derived from the percentage and the size of the validation set."""

    network: str
    what: str
    right: int
    count: int
    repeated: bool

    @property
    def interval(self) -> Interval:
        """With its Wilson interval."""
        return wilson(self.right, self.count)


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return tomllib.loads((files("models.drill") / "published.toml").read_text(encoding="utf-8"))


def published() -> list[Published]:
    """All published accuracies, in the paper's order of merit."""
    return [Published(**row) for row in _table()["accuracy"]]


def published_coherence() -> tuple[float, ...]:
    """The three marked coherences of the paper's figure 6."""
    return tuple(row["coherence"] for row in _table()["coherence"])


def published_gain_p() -> float:
    """Fisher's exact p of the published gain, 64 of 68 against 35 of 40."""
    rows = {(p.network, p.what): p for p in published()}
    a, b = rows["AlexNet", "augmented"], rows["AlexNet", "originals only"]
    return float(fisher_exact([[a.right, a.count - a.right], [b.right, b.count - b.right]]).pvalue)
