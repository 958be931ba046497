"""How much the long windows of a cut speak for chatter: one number a window, averaged over up to 0.7 s.

Log-odds that are linear in five things that chatter changes and stable cutting, noise and tones leave alone: the
coherent share, how far neighbours a tooth passing and a rotation away stand out of the noise, whether the force has a
harmonic beside the line at all, and what the synchronous average leaves. None of them decides alone: what the force's
own noise rings in a mode has a share of nearly all where the force is smooth, but no harmonic beside it; hall noise
leaves as much as chatter behind the average, but no neighbours.

Weights are those of a logistic regression, rounded, on simulated cuts of 280 chattering and 400 stable machines, twelve
of these under eleven wrong speeds, 40 beside another machine (seeds 8101 to 8114; `tests/operators/simulated.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, log
from typing import Any

SURE = 3.0
"""Evidence of one long window with which a fast decision stands."""
_ENOUGH = ((14, 1.2), (8, 3.0), (4, 5.0))
"""Windows in a row, one in 50 ms, and the mean evidence that is enough for them."""
_LEAST_SHARE = 0.05
"""Coherent share below which nothing speaks for chatter: images of a clipping sensor have neighbours, too."""
_STEP = 10.0  # evidence over what is enough that doubles the score
_WEIGHTS = (0.5, 0.25, 0.4, 0.1, 1.2)
_OFFSET = -3.5


def evidence(v: Mapping[str, float]) -> float:
    """Log-odds of chatter from a long window's values (see `ChatterFeatures`); at most 0 where few are coherent."""
    share = _within(v["coherent"], 0.001, 0.999)
    terms = (
        log(share / (1.0 - share)),
        _within(v["long_pair_db"], 0.0, 35.0),
        _within(v["long_side_db"], 0.0, 30.0),
        _within(v["forced_db"], -40.0, 20.0),
        log(_within(v["residual"], 0.001, 100.0)),
    )
    found = _OFFSET + sum(weight * term for weight, term in zip(_WEIGHTS, terms, strict=True))
    return found if share >= _LEAST_SHARE else min(found, 0.0)


class Evidence:
    """The evidence of the last long windows of an uninterrupted cut."""

    def __init__(self, kept: Iterable[float] = ()) -> None:
        self._kept = list(kept)

    def take(self, of_window: float) -> None:
        """That of one more long window."""
        self._kept = [*self._kept[1 - _ENOUGH[0][0] :], round(of_window, 3)]

    @property
    def last(self) -> float:
        """Of the last window; minus infinity before the first."""
        return self._kept[-1] if self._kept else -inf

    @property
    def ratio(self) -> float:
        """Above 1 where it is enough; 0 before four windows, and where as much speaks against chatter as for it."""
        n = len(self._kept)
        means = [(sum(self._kept[-count:]) / count, enough) for count, enough in _ENOUGH if n >= count]
        over = [(mean - enough) / (_STEP if mean > enough else enough) for mean, enough in means]
        return max(0.0, 1.0 + max(over)) if over else 0.0

    def snapshot(self) -> list[Any]:
        """As JSON values."""
        return list(self._kept)


def _within(x: float, least: float, most: float) -> float:
    return min(max(x, least), most)
