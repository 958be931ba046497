"""Other places at which good holes of a program end: holes of several depths, a cavity that the drill passes through.

Without a burst the end of a shorter hole sounds like a broken drill. Where holes of the same program have just ended
again and again it is taken for their end. A drill that breaks does so seldom twice at one place, and is missing in the
hole after it: then the place is no end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SAME, _SAME_FRAMES = 0.05, 10
_TWICE = 2
_LATELY = 20
_KEPT = 8


class Ends:
    """Places in frames since the drill began to cut: how often holes ended there, and after how many good ones last.

    An end is known once it was heard twice with no more than 20 good holes between, and forgotten once it was not heard
    for as many. The eight heard last are kept.
    """

    def __init__(self) -> None:
        self._good = 0
        self._heard: list[tuple[int, int, int]] = []
        self._newest = False

    def good(self) -> None:
        """One more good hole."""
        self._good += 1
        self.keep()

    def keep(self) -> None:
        """Whatever comes next says nothing about the last hole."""
        self._newest = False

    def withdraw(self) -> None:
        """No tool was heard in the hole after one that ended at a place: it broke there, and that is no end."""
        if self._newest:
            del self._heard[-1]
        self.keep()

    def add(self, place: int) -> None:
        """One more hole ended here."""
        known = next((end for end in self._heard if near(place, end[0])), None)
        times = 1 if known is None or self._good - known[2] > _LATELY else known[1] + 1
        others = [end for end in self._heard if end is not known]
        self._heard = [*others[1 - _KEPT :], (place if known is None else known[0], times, self._good)]
        self._newest = True

    def __contains__(self, place: int) -> bool:
        """Whether holes end here."""
        return any(t >= _TWICE and self._good - last <= _LATELY and near(place, end) for end, t, last in self._heard)

    def snapshot(self) -> list[Any]:
        """All of it as JSON values."""
        return [self._good, [list(end) for end in self._heard], self._newest]

    def restore(self, state: Sequence[Any]) -> None:
        """Become the ends that gave this snapshot; earlier versions did not say which end is the newest."""
        self._good, heard, *newest = state
        self._heard = [(place, times, last) for place, times, last in heard]
        self._newest = bool(newest and newest[0])


def near(place: int, other: int) -> bool:
    """Whether two places are one: within 5 %, or 50 ms."""
    return abs(place - other) <= max(_SAME * other, _SAME_FRAMES)
