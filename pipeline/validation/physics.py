"""Physics detectors as a scorer: each recording is heard by the live lane's operators, under what its row tells.

Nothing is guessed: a recording whose row lacks what a detector must know (spindle speed, teeth, a bearing's geometry,
good holes of its program) is unverified. It raises nothing, counts as missed where it shows a fault, and its time does
not count as time without false alarms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
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
from operators.spindle import GivenSpeed
from operators.teeth import TOOTH_LOSS
from pipeline.clips import Clip, read_clip, second_ns
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, Row, is_split, learning_rows
from pipeline.messages import Alarm, Anchor, Score, Segment
from pipeline.stages_physics import alarm_persistence
from pipeline.validation.rates import quiet_until_s
from pipeline.validation.scorer import Judged

BETWEEN = frozenset({"transition"})
"""Labels of what is neither normal nor a fault: such recordings are shown and counted nowhere."""
TAUGHT = 4


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
        alarms = _alarms(scores)
        worst = max(complete, key=lambda s: s.value / s.threshold)
        raised = [a for a in alarms if a.transition == "raised"]
        return Judged(
            scores=tuple(complete),
            score=worst.value / worst.threshold,
            decision=self.decide(clip.row, complete, raised),
            alarms=tuple(alarms),
            why=raised[0].text if raised else str(worst.reasons.get("text", "")),
        )

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
        found = _run(
            clip,
            lambda: ChatterFeatures(clip.stream, GivenSpeed(rpm), teeth, rpm),
            ChatterDetector(teeth, 2.0 * rpm, every=5),
        )
        return [s for s in found if s.detector == self.detector]


class ToothScorer(ChatterScorer):
    """Lost teeth in milling, by the same operators and with the same facts."""

    detector = TOOTH_LOSS


class BreakScorer(PhysicsScorer):
    """Drill breaks, after the good holes of the same program were learned.

    Those are the normal ones among the rows that learn, of the same machine, sensor and program (column ``program`` or
    ``start``); in a manifest without a split the first four.

    Args:
        rows: of the manifest.
        normal: labels that mean normal.
    """

    detector = BREAK
    unheard = 0
    """So many of the good holes, the first ones, may teach nothing."""

    def __init__(self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS) -> None:
        self._good: dict[tuple[str, ...], list[Row]] = {}
        for row in learning_rows(rows):
            known = self._good.setdefault(_program(row), [])
            if row.label in normal and (is_split(rows) or len(known) < TAUGHT):
                known.append(row)
        self._taught: dict[tuple[str, ...], dict[str, object]] = {}

    @property
    def used_groups(self) -> Collection[str]:
        """Groups of the good holes that were learned."""
        return frozenset(row.group for rows in self._good.values() for row in rows)

    def features(self, clip: Clip) -> Windowed:
        """What hears a hole."""
        return BreakFeatures(clip.stream)

    def untaught(self, row: Row, teach: int) -> Stateful:  # noqa: ARG002  for drilling heads
        """A detector that so many good holes are to teach."""
        return BreakDetector(teach)

    def scores(self, clip: Clip) -> list[Score]:
        """Those of breaks; missing tools and wear are advisories of their own."""
        detector = self._detector(clip.row)
        return [s for s in _run(clip, lambda: self.features(clip), detector) if s.detector == self.detector]

    def _detector(self, row: Row) -> Stateful:
        program = _program(row)
        good = self._good.get(program, [])
        teach = min(TAUGHT, len(good) - self.unheard)
        if teach < 2:
            raise Unverified(f"not commissioned: {len(good)} good holes of this program can be learned from")
        detector = self.untaught(row, teach)
        if program not in self._taught:
            for each in good:
                clip = read_clip(each)
                _run(clip, lambda clip=clip: self.features(clip), detector)  # type: ignore[misc]
            self._taught[program] = detector.snapshot()
        detector.restore(self._taught[program])
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
        return _run(clip, lambda: BearingLines(clip.stream, geometry, GivenSpeed(rpm)), None)

    def decide(self, row: Row, scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:  # noqa: ARG002  of the base
        """By the mean of each line's windows."""
        lines = {s.detector for s in scores if s.detector != "bearing_cage"}
        means = [float(np.mean([s.value / s.threshold for s in scores if s.detector == line])) for line in lines]
        return any(mean > 1.0 for mean in means)


DETECTORS = ("chatter", "tooth_loss", "drill_break", "head_break", "bearing")
ALIASES = {"drill": "drill_break", "break": "drill_break"}


def physics_scorer(name: str, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS) -> PhysicsScorer:
    """The scorer of a physics detector by its name.

    Raises:
        BadInput: there is none of this name.
    """
    name = ALIASES.get(name, name)
    if name == "chatter":
        return ChatterScorer()
    if name == TOOTH_LOSS:
        return ToothScorer()
    if name == BREAK:
        return BreakScorer(rows, normal)
    if name == "bearing":
        return BearingScorer()
    raise BadInput("detector", f"there is no physics detector '{name}'; choose from {', '.join(DETECTORS)}")


def _speed(row: Row) -> float:
    if row.spindle_rpm is None:
        raise Unverified("no spindle speed was told (column spindle_rpm), and none is guessed from sound")
    if row.spindle_rpm <= 0.0:
        raise Unverified(f"the spindle is said to turn at {row.spindle_rpm:g} rpm")
    return row.spindle_rpm


def _program(row: Row) -> tuple[str, ...]:
    return (row.machine, row.sensor, row.extra.get("program") or row.extra.get("start") or "")


def _run(clip: Clip, make: Callable[[], Windowed], detector: Stateful | None) -> list[Score]:
    """Scores of a recording's pieces; no margin is mirrored, as events must not happen twice."""
    found: list[Score] = []
    for piece in clip.pieces:
        features, at = make(), 0
        for x in piece.blocks():
            for message in features.process(Segment(clip.stream, Anchor(0, piece.t0_ns), at, x)):
                given: Iterable[object] = (message,) if detector is None else detector.process(message)
                found += [s for s in given if isinstance(s, Score)]
            at += len(x)
    return found


def _alarms(scores: Sequence[Score]) -> list[Alarm]:
    stages: dict[str, Stateful] = {}
    found: list[Alarm] = []
    for score in scores:
        stage = stages.setdefault(score.detector, alarm_persistence(score.detector, PersistenceSettings(), "warning"))
        found += [a for a in stage.process(score) if isinstance(a, Alarm)]
    return found
