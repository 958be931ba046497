"""The fast lane: detectors beside a source's samples, inside the connector, with a local output hook.

The pipeline sees a sample when its chunk is full, sent and taken in. A stop request for a breaking drill cannot wait
for all of that: here the same operators read the samples as they leave the source, 5 ms at a time, and call a hook the
moment an alarm is raised. What is said is the pipeline's own answer, to the bit, because neither depends on how samples
are cut; only when it is said differs.

Advisory, not a protective function: an interpreter on a general operating system has no worst case. Whatever the hook
switches must be safe without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from connectors.base import Resume, Source, SourceMessage
from pipeline.messages import Alarm, Chunk, Context, Mark, Score, Stream

SLICE_S = 0.005
"""Longest run of samples that is handed to the detectors at once."""

Hook = Callable[[Alarm], None]


class Listener(Protocol):
    """The detectors of one machine."""

    def listen(self, message: Chunk | Mark | Context) -> Iterable[Score | Alarm]:
        """Take one message in; return what the detectors say to it, in order."""
        ...


class FastLane(Source):
    """A source that lets detectors listen before it hands its messages on, unchanged.

    A hook that fails, or a listener that does, is counted and remembered in `errors`; samples go on flowing. A slow
    hook holds the samples up: one that may take longer than a chunk must hand over to a thread of its own.

    Args:
        source: the source.
        listeners: the detectors by machine.
        hook: called with each alarm that is raised or cleared, in the thread that polls.
        on_score: called with each score, for tests and measurements.
        slice_s: longest run of samples that is handed to the detectors at once.
    """

    rereadable: ClassVar[bool] = False

    def __init__(
        self,
        source: Source,
        listeners: Mapping[str, Listener],
        hook: Hook,
        *,
        on_score: Callable[[Score], None] | None = None,
        slice_s: float = SLICE_S,
    ) -> None:
        if not slice_s > 0.0:
            raise ValueError(f"slices must have a length, not {slice_s} s")
        self._source = source
        self._listeners = dict(listeners)
        self._hook, self._on_score = hook, on_score
        self._slice_s = slice_s
        self.failures = 0
        self.errors: list[str] = []

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open the source."""
        return self._source.open(resume, now_ns)

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """What the source has, after the detectors have heard it."""
        messages = self._source.poll(now_ns)
        for message in messages:
            if isinstance(message, Chunk | Mark | Context):
                self.hear(message)
        return messages

    def wake_ns(self, now_ns: int) -> int:
        """When the source has more."""
        return self._source.wake_ns(now_ns)

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended."""
        return self._source.exhausted

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def hear(self, message: Chunk | Mark | Context) -> None:
        """Let the detectors hear one message; also for a device's own callback, before a chunk is full."""
        machine = message.machine if isinstance(message, Context) else message.stream.machine
        listener = self._listeners.get(machine)
        if listener is None:
            return
        for part in self._slices(message):
            try:
                for said in listener.listen(part):
                    self._say(said)
            except Exception as error:  # a detector's fault must not cost the pipeline its samples
                self._failed(f"{machine}: {type(error).__name__}: {error}")

    def _slices(self, message: Chunk | Mark | Context) -> Iterator[Chunk | Mark | Context]:
        if not isinstance(message, Chunk):
            yield message
            return
        step = max(1, int(self._slice_s * message.stream.rate.hz))
        if len(message.samples) <= step:
            yield message
            return
        for i in range(0, len(message.samples), step):
            yield replace(message, n0=message.n0 + i, samples=message.samples[i : i + step])

    def _say(self, said: Score | Alarm) -> None:
        if isinstance(said, Alarm):
            self._hook(said)
        elif self._on_score is not None:
            self._on_score(said)

    def _failed(self, text: str) -> None:
        self.failures += 1
        if text not in self.errors[-8:]:
            self.errors = [*self.errors[-7:], text]
