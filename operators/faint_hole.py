"""What is louder than the idle machine, or is said to cut, but too faint for a hole of the taught level.

Where it lasts like a hole the tool is missing or broken, or the sensor hears less than before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log10
from typing import Any

from operators.band_levels import TINY, excess, mean, ratio
from operators.hole_course import course
from operators.hole_template import Heard, Hole, HoleTemplate
from operators.idle_floor import IdleFloor

BACK = 1.4
ENDED = 20
"""Frames back at the idle level that end a hole."""
LEAD = 40
"""Frames before that belong to a hole."""
NOW = 8
"""Frames that the present level is the mean of."""
HALL_SHARE, IDLE_SHARE = 0.001, 0.01
"""Share of a frame in the running mean of the idle level: 5 s where it must not follow a faint hole, 0.5 s."""
_HOLE_SHARE = 0.5
"""At most of that of a whole hole: long ones must not become idle while they last."""
_LENGTH = 0.3
_LONG = 1.5
"""What lasts longer than so many holes needs no longer course: it is none."""


@dataclass(frozen=True, slots=True)
class Faint:
    """What was too faint for a hole and is over.

    Attributes:
        below_db: how far it lies below the template; None where it did not last like a hole.
        heard: its course and composition.
    """

    below_db: float | None
    heard: Heard


class FaintHoles:
    """Follows what is faint between holes. What is still said to cut behind one, as while drawn back, misses none."""

    def __init__(self) -> None:
        self._base: list[float] = []
        self._frames, self._sum, self._still = 0, 0.0, 0
        self._drilled = False
        self._hole: Hole | None = None
        self._before: list[float] = []

    def forget(self, *, idle: bool) -> None:
        """Nothing faint is under way; with `idle`, nor is the idle level known."""
        self._frames, self._sum, self._still, self._hole = 0, 0.0, 0, None
        self._base = [] if idle else self._base

    def drilled(self) -> None:
        """A hole is over."""
        self._drilled = True

    def watch(
        self, recent: Sequence[Sequence[float]], idle: Sequence[float], floor: IdleFloor, template: HoleTemplate, *,
        told: bool,
    ) -> Faint | None:  # fmt: skip
        """Take in the newest of the recent frames; return what is over with it.

        Args:
            recent: powers by band, the newest last.
            idle: those of the idle machine.
            floor: the same without what is faint.
            template: of the good holes; ready.
            told: whether the machine says that it cuts.
        """
        level = mean(recent[-NOW:])
        self._base = self._base or list(idle)
        louder = ratio(level, self._base) > BACK
        self._drilled = self._drilled and told
        faint = louder or (told and not self._drilled)
        if self._hole is None and (faint or self._frames):
            self._hole, self._before = Hole(idle=floor.level), list(self._base)
            for frame in recent[-LEAD:-1]:
                self._hole.take(frame, self._before)
        if self._hole is not None and self._hole.frames < _LONG * template.mean_frames():
            self._hole.take(recent[-1], self._before)
        share = min(HALL_SHARE, _HOLE_SHARE / template.mean_frames()) if louder else IDLE_SHARE
        self._base = [a + share * (b - a) for a, b in zip(self._base, level, strict=True)]
        if faint:
            self._frames, self._still = self._frames + 1, 0
            self._sum += sum(excess(level, self._base))
            return None
        self._still += 1
        return self._over(level, template) if self._still >= ENDED else None

    def _over(self, level: list[float], template: HoleTemplate) -> Faint | None:
        lasted, total, hole = self._frames, self._sum, self._hole
        self._frames, self._sum, self._hole = 0, 0.0, None
        if 1.5 * sum(level) < sum(self._base):  # the idle level has followed what is over
            self._base = level
        if lasted == 0 or hole is None or not hole.bins:
            return None
        below = template.mean_level() - 10.0 * log10(max(total / lasted, TINY))
        heard = Heard.of(hole, course(hole.bins, self._before))
        return Faint(None if template.unlike(lasted, _LENGTH) else below, heard)

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values, part of the detector's."""
        return {
            "base": list(self._base),
            "faint": [self._frames, self._sum, self._still],
            "drilled": self._drilled,
            "faint_hole": None if self._hole is None else [asdict(self._hole), list(self._before)],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a detector's snapshot; earlier versions kept no course of what is faint."""
        self._base = list(state["base"])
        self._frames, self._sum, self._still = state["faint"]
        self._drilled = bool(state.get("drilled", False))
        hole, before = state.get("faint_hole") or (None, [])
        self._hole, self._before = None if hole is None else Hole(**hole), list(before)
