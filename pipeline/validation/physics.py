"""Physics detectors as a scorer: each recording is heard by the live lane's operators, under what its row tells.

Nothing is guessed: a recording whose row lacks what a detector must know (spindle speed, teeth, a bearing's geometry,
good holes of its program) is unverified. It raises nothing, counts as missed where it shows a fault, and its time does
not count as time without false alarms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from math import radians

import numpy as np

from config.schema import CHATTER_HZ
from config.schema import Persistence as PersistenceSettings
from operators.base import Stateful, Windowed
from operators.bearing import BearingLines, Geometry
from operators.breakage import BreakFeatures
from operators.breakage_detector import BREAK, BreakDetector
from operators.chatter import LONGEST_S, ChatterFeatures
from operators.chatter_detector import ChatterDetector
from operators.chatter_plan import window_s
from operators.spindle import GivenSpeed, Reading
from operators.teeth import TOOTH_LOSS
from pipeline.clips import Clip, read_clip, second_ns
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, Row, is_split, learning_rows
from pipeline.messages import Alarm, Anchor, Score, Segment, Stream
from pipeline.stages_physics import alarm_persistence
from pipeline.validation.rates import quiet_until_s
from pipeline.validation.scorer import Judged

BETWEEN = frozenset({"transition"})
"""Labels of what is neither normal nor a fault: such recordings are shown and counted nowhere."""
BIT_MISSING, WORN = "bit_missing", "worn"
"""Labels of holes drilled without the bit, or with one near its end: breaks are judged in neither."""
TAUGHT = 4
LATER = 1_000_000
"""Epoch of a recording that is judged by itself: after all those that taught."""


class Unverified(Exception):
    """The row does not tell what the detector must know; the text says what."""


class PhysicsScorer(ABC):
    """Judges recordings by one physics detector.

    A recording is abnormal where its detector raised an alarm in it (for events: not before normal running ended);
    its score is the largest of its windows by their threshold.
    """

    detector = ""
    uncounted: Collection[str] = BETWEEN

    @property
    def title(self) -> str:
        """Name for the report."""
        return f"Detector {self.detector}"

    @property
    def classes(self) -> tuple[str, ...]:
        """None: a detector."""
        return ()

    @property
    def used_groups(self) -> Collection[str]:
        """Groups that it learned from."""
        return ()

    @abstractmethod
    def scores(self, clip: Clip) -> list[Score]:
        """All scores of a recording, incomplete ones too.

        Raises:
            Unverified: the row does not tell enough.
            ValueError: the recording does not suit the detector (its rate is too low, say).
        """

    def judge(self, clip: Clip) -> Judged:
        """Judge one recording.

        Raises:
            BadInput: it does not suit the detector.
        """
        try:
            scores = self.scores(clip)
        except Unverified as doubt:
            return Judged((), 0.0, decision=False, why=f"unverified: {doubt}", verified=False)
        except ValueError as error:
            raise BadInput("unsuited", f"{clip.row.name}: {error}") from error
        complete = [s for s in scores if s.complete]
        if not complete:
            why = str(scores[-1].reasons.get("text", "")) if scores else "shorter than the detector's first window"
            why = why if why.startswith("unverified") else f"unverified: {why}"
            return Judged((), 0.0, decision=False, why=why, verified=False)
        alarms = self.alarms(clip.row, scores)
        worst = max(complete, key=lambda s: s.value / s.threshold)
        raised = [a for a in alarms if a.transition == "raised"]
        return Judged(
            scores=tuple(complete),
            score=worst.value / worst.threshold,
            decision=self.decide(clip.row, complete, raised),
            alarms=tuple(alarms),
            why=raised[0].text if raised else str(worst.reasons.get("text", "")),
        )

    def alarms(self, row: Row, scores: Sequence[Score]) -> list[Alarm]:  # noqa: ARG002  for what remembers
        """Those of one recording, of which no other one knows."""
        return alarms_of(scores, {})

    def decide(self, row: Row, _scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:
        """Whether the recording is abnormal."""
        quiet_s = quiet_until_s(row)
        return any(quiet_s is None or a.t_ns >= second_ns(quiet_s) for a in raised)


class ChatterScorer(PhysicsScorer):
    """Chatter, with the spindle speed and the teeth that the manifest tells."""

    detector = "chatter"

    def scores(self, clip: Clip) -> list[Score]:
        """Those of chatter; the tool's teeth are another matter."""
        row, rpm = clip.row, _speed(clip.row)
        if clip.stream.rate.hz < CHATTER_HZ:
            raise ValueError(f"{clip.stream.rate.hz:g} Hz is too slow: chatter is heard from {CHATTER_HZ:g} Hz on")
        if row.teeth is None or row.teeth < 1:
            raise Unverified("the number of teeth was not told (column teeth); chatter is not judged")
        if window_s(rpm) > LONGEST_S:
            raise Unverified(f"{rpm:g} rpm is too slow for chatter to be judged")
        teeth = row.teeth
        found = run(
            clip,
            lambda stream: ChatterFeatures(stream, GivenSpeed(rpm), teeth, rpm),
            ChatterDetector(teeth, 2.0 * rpm, every=5),
        )
        return [s for s in found if s.detector == self.detector]


class ToothScorer(ChatterScorer):
    """Lost teeth in milling, by the same operators and with the same facts."""

    detector = TOOTH_LOSS


class _Told:
    """When the control says that it cuts: columns ``cut_from_s`` and ``cut_until_s``, in seconds of the file."""

    def __init__(self, from_s: float, until_s: float) -> None:
        self._from_ns, self._until_ns = second_ns(from_s), second_ns(until_s)

    @classmethod
    def of(cls, row: Row) -> _Told | None:
        """That of a row, or None where it does not tell."""
        try:
            return cls(float(row.extra["cut_from_s"]), float(row.extra["cut_until_s"]))
        except (KeyError, ValueError):
            return None

    def waits(self, t_ns: int) -> bool:  # noqa: ARG002  of the protocol
        """Never."""
        return False

    def at(self, t_ns: int) -> Reading:
        """Whether it cuts."""
        return Reading(1.0, cutting=self._from_ns <= t_ns < self._until_ns)


class BreakScorer(PhysicsScorer):
    """Drill breaks, after the good holes of the same program were learned.

    Those are the normal ones among the rows that learn, of the same machine, sensor and program (column ``program`` or
    ``start``); in a manifest without a split the first four.

    Args:
        rows: of the manifest.
        normal: labels that mean normal.
    """

    detector = BREAK
    uncounted = BETWEEN | {BIT_MISSING, WORN}

    def __init__(self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS) -> None:
        self._good: dict[tuple[str, ...], list[Row]] = {}
        for row in learning_rows(rows):
            known = self._good.setdefault(program(row), [])
            if row.label in normal and (is_split(rows) or len(known) < TAUGHT):
                known.append(row)
        self._taught: dict[tuple[str, ...], dict[str, object]] = {}

    @property
    def used_groups(self) -> Collection[str]:
        """Groups of the good holes that were learned."""
        return frozenset(row.group for rows in self._good.values() for row in rows)

    def features(self, row: Row, stream: Stream) -> Windowed:
        """What hears a hole, and when the control says that it is drilled, if it does."""
        return BreakFeatures(stream, _Told.of(row))

    def heard(self, clip: Clip, detector: Stateful, epoch: int) -> list[Score]:
        """All that a detector says of a recording, which is a stream of its own."""
        return run(clip, lambda stream: self.features(clip.row, stream), detector, epoch)

    def untaught(self, row: Row, teach: int) -> Stateful:  # noqa: ARG002  for drilling heads
        """A detector that so many good holes are to teach."""
        return BreakDetector(teach)

    def scores(self, clip: Clip) -> list[Score]:
        """Those of breaks; missing tools and wear are advisories of their own (`tool_life`)."""
        detector = self.commissioned(clip.row)
        return [s for s in self.heard(clip, detector, LATER) if s.detector == self.detector]

    def commissioned(self, row: Row) -> Stateful:
        """A detector that has just learned the good holes of a row's program.

        Raises:
            Unverified: there are too few.
        """
        known = program(row)
        good = self._good.get(known, [])
        teach = min(TAUGHT, len(good))
        if teach < 2:
            raise Unverified(f"not commissioned: {len(good)} good holes of this program can be learned from")
        detector = self.untaught(row, teach)
        if known not in self._taught:
            for epoch, each in enumerate(good):
                self.heard(read_clip(each), detector, epoch)
            self._taught[known] = detector.snapshot()
        detector.restore(self._taught[known])
        return detector


class BearingScorer(PhysicsScorer):
    """Bearing lines, with the geometry that the manifest tells (columns ``balls``, ``ratio``, ``contact_angle_deg``).

    A recording is abnormal where the mean of a race's scores exceeds their threshold. Gears are not what it is for.
    """

    detector = "bearing"
    uncounted = BETWEEN | {"gear_tooth"}

    def scores(self, clip: Clip) -> list[Score]:
        """One of each race, the balls and the cage every 2 s."""
        extra, rpm = clip.row.extra, _speed(clip.row)
        try:
            balls, ratio = int(float(extra["balls"])), float(extra["ratio"])
            geometry = Geometry(balls, ratio, radians(float(extra.get("contact_angle_deg") or 0.0)))
        except (KeyError, ValueError):
            raise Unverified("the bearing's geometry was not told (columns balls, ratio)") from None
        return run(clip, lambda stream: BearingLines(stream, geometry, GivenSpeed(rpm)), None)

    def decide(self, row: Row, scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:  # noqa: ARG002  of the base
        """By the mean of each line's windows."""
        lines = {s.detector for s in scores if s.detector != "bearing_cage"}
        means = [float(np.mean([s.value / s.threshold for s in scores if s.detector == line])) for line in lines]
        return any(mean > 1.0 for mean in means)


def _speed(row: Row) -> float:
    if row.spindle_rpm is None:
        raise Unverified("no spindle speed was told (column spindle_rpm), and none is guessed from sound")
    if row.spindle_rpm <= 0.0:
        raise Unverified(f"the spindle is said to turn at {row.spindle_rpm:g} rpm")
    return row.spindle_rpm


def program(row: Row) -> tuple[str, ...]:
    """What repeats: machine, sensor, and the column ``program`` or ``start``."""
    return (row.machine, row.sensor, row.extra.get("program") or row.extra.get("start") or "")


def run(clip: Clip, make: Callable[[Stream], Windowed], detector: Stateful | None, epoch: int = 0) -> list[Score]:
    """Scores of a recording's pieces; no margin is mirrored, as events must not happen twice.

    Args:
        clip: the recording.
        make: features of its stream.
        detector: takes them; None where they are scores.
        epoch: of the stream; another one than before says that time has passed.
    """
    stream = replace(clip.stream, epoch=epoch)
    found: list[Score] = []
    for piece in clip.pieces:
        features, at = make(stream), 0
        for x in piece.blocks():
            for message in features.process(Segment(stream, Anchor(0, piece.t0_ns), at, x)):
                given: Iterable[object] = (message,) if detector is None else detector.process(message)
                found += [s for s in given if isinstance(s, Score)]
            at += len(x)
    return found


def alarms_of(scores: Iterable[Score], stages: dict[str, Stateful]) -> list[Alarm]:
    """Alarms as a machine without settings of its own raises them.

    Args:
        scores: in order.
        stages: what remembers from one call to the next, by detector.
    """
    found: list[Alarm] = []
    for score in scores:
        stage = stages.setdefault(score.detector, alarm_persistence(score.detector, PersistenceSettings(), "warning"))
        found += [a for a in stage.process(score) if isinstance(a, Alarm)]
    return found
