"""What stable cutting sounds like at each speed, and the threshold of chatter that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from statistics import median
from typing import Any

from operators.spectral import MAD_TO_STD

LEAST, UNKNOWN, MOST = 0.4, 0.65, 0.75
"""Bounds of the threshold of the tonal share, and the threshold before a baseline is known."""

_LEAST_KNOWN, _KEPT = 20, 100
_MOST_POINTS = 8
_STEP = 0.02  # speeds that differ by less share a baseline
_MARGIN, _MOST_TIMES = 1.25, 1.5
"""What the next good cut may have over the largest value so far, and how far the threshold rises at most: where
simulated stable cuts came near the threshold, chatter in them reached 1.6 to 2.9 times its usual value (seed 9501)."""
_MOST_GOOD = 32


class Points:
    """Baselines of the speeds that were cut at last, at most eight; the threshold is that of the present speed."""

    def __init__(self) -> None:
        self._points: dict[int, list[float]] = {}
        self._good: dict[int, float] = {}
        self.place = 0
        """The present speed's number, the same for speeds within 2 %."""

    def at(self, rpm: float) -> None:
        """The present speed; 0 before the first."""
        self.place = round(log(rpm) / _STEP) if rpm else 0

    def learn(self, tonal: float) -> None:
        """The tonal share of a short window of stable cutting."""
        known = self._points.pop(self.place, [])
        self._points[self.place] = [*known[1 - _KEPT :], round(tonal, 4)]
        while len(self._points) > _MOST_POINTS:
            del self._points[next(iter(self._points))]

    def bear(self, times: float) -> float:
        """What a cut that is known to be good reaches, in thresholds; the largest at this speed is kept, and told."""
        known = max(self._good.pop(self.place, 0.0), round(times, 3))
        self._good[self.place] = known
        while len(self._good) > _MOST_GOOD:
            del self._good[next(iter(self._good))]
        return known

    @property
    def times(self) -> float:
        """How many times its usual value the threshold is after what good cuts at this speed have reached, 1 to 1.5."""
        known = max(self._good.get(self.place + step, 0.0) for step in (-1, 0, 1))
        return min(max(_MARGIN * known, 1.0), _MOST_TIMES)

    @property
    def limit(self) -> float:
        """Threshold of the tonal share at this speed: median + 6 MAD (scaled), within bounds."""
        known = self._points.get(self.place, [])
        if len(known) < _LEAST_KNOWN:
            return UNKNOWN
        middle = median(known)
        spread = MAD_TO_STD * median(abs(share - middle) for share in known)
        return min(max(middle + 6.0 * spread, LEAST), MOST)

    def snapshot(self) -> dict[str, list[list[Any]]]:
        """As JSON values."""
        points = [[place, list(known)] for place, known in self._points.items()]
        return {"points": points, "good": [[place, known] for place, known in self._good.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what is in a snapshot; the present speed is told anew. Earlier versions knew no good cuts."""
        self._points = {place: list(known) for place, known, *_ in state["points"]}
        self._good = dict(state.get("good", ()))
