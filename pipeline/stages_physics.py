"""Makes the physics detectors of a machine that says what its spindle, drill or bearing is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import radians
from typing import Any

from config.schema import CHATTER_HZ, Machine, Model
from config.schema import Persistence as PersistenceSettings
from models.anomaly.vectors import ANOMALY, LEVEL
from models.drill.levels import RATES
from models.drill.live import CLASSIFIER, LearnedBreak, LearnedFrames
from operators.base import Stateful
from operators.bearing import FAULTS, LOW_HZ, BearingLines, Geometry
from operators.breakage import EDGES_HZ, BreakFeatures
from operators.breakage_detector import BREAK, MISSING, WEAR, BreakDetector
from operators.chatter import ChatterFeatures
from operators.chatter_detector import DETECTOR as CHATTER
from operators.chatter_detector import ChatterDetector
from operators.cusum import DRIFT
from operators.head_detector import BREAK as HEAD_BREAK
from operators.head_detector import SILENT as HEAD_SILENT
from operators.persistence import PAUSE_S, Persistence, Severity
from operators.severity import LIMITS
from operators.severity_alarm import CHANGE, SEVERITY, SeverityAlarm
from operators.teeth import FLIP, TOOTH_LOSS
from pipeline.drill_model import HEARD
from pipeline.messages import Alarm, Message, Score, Stream
from pipeline.stages import UNTOLD, LaneSettings
from pipeline.stages_models import EMBEDDING
from pipeline.stages_spindle import Facing, LaneSpeed
from pipeline.states import SHADOW

_DISTANCES = (ANOMALY, LEVEL, EMBEDDING)
BY_BASELINE = (*_DISTANCES, *(f"{detector}{DRIFT}" for detector in _DISTANCES))
"""Detectors that a sensor without a baseline does not have."""
CHATTER_HOPS = 50
"""Hops of 10 ms between chatter scores while nothing changes."""


def alarm_persistence(
    detector: str, p: PersistenceSettings, severity: Severity, model: Model | None = None
) -> Persistence:
    """How a detector's scores become alarms: by its own rule where it has one, else as the machine says.

    Args:
        detector: name of the scores.
        p: of the machine.
        severity: of the machine's alarms.
        model: of the machine; says how far the scores of what reads embeddings are apart.
    """
    ratio, wait = p.clear_below, p.clear_after_s
    if detector == CHATTER:
        return Persistence(alpha=1.0, k=1, n=1, clear_ratio=ratio, clear_s=wait, severity=severity)
    if detector == BREAK:
        return Persistence(alpha=1.0, k=1, n=1, clear_ratio=1.0, clear_s=wait, severity="critical")
    if detector == HEAD_BREAK:
        return Persistence(alpha=1.0, k=1, n=1, clear_ratio=1.0, clear_s=wait, severity="advisory")
    if detector == MISSING:  # two holes in a row: one may be a bang or a blast of air
        return Persistence(alpha=1.0, k=2, n=2, clear_ratio=1.0, clear_s=0.0, severity="advisory")
    if detector == TOOTH_LOSS:  # its score contains half a second
        return Persistence(alpha=1.0, k=1, n=1, clear_ratio=ratio, clear_s=wait, severity=severity)
    if detector in {WEAR, CLASSIFIER, FLIP, HEAD_SILENT} or detector.endswith(DRIFT):
        return Persistence(alpha=1.0, k=1, n=1, clear_ratio=1.0, clear_s=0.0, severity="advisory")
    if detector.startswith("bearing_"):
        return Persistence(alpha=1.0, k=2, n=3, clear_ratio=ratio, clear_s=wait, severity=severity)
    if detector in {SEVERITY, CHANGE}:  # three seconds in a row: a knock or a start is no vibration level
        kind = severity if detector == SEVERITY else "advisory"
        return Persistence(alpha=1.0, k=3, n=3, clear_ratio=ratio, clear_s=wait, severity=kind)
    pause_s = PAUSE_S
    if model is not None and detector in {EMBEDDING, *(head.name for head in model.heads)}:
        pause_s = max(PAUSE_S, 2.5 * model.every)  # windows are at most a second apart
    return Persistence(
        alpha=p.smoothing, k=p.k, n=p.n, clear_ratio=ratio, clear_s=wait, pause_s=pause_s, severity=severity
    )


class Raise(Stateful):
    """Alarms from scores: by the machine's persistence, or by the detector's own where its scores contain one.

    Args:
        settings: of the lane.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._detector = ""
        self._inner = self._made("")

    def _made(self, detector: str, p: PersistenceSettings | None = None) -> Persistence:
        machine = self._settings.machine
        return alarm_persistence(detector, p or machine.persistence, machine.alarm_severity, machine.model)

    def _choose(self, detector: str) -> None:
        if detector != self._detector:
            self._detector, self._inner = detector, self._made(detector)

    def process(self, message: Message) -> Iterable[Message]:
        """Take one score in."""
        if isinstance(message, Score):
            if message.detector.startswith(SHADOW):
                return ()
            self._choose(message.detector)
            if message.reasons.get(UNTOLD):
                return self._over(message)
        return self._inner.process(message)

    def _over(self, score: Score) -> list[Message]:
        """Clear the alarm of a detector that nobody tells any more: by its own rule, with nothing to wait for."""
        state = self._inner.snapshot()
        if state["raised_ns"] is None:
            return []
        p = self._settings.machine.persistence
        ending = self._made(
            score.detector, p.model_copy(update={"smoothing": 1.0, "clear_below": 1.0, "clear_after_s": 0.0})
        )
        ending.restore(state)
        told = [m for m in ending.process(replace(score, value=0.0, complete=True)) if isinstance(m, Alarm)]
        self._inner.restore(ending.snapshot())
        where = f"{score.machine} {'+'.join(score.sensors)}: {score.detector} is no longer judged"
        return [replace(alarm, text=f"{where}; {score.reasons['text']}") for alarm in told]

    def snapshot(self) -> dict[str, Any]:
        """State of the persistence, and whose it is."""
        return {**self._inner.snapshot(), "detector": self._detector}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot; older ones do not name their detector, none of them a physics one."""
        self._choose(str(state.get("detector", "")))
        self._inner.restore(state)


def _asked(machine: Machine) -> dict[tuple[str, ...], bool]:
    """Families of detectors, and whether the machine's configuration asks for them."""
    drill = machine.drill
    teeth = 0 if machine.spindle is None else machine.spindle.teeth or 0
    return {
        (CHATTER,): teeth > 0,
        (TOOTH_LOSS,): teeth > 1,
        (FLIP,): teeth >= 4 and teeth % 2 == 0,
        (BREAK, MISSING, WEAR): drill is not None,
        (CLASSIFIER,): drill is not None and drill.classifier is not None,
        (HEAD_BREAK, HEAD_SILENT): drill is not None and drill.head is not None,
        (SEVERITY, CHANGE): machine.severity is not None,
        tuple(f"{detector}{DRIFT}" for detector in _DISTANCES): machine.drift,
        tuple(f"bearing_{fault}" for fault in FAULTS): machine.bearing is not None,
    }


def unasked(machine: Machine) -> list[str]:
    """Detectors that the machine's configuration does not ask for: none of them will clear an alarm."""
    return [detector for family, wanted in _asked(machine).items() if not wanted for detector in family]


def past_heads(machine: Machine, detectors: Iterable[str]) -> list[str]:
    """Those of these detectors that are neither the program's own nor heads of the machine's configuration."""
    known = {*_DISTANCES, *(name for family in _asked(machine) for name in family)}
    known |= set() if machine.model is None else {head.name for head in machine.model.heads}
    return sorted(set(detectors) - known)


def chatter(settings: LaneSettings, stream: Stream | None) -> Facing | None:
    """Chatter indicators, where the machine says how many teeth cut."""
    spindle = settings.machine.spindle
    if stream is None or spindle is None or spindle.teeth is None or stream.rate.hz < CHATTER_HZ:
        return None
    speed = LaneSpeed(settings)
    return Facing(ChatterFeatures(stream, speed, spindle.teeth, spindle.slowest_rpm), speed)


def chatter_detector(settings: LaneSettings, _stream: Stream | None) -> ChatterDetector | None:
    """Chatter scores."""
    spindle = settings.machine.spindle
    if spindle is None or spindle.teeth is None:
        return None
    return ChatterDetector(
        spindle.teeth, spindle.fastest_rpm, every=CHATTER_HOPS, on_delay_s=spindle.chatter_on_delay_s
    )


def learned(stream: Stream) -> bool:
    """Whether a drill classifier hears a stream."""
    return stream.modality in HEARD and stream.rate.hz in RATES


def drill(settings: LaneSettings, stream: Stream | None) -> Facing | None:
    """Frames of drilling."""
    if stream is None or settings.machine.drill is None or stream.rate.hz < EDGES_HZ[1] / 0.45:
        return None
    speed, model = LaneSpeed(settings), settings.classifier
    if model is not None and learned(stream):
        return Facing(LearnedFrames(stream, model.odds, speed), speed)
    return Facing(BreakFeatures(stream, speed), speed)


def drill_detector(settings: LaneSettings, _stream: Stream | None) -> BreakDetector | LearnedBreak | None:
    """Breaks, missing tools, wear; with a classifier, what it heard, by the machine's rule."""
    said, model = settings.machine.drill, settings.classifier
    if said is None or model is None:
        return None if said is None else BreakDetector(said.taught_holes)
    return LearnedBreak(said.taught_holes, model.threshold, model.rule, model.digest)


def bearing(settings: LaneSettings, stream: Stream | None) -> Facing | None:
    """Bearing lines, where the machine says what its bearing is."""
    said = settings.machine.bearing
    if stream is None or said is None or stream.rate.hz < 8.0 * LOW_HZ:
        return None
    speed = LaneSpeed(settings)
    geometry = Geometry(said.balls, said.diameter_ratio, radians(said.contact_angle_deg))
    return Facing(BearingLines(stream, geometry, speed), speed)


def severity_alarm(settings: LaneSettings, _stream: Stream | None) -> SeverityAlarm | None:
    """Severity against its baseline, where the machine says what it is."""
    said = settings.machine.severity
    if said is None:
        return None
    sensors = [s for s in settings.machine.sensors if s.modality == "vibration"]
    basis = "|".join([*(f"{s.name} {s.rate_hz:g} {s.unit}" for s in sensors), f"{said.speed_rpm < 600}"])
    return SeverityAlarm(LIMITS[said.group, said.support], said.baseline_mm_s, learn=said.learn_windows, basis=basis)


def persistence(settings: LaneSettings, _stream: Stream | None) -> Raise:
    """Alarms."""
    return Raise(settings)
