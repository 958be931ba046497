"""The detectors of a machine that may listen in the fast lane, made by the stages that the pipeline itself uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from config.schema import Sensor
from operators.base import Stateful, Windowed
from operators.rewindow import Sequence
from pipeline import stages_head, stages_physics
from pipeline.contexts import Contexts, read_by
from pipeline.errors import BadInput
from pipeline.messages import NS, Alarm, Chunk, Context, Decision, Late, Mark, Message, Score, Stream
from pipeline.stages import LaneSettings
from pipeline.stages_physics import Facing, Raise
from pipeline.topics import ABANDON_S

_CHAINS: tuple[tuple[Callable[..., Windowed | None], Callable[..., Stateful | None]], ...] = (
    (stages_physics.chatter, stages_physics.chatter_detector),
    (stages_physics.drill, stages_physics.drill_detector),
    (stages_head.head, stages_head.head_detector),
)


APART_S = 5.0
"""A stream so far behind another one of its machine has fallen silent."""


class _Chain:
    """One stream: samples → frames → scores → alarms, for each detector that the machine asks for.

    Detectors and alarms go on from an earlier stream of the sensor, as they do in the lane.
    """

    def __init__(self, settings: LaneSettings, stream: Stream, before: _Chain | None = None) -> None:
        self._settings = settings
        self._sequence = Sequence(stream)
        known: tuple[Stateful | None, ...] = (None,) * len(_CHAINS) if before is None else before._known
        self._known: tuple[Stateful | None, ...] = tuple(
            d or make(settings, stream) for (_, make), d in zip(_CHAINS, known, strict=True)
        )
        made = ((windowed(settings, stream), d) for (windowed, _), d in zip(_CHAINS, self._known, strict=True))
        self._detectors = [(w, d) for w, d in made if isinstance(w, Facing) and d is not None]
        self._raise: dict[str, Raise] = {} if before is None else before._raise
        self._newest: Chunk | Mark | None = None
        self.began_ns = 0
        self.event_ns = 0

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
        """Whether any detector listens to the stream: another sensor of the machine may be for something else."""
        return bool(self._detectors)

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
        self.event_ns = max(self.event_ns, message.t1_ns)
        self.began_ns = self.began_ns or message.t0_ns
        self._newest = message
        for part in self._sequence.process(message):
            if isinstance(part, Late):  # heard before, as of files that are read again
                continue
            for features, detector in self._detectors:
                yield from self._judge(detector, features.process(part))

    def release(self) -> Iterator[Score | Alarm]:
        for features, detector in self._detectors:
            yield from self._judge(detector, features.release())

    def end(self) -> Iterator[Score | Alarm]:
        """What the end of the stream leaves incomplete."""
        if self._newest is not None:
            last = self._newest
            yield from self.listen(Mark(last.stream, last.anchor, last.n1, last.n1, "end"))
        for features, detector in self._detectors:
            yield from self._judge(detector, features.flush())

    def _judge(self, detector: Stateful, frames: Iterable[Message]) -> Iterator[Score | Alarm]:
        for frame in frames:
            for score in detector.process(frame):
                if isinstance(score, Score):
                    yield score
                    stage = self._raise.setdefault(score.detector, Raise(self._settings))
                    yield from (alarm for alarm in stage.process(score) if isinstance(alarm, Alarm))


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
        sensors = (s for s in settings.machine.sensors if s.source is not None and s.modality != "frames")
        self._expected = frozenset(sensor.name for sensor in sensors if self._is_judged(sensor))

    def _is_judged(self, sensor: Sensor) -> bool:
        """Whether a sensor of the inventory is to have a detector."""
        try:
            return _Chain(self._settings, self._settings.announced(sensor)).judged
        except BadInput:  # no detector can be made for it: its samples say so when they come
            return True

    def listen(self, message: Chunk | Mark | Context) -> list[Score | Alarm]:
        """Take one message in."""
        if isinstance(message, Context):
            return self._told(message)
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
            self._chains[stream.key] = _Chain(self._settings, stream, before)
            for earlier in self._ended:
                self._chains[stream.key].follow(earlier)
        chain = self._chains[stream.key]
        said += chain.listen(message)
        if (fact := chain.starves) is not None and self._give_up(chain, fact):
            said += self._release()
        return said

    def judges(self, stream: Stream) -> bool:
        """Whether a detector listens to this stream, and the others of the machine that have one are heard, too.

        Sensors without a source belong to another process, unless something has been heard of them here.
        """
        chain = self._chains.get(stream.key)
        if chain is None or not chain.judged:
            return False
        judged = {sensor: other.event_ns for (sensor, _), other in self._chains.items() if other.judged}
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
        said = [said for chain in (*self._ended, *self._chains.values()) for said in chain.release()]
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
