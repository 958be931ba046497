"""The detectors of a machine that may listen in the fast lane, made by the stages that the pipeline itself uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from config.schema import Sensor
from operators.base import Stateful, Windowed
from operators.rewindow import Sequence, end_ns
from pipeline import stages_head, stages_physics, stages_spindle
from pipeline.contexts import Contexts, read_by
from pipeline.errors import BadInput
from pipeline.messages import (
    NS,
    Alarm,
    Chunk,
    Context,
    Decision,
    Gap,
    Mark,
    Message,
    Score,
    Segment,
    Stream,
)
from pipeline.stages import LaneSettings
from pipeline.stages_physics import Raise
from pipeline.stages_spindle import Facing
from pipeline.topics import ABANDON_S

_CHAINS: tuple[tuple[Callable[..., Windowed | None], Callable[..., Stateful | None]], ...] = (
    (stages_spindle.air_run, stages_spindle.spoken),
    (stages_physics.chatter, stages_physics.chatter_detector),
    (stages_physics.drill, stages_physics.drill_detector),
    (stages_head.head, stages_head.head_detector),
)

_Made = TypeVar("_Made")

APART_S = 5.0
"""A stream so far behind another one of its machine has fallen silent."""


class _Chain:
    """One stream: samples → frames → scores → alarms, for each detector that the machine asks for.

    Detectors and alarms go on from an earlier stream of the sensor, as they do in the lane. Faults of detectors go into
    the list of the machine.
    """

    def __init__(
        self, settings: LaneSettings, stream: Stream, faults: list[Exception], before: _Chain | None = None
    ) -> None:
        self._settings, self._stream, self.sensor = settings, stream, stream.sensor
        self._sequence = Sequence(stream)
        self._unfit: list[Exception] = []
        self._faults = faults
        known: tuple[Stateful | None, ...] = (None,) * len(_CHAINS) if before is None else before._known
        self._known: tuple[Stateful | None, ...] = tuple(
            d or self._make(make) for (_, make), d in zip(_CHAINS, known, strict=True)
        )
        made = ((self._make(windowed), d) for (windowed, _), d in zip(_CHAINS, self._known, strict=True))
        self._detectors = [(w, d) for w, d in made if isinstance(w, Facing) and d is not None]
        self._raise: dict[str, Raise] = {} if before is None else before._raise
        self._newest: Segment | Gap | None = None
        self.began_ns = 0
        self.event_ns = 0
        self.heard_ns = 0
        self.hears = False

    def _make(self, make: Callable[[LaneSettings, Stream], _Made | None]) -> _Made | None:
        """A part of a detector; one that cannot be made costs the others of the stream nothing, and stays told."""
        try:
            return make(self._settings, self._stream)
        except Exception as error:
            self._unfit.append(error)
            return None

    def follow(self, earlier: _Chain) -> None:
        """Stay behind an earlier stream of the sensor: what waits there is judged first."""
        for features, detector in self._detectors:
            for before, known in earlier._detectors:
                if known is detector:
                    features.follow(before)

    @property
    def waiting(self) -> bool:
        """Whether samples wait for a fact."""
        return any(features.waiting for features, _ in self._detectors)

    @property
    def judged(self) -> bool:
        """Whether any detector is to listen to the stream: another sensor of the machine may be for something else."""
        return bool(self._detectors or self._unfit)

    @property
    def needs_ns(self) -> int:
        """Event time of the first sample that what is still to be judged depends on."""
        last = self._newest
        if last is None:
            return self.event_ns
        needed = (n for features, _ in self._detectors for n in features.needs_from().values())
        return last.anchor.at(min(needed, default=last.n1), last.stream.rate)

    @property
    def starves(self) -> str | None:
        """The fact that the oldest samples wait for."""
        return next((fact for features, _ in self._detectors if (fact := features.waits_for) is not None), None)

    def listen(self, message: Chunk | Mark) -> Iterator[Score | Alarm]:
        self.began_ns, self.hears = self.began_ns or message.t0_ns, False
        self._faults += self._unfit
        for part in self._sequence.process(message):
            if not isinstance(part, Segment | Gap):  # late: heard before, no numbers, or of a time that cannot be
                continue
            self._newest = part
            self.event_ns = max(self.event_ns, end_ns(part.anchor, part.n1, part.stream))
            if isinstance(part, Segment):
                self.heard_ns, self.hears = self.event_ns, True
            for features, detector in self._detectors:
                yield from self._judge(detector, partial(features.process, part))

    def release(self) -> Iterator[Score | Alarm]:
        for features, detector in self._detectors:
            yield from self._judge(detector, features.release)

    def end(self) -> Iterator[Score | Alarm]:
        """What the end of the stream leaves incomplete."""
        if self._newest is not None:
            last = self._newest
            yield from self.listen(Mark(last.stream, last.anchor, last.n1, last.n1, "end"))
        for features, detector in self._detectors:
            yield from self._judge(detector, features.flush)

    def _judge(self, detector: Stateful, frames: Callable[[], Iterable[Message]]) -> Iterator[Score | Alarm]:
        try:
            for frame in frames():
                for score in detector.process(frame):
                    if isinstance(score, Score):
                        yield score
                        stage = self._raise.setdefault(score.detector, Raise(self._settings))
                        yield from (alarm for alarm in stage.process(score) if isinstance(alarm, Alarm))
        except Exception as error:  # a detector's fault must not cost the others their alarms
            self._faults.append(error)


def _then(said: Iterable[Score | Alarm], fault: Exception) -> Iterator[Score | Alarm]:
    """What was said, and then the fault."""
    yield from said
    raise fault


class FastDetectors:
    """Chatter, drill break and the bits of a drilling head of one machine, for `connectors.fastlane.FastLane`.

    It starts from nothing: what the pipeline's detectors learned before (idle levels, a drill's template) is not there.
    It must therefore be started with its machine, and hear the same good holes. A fact that samples wait for is given
    up `ABANDON_S` behind its last word, by event time, until it is told again.

    Args:
        settings: of the machine's lane; facts (spindle speed, state) that the source tells are kept in a copy.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = replace(settings, contexts=Contexts(read_by(settings.machine)))
        self._chains: dict[tuple[str, int], _Chain] = {}
        self._ended: list[_Chain] = []
        """Earlier streams in which samples still wait."""
        self._abandoned: set[str] = set()
        self._measures = settings.machine.measures
        self._faults: list[Exception] = []
        sensors = (s for s in settings.machine.sensors if s.source is not None and s.modality != "frames")
        self._expected = frozenset(sensor.name for sensor in sensors if self._is_judged(sensor))

    def _is_judged(self, sensor: Sensor) -> bool:
        """Whether a sensor of the inventory is to have a detector."""
        try:
            return _Chain(self._settings, self._settings.announced(sensor), []).judged
        except BadInput:  # no stream can be announced of it: its samples say so when they come
            return True

    def listen(self, message: Chunk | Mark | Context) -> Iterable[Score | Alarm]:
        """Take one message in; what one detector says is not lost where another one fails.

        Raises:
            Exception: once what was said has been taken out, the first fault of a detector.
        """
        said = self._told(message) if isinstance(message, Context) else self._heard(message)
        faults = [*self._faults]
        self._faults.clear()
        return _then(said, faults[0]) if faults else said

    def _heard(self, message: Chunk | Mark) -> list[Score | Alarm]:
        stream = message.stream
        if stream.modality == "frames":
            return []
        said: list[Score | Alarm] = []
        if stream.key not in self._chains:
            before = None
            for key in [key for key in self._chains if key[0] == stream.sensor]:  # a restart ends the older stream
                before = self._chains.pop(key)
                said += before.end()
                self._ended += [before] if before.waiting else []
            self._chains[stream.key] = _Chain(self._settings, stream, self._faults, before)
            for earlier in self._ended:
                self._chains[stream.key].follow(earlier)
        chain = self._chains[stream.key]
        said += chain.listen(message)
        if self._measures == stream.sensor:
            said += self._release()
        if (fact := chain.starves) is not None and self._give_up(chain, fact):
            said += self._release()
        return said

    def judges(self, stream: Stream) -> bool:
        """Whether a detector listens to this stream, and the others of the machine that have one are heard, too.

        Its last message must have brought samples: repeats, no numbers and times that cannot be are none. Sensors
        without a source belong to another process, unless something has been heard of them here.
        """
        chain = self._chains.get(stream.key)
        if chain is None or not chain.judged or not chain.hears:
            return False
        judged = {sensor: other.heard_ns for (sensor, _), other in self._chains.items() if other.judged}
        return self._expected <= judged.keys() and min(judged.values()) > chain.event_ns - APART_S * NS

    def _told(self, fact: Context) -> list[Score | Alarm]:
        contexts = self._settings.contexts
        contexts.add(fact)
        if fact.name in self._abandoned:
            self._abandoned.discard(fact.name)
            now = max((chain.event_ns for chain in self._chains.values()), default=fact.t_ns)
            contexts.decide(Decision(fact.machine, "", now, "return", {"context": fact.name}))
        said = self._release()
        judged = (chain for chain in (*self._ended, *self._chains.values()) if chain.judged)
        contexts.trim(min((chain.needs_ns for chain in judged), default=0))
        return said

    def _release(self) -> list[Score | Alarm]:
        chains = sorted((*self._ended, *self._chains.values()), key=lambda chain: chain.sensor != self._measures)
        said = [said for chain in chains for said in chain.release()]
        self._ended = [chain for chain in self._ended if chain.waiting]
        return said

    def _give_up(self, chain: _Chain, fact: str) -> bool:
        """Do without a fact that has been silent for too long; without end, all samples since would be held."""
        newest = self._settings.contexts.newest_ns(fact)
        if chain.event_ns - max(newest, chain.began_ns) < ABANDON_S * NS:
            return False
        machine = self._settings.machine  # what ends later still waits, also where a late word has come since a return
        unjudged_ns = self._settings.contexts.unjudged_ns(fact, round(machine.context_lag_s * NS))
        self._settings.contexts.decide(Decision(machine.name, "", unjudged_ns, "abandon", {"context": fact}))
        self._abandoned.add(fact)
        return True
