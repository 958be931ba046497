"""What stable cutting sounds like at each speed, and the thresholds of chatter that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median
from typing import Any

from operators.spectral import MAD_TO_STD

LEAST, UNKNOWN, MOST = 0.4, 0.65, 0.75
"""Bounds of the threshold of the tonal share, and the threshold before a baseline is known."""
LONG_LEAST, LONG_UNKNOWN, LONG_MOST = 0.4, 0.5, 0.7
"""The same of the coherent share in the long window."""
WEAK_LEAST = 0.15
"""Least coherent share that counts as weak chatter, where the stable cutting of this speed is known."""

_LEAST_KNOWN, _KEPT = 20, 100
_MOST_POINTS = 8
_STEP = 0.02  # speeds that differ by less share a baseline


@dataclass(slots=True)
class _Point:
    """Tonal shares of stable cutting at one speed, newest last, of the short and the long window."""

    short: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)


class Points:
    """Baselines of the speeds that were cut at last, at most eight; thresholds are those of the present speed."""

    def __init__(self) -> None:
        self._points: dict[int, _Point] = {}
        self.place = 0
        """The present speed's number, the same for speeds within 2 %."""

    def at(self, rpm: float) -> None:
        """The present speed; 0 before the first."""
        self.place = round(log(rpm) / _STEP) if rpm else 0

    def learn(self, tonal: float, coherent: float | None) -> None:
        """Shares of stable cutting: of the short window, and of the long one where it has been looked at."""
        point = self._points.pop(self.place, None) or _Point()
        point.short = [*point.short[1 - _KEPT :], round(tonal, 4)]
        if coherent is not None and coherent < LONG_MOST:
            point.long = [*point.long[1 - _KEPT :], round(coherent, 4)]
        self._points[self.place] = point
        while len(self._points) > _MOST_POINTS:
            del self._points[next(iter(self._points))]

    @property
    def limits(self) -> tuple[float, float]:
        """Thresholds of the tonal share in the short and the coherent share in the long window at this speed."""
        point = self._points.get(self.place)
        long_limit, limit = LONG_UNKNOWN, UNKNOWN
        if point is not None and len(point.long) >= _LEAST_KNOWN:
            long_limit = _above(point.long, LONG_LEAST, LONG_MOST)
        if point is not None and len(point.short) >= _LEAST_KNOWN:
            limit = _above(point.short, LEAST, MOST)
        return limit, long_limit

    @property
    def weak_limit(self) -> float:
        """Threshold of the coherent share for weak chatter: from the stable cutting of this speed, if known."""
        point = self._points.get(self.place)
        if point is None or len(point.long) < _LEAST_KNOWN:
            return LONG_UNKNOWN
        return _above(point.long, WEAK_LEAST, LONG_UNKNOWN)

    def snapshot(self) -> list[list[Any]]:
        """As JSON values."""
        return [[place, list(point.short), list(point.long)] for place, point in self._points.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Take a snapshot over; the present speed is told anew."""
        self._points = {place: _Point(list(short), list(long)) for place, short, long in state}


def _above(shares: list[float], least: float, most: float) -> float:
    """Median + 6 MAD (scaled), within bounds."""
    middle = median(shares)
    spread = MAD_TO_STD * median(abs(share - middle) for share in shares)
    return min(max(middle + 6.0 * spread, least), most)
