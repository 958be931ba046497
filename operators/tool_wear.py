"""Wear of a drill's bit: the cumulative sum (CUSUM, Page 1954) of the level in which wear shows, bit by bit.

Another bit is louder or softer from its first hole on, a worn one grows louder hole by hole. So where the bit may have
been changed (a hole broke off, or was drilled without it, or the level fell at once) three holes tell what is usual for
it, and the sum begins anew. Where they sound as the holes before did, it is the same bit and the sum goes on.

The few holes that taught say little of how much good ones differ. So the standard deviation is at least that of the
moving range, mean |x_i - x_(i-1)| / 1.128 (control chart for individuals, ISO 7870-2), which wear hardly changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

ALLOWANCE, LIMIT = 0.5, 8.0
FRESH = 3
"""Holes that tell what is usual for another bit."""
_FALLEN = 2.0  # standard deviations below the last holes that may mean another bit
_STUMP = -8.0  # standard deviations: what is so soft is no bit that could be learned
_RANGE_TO_STD = 1.128  # mean range of two normal values
_RANGES = 4, 40  # fewest that say something, and how many count
_SLIGHT = 2.0  # up to here the sum is nothing that a doubtful change could lose


@dataclass(frozen=True, slots=True)
class Wear:
    """After one hole.

    Attributes:
        z: level above what is usual for this bit, in standard deviations of good holes.
        total: the cumulative sum, 0 to twice the limit.
        fresh: holes so far of what may be another bit; 0 where none is expected, 3 where it is known.
        another: whether it is another one.
    """

    z: float
    total: float
    fresh: int = 0
    another: bool = False


class ToolWear:
    """Sum of z - 1, never below 0, over the holes of one bit."""

    def __init__(self) -> None:
        self.total = 0.0
        self._usual = 0.0
        self._recent: list[float] = []
        self._fresh: list[float] | None = None
        self._last_db: float | None = None
        self._range_db, self._ranges = 0.0, 0

    def suspect(self) -> None:
        """The bit broke, or is missing: the next one that drills may be another."""
        self._fresh, self._last_db = [], None

    def hear(self, off_db: float, std_db: float) -> Wear:
        """Take in a whole hole.

        Args:
            off_db: level between 3 and 12 kHz above the taught one.
            std_db: standard deviation of that level over the holes that taught, more than 0.
        """
        std_db = self._spread(off_db, std_db)
        if self._fresh is None and self._has_fallen(off_db, std_db):
            self.suspect()
        z = (off_db - self._usual) / std_db
        if self._fresh is None:
            self._add(z)
            self._recent = [*self._recent[1 - FRESH :], off_db]
            return Wear(z, self.total)
        if z < _STUMP:
            self.suspect()
            return Wear(z, min(self.total, LIMIT))
        self._fresh.append(off_db)
        if len(self._fresh) < FRESH:
            return Wear(z, min(self.total, LIMIT), len(self._fresh))
        heard, self._fresh = self._fresh, None
        differs = not self._recent or abs(fmean(heard) - fmean(self._recent)) > std_db
        another = differs or self.total < _SLIGHT
        self._recent = heard
        if another:
            self._usual, self.total = fmean(heard), 0.0
        else:
            for one in heard:
                self._add((one - self._usual) / std_db)
        return Wear((off_db - self._usual) / std_db, self.total, FRESH, another)

    def _spread(self, off_db: float, std_db: float) -> float:
        fewest, most = _RANGES
        if self._last_db is not None:
            self._ranges = min(self._ranges + 1, most)
            self._range_db += (abs(off_db - self._last_db) - self._range_db) / self._ranges
        self._last_db = off_db
        return max(std_db, self._range_db / _RANGE_TO_STD) if self._ranges >= fewest else std_db

    def _has_fallen(self, off_db: float, std_db: float) -> bool:
        if self.total < 0.5 * LIMIT or len(self._recent) < FRESH:  # less is often chance, and so is the level then
            return False
        return fmean(self._recent) - off_db > _FALLEN * std_db

    def _add(self, z: float) -> None:
        self.total = min(max(0.0, self.total + z - ALLOWANCE), 2.0 * LIMIT)

    def snapshot(self) -> list[Any]:
        """All of it as JSON values."""
        fresh = None if self._fresh is None else list(self._fresh)
        return [self.total, self._usual, list(self._recent), fresh, self._last_db, self._range_db, self._ranges]

    def restore(self, state: Sequence[Any]) -> None:
        """Become the one that gave this snapshot."""
        self.total, self._usual, recent, fresh, self._last_db, self._range_db, self._ranges = state
        self._recent, self._fresh = list(recent), None if fresh is None else list(fresh)
