"""What stable cutting sounds like at each speed, and the threshold of chatter that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import median
from typing import Any

from operators.spectral import MAD_TO_STD

LEAST, UNKNOWN, MOST = 0.4, 0.65, 0.75
"""Bounds of the threshold of the tonal share, and the threshold before a baseline is known."""

_LEAST_KNOWN, _KEPT = 20, 100
_MOST_POINTS = 8
_STEP = 0.02  # speeds that differ by less share a baseline


class Points:
    """Baselines of the speeds that were cut at last, at most eight; the threshold is that of the present speed."""

    def __init__(self) -> None:
        self._points: dict[int, list[float]] = {}
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

    @property
    def limit(self) -> float:
        """Threshold of the tonal share at this speed: median + 6 MAD (scaled), within bounds."""
        known = self._points.get(self.place, [])
        if len(known) < _LEAST_KNOWN:
            return UNKNOWN
        middle = median(known)
        spread = MAD_TO_STD * median(abs(share - middle) for share in known)
        return min(max(middle + 6.0 * spread, LEAST), MOST)

    def snapshot(self) -> list[list[Any]]:
        """As JSON values."""
        return [[place, list(known)] for place, known in self._points.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Take a snapshot over; the present speed is told anew."""
        self._points = {place: list(known) for place, known, *_ in state}
