"""Advisories about a tool as scorers: a missing bit, wear, a silent bit of a head.

They tell of one hole against those before, so that all recordings of a program are heard one after the other, in the
manifest's order, by one detector, as a machine hears them: those of other splits, too, of which nothing is counted. The
first good ones that learn teach; from then on the detector follows what it hears, as it does live.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from operators.base import Stateful
from operators.breakage_detector import BREAK, MISSING, WEAR
from operators.head_detector import SILENT
from operators.head_geometry import HeadGeometry
from pipeline.clips import Clip, read_clip
from pipeline.manifest import NORMAL_LABELS, Row, learning_rows
from pipeline.messages import NS, Alarm, Score
from pipeline.validation.head import HeadScorer
from pipeline.validation.physics import (
    BETWEEN,
    BIT_MISSING,
    LATER,
    TAUGHT,
    WORN,
    BreakScorer,
    PhysicsScorer,
    Unverified,
    alarms_of,
    program,
)

Name = tuple[str, float]
_UNHEARD = "no hole that it could judge was heard (a missing bit asks for the columns cut_from_s and cut_until_s)"


class ToolScorer(PhysicsScorer):
    """Judges each hole by the advisory's score at its end; its alarms are those that a running machine would raise.

    So an alarm that needs two holes is missing from the first of them, though that hole is found, and one that stays
    from hole to hole counts once.

    Args:
        rows: of the manifest.
        normal: labels that mean normal.
        kind: hears and teaches as for breaks; is given the rows that teach.
    """

    def __init__(self, rows: Sequence[Row], normal: Collection[str], kind: type[BreakScorer] = BreakScorer) -> None:
        teachers: dict[tuple[str, ...], list[Row]] = {}
        for row in learning_rows(rows):
            if row.label in normal:
                teachers.setdefault(program(row), []).append(row)
        first = [row for good in teachers.values() for row in good[:TAUGHT]]
        self._rows, self._taught = rows, {_name(row) for row in first}
        self._kind = self._made(kind, first, normal)
        self._found: dict[Name, list[Score]] = {}
        self._raised: dict[Name, list[Alarm]] = {}
        self._heard: set[tuple[str, ...]] = set()

    def _made(self, kind: type[BreakScorer], first: Sequence[Row], normal: Collection[str]) -> BreakScorer:
        return kind(first, normal)

    @property
    def used_groups(self) -> Collection[str]:
        """Groups of the good holes that taught."""
        return self._kind.used_groups

    def scores(self, clip: Clip) -> list[Score]:
        """Those of the advisory in one recording; the first call hears the whole program.

        Raises:
            Unverified: nothing in it, or in its program, could be judged.
        """
        known = program(clip.row)
        if known not in self._heard:
            self._hear(known, self._kind.commissioned(clip.row))
            self._heard.add(known)
        found = self._found[_name(clip.row)]
        if not found:
            raise Unverified(_UNHEARD)
        return found

    def alarms(self, row: Row, scores: Sequence[Score]) -> list[Alarm]:  # noqa: ARG002  heard before
        """Those that come in one recording."""
        return self._raised[_name(row)]

    def decide(self, row: Row, scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:  # noqa: ARG002  of the base
        """By the last score."""
        return scores[-1].abnormal

    def _hear(self, known: tuple[str, ...], detector: Stateful) -> None:
        stages: dict[str, Stateful] = {}
        begun_ns = 0
        for later, row in enumerate(self._rows, LATER):
            if program(row) != known or _name(row) in self._taught:
                continue
            clip = read_clip(row)
            scores = [s for s in self._kind.heard(clip, detector, later) if s.detector == self.detector]
            self._found[_name(row)] = scores
            moved = [replace(s, t_end_ns=s.t_end_ns + begun_ns) for s in scores]
            self._raised[_name(row)] = [replace(a, t_ns=a.t_ns - begun_ns) for a in alarms_of(moved, stages)]
            begun_ns += round((clip.seconds + 1.0) * NS)


class MissingScorer(ToolScorer):
    """Holes that are too quiet for their tool, as it is missing or broken off; the break itself counts nowhere."""

    detector = MISSING
    uncounted = BETWEEN | {BREAK, WORN}

    def __init__(self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS) -> None:
        super().__init__(rows, normal)


class WearScorer(ToolScorer):
    """Holes drilled with a bit near its end (``worn``); holes in which it breaks, or without it, count nowhere."""

    detector = WEAR
    uncounted = BETWEEN | {BREAK, BIT_MISSING}

    def __init__(self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS) -> None:
        super().__init__(rows, normal)


class SilentScorer(ToolScorer):
    """The bit of a head that is missing (label ``bit_missing``): found where the one that the row tells is named."""

    detector = SILENT
    uncounted = BETWEEN | {BREAK}

    def __init__(
        self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS, places: Mapping[str, HeadGeometry] = {}
    ) -> None:
        self._places = places
        super().__init__(rows, normal, HeadScorer)

    def _made(self, kind: type[BreakScorer], first: Sequence[Row], normal: Collection[str]) -> BreakScorer:  # noqa: ARG002
        return HeadScorer(first, normal, self._places)

    def decide(self, row: Row, scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:
        """By the last score; it must name the bit."""
        told = row.extra.get("spindle") or ""
        right = not told or scores[-1].reasons.get("spindle") == int(float(told))
        return right and super().decide(row, scores, raised)


def _name(row: Row) -> Name:
    return row.name, row.start_s
