"""Operators whose windows wait until the facts that they are judged under are known."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from operators.base import Windowed
from operators.rewindow import end_ns
from operators.spindle import Speed
from pipeline.messages import Gap, Message, Segment, Stream


class Gated(Windowed):
    """`Segment` and `Gap` of one stream; both wait until the speed of their end is known, see `release`.

    Windows are judged under the facts as of a fixed time before their end, so that waiting changes when an answer
    comes, never what it is.

    Args:
        stream: the stream.
        speed: what is known of the spindle.
    """

    def __init__(self, stream: Stream, speed: Speed) -> None:
        self.stream = stream
        self.speed = speed
        self._held: deque[Segment | Gap] = deque()

    @abstractmethod
    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """Judge the windows that this message completes; their facts are known."""

    @abstractmethod
    def first(self) -> int | None:
        """First sample that a window still to come depends on, of those taken; None before the first."""

    @property
    def waits_until_ns(self) -> int | None:
        """End of the oldest samples that wait for a fact, or None where none do."""
        return self._end(self._held[0]) if self._held else None

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window; the facts since the lag before it must be known again too."""
        n = self.first()
        if n is None and self._held:
            n = self._held[0].n0
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Judge what this message completes and whose facts are known."""
        if isinstance(message, Segment):
            if self._held or self.speed.waits(self._end(message)):
                message = Segment(message.stream, message.anchor, message.n0, message.x.copy())
            self._held.append(message)
        elif isinstance(message, Gap):
            self._held.append(message)
        else:
            raise TypeError(f"{type(self).__name__} takes Segment and Gap, not {type(message).__name__}")
        return self.release()

    def release(self) -> list[Message]:
        """Judge what need not wait any longer."""
        return list(self._taken(ended=False))

    def flush(self) -> Iterable[Message]:
        """What still waited is judged under what is known."""
        return list(self._taken(ended=True))

    def inherit(self, failed: Gated) -> None:
        """Go on with what waits in an operator of the same stream that has failed."""
        self._held = failed._held

    def _end(self, message: Segment | Gap) -> int:
        return end_ns(message.anchor, message.n1, message.stream)

    def _taken(self, *, ended: bool) -> Iterator[Message]:
        while self._held and (ended or not self.speed.waits(self._end(self._held[0]))):
            yield from self.take(self._held.popleft())
