"""A spindle's speed as a test tells it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import inf

from operators.spindle import Reading


class ToldSpeed:
    """Readings that hold from their times on, in ns; a window waits that ends behind `known_ns`.

    Args:
        readings: (time in ns, what holds from then on), in the order of their times; missing before the first.
    """

    def __init__(self, readings: Sequence[tuple[int, Reading]] = ()) -> None:
        self._times, self._readings = [t for t, _ in readings], [reading for _, reading in readings]
        self.known_ns: float = inf

    def waits(self, t_ns: int) -> bool:
        """Whether the facts of a window that ends then are still on their way."""
        return t_ns > self.known_ns

    def at(self, t_ns: int) -> Reading:
        """What holds for a window that ends then."""
        at = bisect_right(self._times, t_ns)
        return self._readings[at - 1] if at else Reading(0.0, "missing")
