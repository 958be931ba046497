"""How loud the holes of a program usually are, and a step of that level that is the sensor's, not the tool's.

A microphone that was moved, or another gain, makes holes and idle machine quieter or louder alike. A tool that is
missing, broken, chipped or worn changes its holes alone, and may keep their timing and their composition by band. A
step is therefore learned only where the idle machine between the holes took it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from operators.hole_template import Heard, HoleTemplate

LEAST_DB = 3.0
"""A smaller step is no step: the usual level follows it, the template stays as taught."""
_SPREAD_DB = 2.5
_IDLE_APART_DB = 3.0
_FEWEST = 4
_MEMORY = 4
_USUAL = 20
"""Holes in a row that make any level, also one that is not learned, the usual one against which steps are heard."""


@dataclass(frozen=True, slots=True)
class Step:
    """Holes in a row that are off the usual level with the idle machine: by how much, how many, and of how many.

    Attributes:
        db: negative where they are quieter.
        holes: so far.
        needed: until the level is learned anew.
    """

    db: float
    holes: int
    needed: int

    @property
    def learned(self) -> bool:
        """Whether the level is learned anew with this hole."""
        return self.holes >= self.needed


class HoleLevel:
    """Usual level of the holes and of the idle machine before them, and the holes in a row that are off it.

    Args:
        teach: holes that make a template; so many in a row, at least four, make a new level.
    """

    def __init__(self, teach: int) -> None:
        self._needed = max(teach, _FEWEST)
        self._level = 0.0
        self._idle: list[float] = []
        self._run: list[list[float]] = []

    @property
    def is_usual(self) -> bool:
        """Whether the last hole was not off the usual level."""
        return not self._run

    def interrupt(self) -> None:
        """A hole that was no good one: what follows is no row with what went before."""
        self._run = []

    def hear(self, hole: Heard, template: HoleTemplate) -> Step | None:
        """Take in a hole, also a faint one; say whether it is off the usual level as the idle machine is."""
        if not template.same(hole):
            self._run = [] if template.may_be_hole(hole) else self._run
            return None
        if not self._idle:
            self._level, self._idle = template.mean_level(), list(template.idle_db)
        off = hole.level_db - self._level
        if abs(off) < LEAST_DB:
            self._follow(hole)
            return None
        if len(self._idle) != len(hole.idle_db):  # learned by an earlier version, and off it ever since
            return None
        idle_off = median(now - was for now, was in zip(hole.idle_db, self._idle, strict=True))
        self._run = [*self._run[1 - _USUAL :], [off, idle_off]]
        while max(db for db, _ in self._run) - min(db for db, _ in self._run) > _SPREAD_DB:
            del self._run[0]
        return self._step()

    def _follow(self, hole: Heard) -> None:
        self._run = []
        self._level += (hole.level_db - self._level) / _MEMORY
        idle = self._idle or hole.idle_db
        self._idle = [was + (now - was) / _MEMORY for was, now in zip(idle, hole.idle_db, strict=True)]

    def _step(self) -> Step | None:
        lately = self._run[-self._needed :]
        off, idle_off = (median(column) for column in zip(*lately, strict=True))
        if not _together(off, idle_off):
            if len(self._run) == _USUAL:
                self._move(*(median(column) for column in zip(*self._run, strict=True)))
            return None
        if len(lately) == self._needed:
            self._move(off, off)
        return Step(off, len(lately), self._needed)

    def _move(self, db: float, idle_db: float) -> None:
        self._level, self._idle, self._run = self._level + db, [was + idle_db for was in self._idle], []

    def snapshot(self) -> list[Any]:
        """All of it as JSON values."""
        return [self._level, list(self._idle), [list(one) for one in self._run]]

    def restore(self, state: Sequence[Any]) -> None:
        """Become the level that gave this snapshot."""
        self._level, idle, run = state
        self._idle, self._run = list(idle), [list(one) for one in run]


def _together(off_db: float, idle_off_db: float) -> bool:
    """Whether the idle machine took the same step as the holes."""
    return abs(idle_off_db - off_db) <= min(_IDLE_APART_DB, abs(off_db) / 2.0)
