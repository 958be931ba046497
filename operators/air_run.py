"""The spindle's speed from its air run: measured while the machine says that it turns without cutting, then held.

What a cut sounds like has no part in it (`operators.spindle`): a window counts only where the machine said "air" from
its first to its last sample, and its last quarter of a second is left out, as the word that a cut has begun may come
a little late. Without a clear speed there is none, and what asks for it says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, Protocol

from operators.air_speed import air_speed
from operators.gated import Gated
from operators.grid import Grid
from operators.rewindow import end_ns
from operators.spindle import Speed
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Span, Stream

AIR_RUN = "air_run"
UNCLEAR = "unclear"
"""What is stated in place of a speed where the air run has shown none since the spindle began to turn."""
HEARD_S, GUARD_S, HOP_S = 1.25, 0.25, 0.25
"""What a speed is measured from, what is left out before a cut, and how often it is measured."""
Motion = Literal["air", "turns", "unknown"]
"""In the air all the time; turning all the time, cuts among it; or it may have stood, or changed its speed."""


class Facts(Speed, Protocol):
    """What the machine says of itself, and what was stated of its speed before."""

    def motion(self, t0_ns: int, t1_ns: int) -> Motion:
        """What the machine said from `t0_ns` to `t1_ns`."""
        ...

    def held(self, t_ns: int) -> float | str | None:
        """The speed that was stated last, by `t_ns`."""
        ...

    def state(self, t_ns: int, value: float | str) -> None:
        """State a speed from `t_ns` on; one behind the newest is known already."""
        ...


class AirRun(Gated):
    """`Segment` and `Gap` of one stream → statements of the speed, and a `Feature` ``air_run`` per second.

    Every quarter of a second, while the machine said "air" for the 1.5 s before, the speed of `air_speed` is stated, or
    ``"unclear"``. Where it cut, the speed before is held; where it said neither, the speed is unclear until measured
    anew. A statement is repeated at the end of all samples, so that nobody waits for the next window. Values of the
    feature, of every fourth window in the air: ``rpm`` (0 where unclear), ``lines``, ``clear_sigma``, ``rival_sigma``
    (see `AirSpeed`).

    Args:
        stream: the stream.
        facts: what the machine says, and what was stated.
        lowest_rpm: of the range of speeds.
        highest_rpm: of the range; less than twice the lowest.
    """

    memory_s: ClassVar[float] = HEARD_S + GUARD_S

    def __init__(self, stream: Stream, facts: Facts, lowest_rpm: float, highest_rpm: float) -> None:
        super().__init__(stream, facts)
        self._facts, self._range = facts, (lowest_rpm, highest_rpm)
        self._rate = stream.rate.hz
        self._hop = max(1, round(HOP_S * self._rate))
        self._heard = round(HEARD_S * self._rate)
        self._grid = Grid(round((HEARD_S + GUARD_S) * self._rate), self._hop, stream.channels)

    def first(self) -> int | None:
        """Start of the next window."""
        return self._grid.needs_from()

    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """State the speed of the windows that this message completes, and at its end."""
        return list(self._judged(message))

    def _judged(self, message: Segment | Gap) -> Iterator[Message]:
        if message.n0 == 0:  # nobody heard what was before
            self._facts.state(message.anchor.at(0, self.stream.rate), UNCLEAR)
        t_end = self._end(message)
        if isinstance(message, Gap):
            self._grid.gap(message)
            began = message.anchor.at(max(0, message.n0 - self._hop), self.stream.rate)
            if self._facts.motion(began, t_end) == "unknown":
                self._facts.state(t_end, UNCLEAR)
        else:
            for n0, x in self._grid.feed(message):
                yield from self._window(message, n0, x)
        held = self._facts.held(t_end)
        if held is not None:
            self._facts.state(t_end, held)

    def _window(self, segment: Segment, n0: int, x: Float32) -> Iterator[Message]:
        n1 = n0 + len(x)
        t_end = end_ns(segment.anchor, n1, self.stream)
        motion = self._facts.motion(segment.anchor.at(n0, self.stream.rate), t_end)
        if motion == "unknown":
            self._facts.state(t_end, UNCLEAR)
        if motion != "air":
            return
        found = air_speed(x[: self._heard], self._rate, *self._range)
        self._facts.state(t_end, found.rpm or UNCLEAR)
        if (n0 // self._hop) % round(1.0 / HOP_S) == 0:
            values = {
                "rpm": found.rpm,
                "lines": float(found.lines),
                "clear_sigma": found.clear,
                "rival_sigma": found.rival,
            }
            span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
            yield Feature(self.stream.machine, (self.stream.sensor,), AIR_RUN, t_end, values, True, (span,))
