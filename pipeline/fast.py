"""The detectors of a machine that may listen in the fast lane, made by the stages that the pipeline itself uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from operators.base import Stateful, Windowed
from operators.rewindow import Sequence
from pipeline import stages_physics
from pipeline.contexts import Contexts
from pipeline.messages import Alarm, Chunk, Context, Mark, Message, Score, Stream
from pipeline.stages import LaneSettings
from pipeline.stages_physics import Facing, Raise

_CHAINS: tuple[tuple[Callable[..., Windowed | None], Callable[..., Stateful | None]], ...] = (
    (stages_physics.chatter, stages_physics.chatter_detector),
    (stages_physics.drill, stages_physics.drill_detector),
)


class _Chain:
    """One stream: samples → frames → scores → alarms, for each detector that the machine asks for."""

    def __init__(self, settings: LaneSettings, stream: Stream) -> None:
        self._settings = settings
        self._sequence = Sequence(stream)
        made = ((windowed(settings, stream), detector(settings, stream)) for windowed, detector in _CHAINS)
        self._detectors = [(w, d) for w, d in made if isinstance(w, Facing) and d is not None]
        self._raise: dict[str, Raise] = {}

    def listen(self, message: Chunk | Mark) -> Iterator[Score | Alarm]:
        for part in self._sequence.process(message):
            for features, detector in self._detectors:
                yield from self._judge(detector, features.process(part))

    def release(self) -> Iterator[Score | Alarm]:
        for features, detector in self._detectors:
            yield from self._judge(detector, features.release())

    def _judge(self, detector: Stateful, frames: Iterable[Message]) -> Iterator[Score | Alarm]:
        for frame in frames:
            for score in detector.process(frame):
                if isinstance(score, Score):
                    yield score
                    stage = self._raise.setdefault(score.detector, Raise(self._settings))
                    yield from (alarm for alarm in stage.process(score) if isinstance(alarm, Alarm))


class FastDetectors:
    """Chatter and drill break of one machine, for `connectors.fastlane.FastLane`.

    It starts from nothing: what the pipeline's detectors learned before (idle levels, a drill's template) is not there.
    It must therefore be started with its machine, and hear the same good holes.

    Args:
        settings: of the machine's lane; facts (spindle speed, state) that the source tells are kept in a copy.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = replace(settings, contexts=Contexts())
        self._chains: dict[tuple[str, int], _Chain] = {}

    def listen(self, message: Chunk | Mark | Context) -> list[Score | Alarm]:
        """Take one message in."""
        if isinstance(message, Context):
            self._settings.contexts.add(message)
            return [said for chain in self._chains.values() for said in chain.release()]
        stream = message.stream
        if stream.modality == "frames":
            return []
        if stream.key not in self._chains:
            for key in [key for key in self._chains if key[0] == stream.sensor]:  # a restart ends the older stream
                del self._chains[key]
            self._chains[stream.key] = _Chain(self._settings, stream)
        return list(self._chains[stream.key].listen(message))
