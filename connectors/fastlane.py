"""The fast lane: detectors beside a source's samples, inside the connector, with a local output hook.

The pipeline sees a sample when its chunk is full, sent and taken in. A stop request for a breaking drill cannot wait
for all of that: here the same operators read the samples as they leave the source, 5 ms at a time, and call a hook the
moment an alarm is raised. What is said is the pipeline's own answer, to the bit, because neither depends on how samples
are cut; only when it is said differs.

Advisory, not a protective function: an interpreter on a general operating system has no worst case. Whatever the hook
switches must be safe without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import ClassVar, Protocol, Self, runtime_checkable

from connectors.base import Resume, Source, SourceMessage
from pipeline.messages import Alarm, Chunk, Context, Mark, Score, Stream

SLICE_S = 0.005
"""Longest run of samples that is handed to the detectors at once."""

Hook = Callable[[Alarm], None]


@runtime_checkable
class Outlet(Protocol):
    """A hook with something to hold open, such as a connection; held by each lane from its opening to its closing."""

    counts: Counter[str]
    """What became of the alarms, by name; lanes add their own faults as ``failed``."""

    def __call__(self, alarm: Alarm) -> None:
        """Take an alarm, without waiting."""

    def heard(self, machine: str) -> None:
        """The detectors of a machine have taken samples in."""

    @property
    def trouble(self) -> str:
        """What is wrong now; empty if nothing."""
        ...

    def __enter__(self) -> Self:
        """Open what is to be held, unless another lane has it open."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it, unless another lane needs it."""


class Listener(Protocol):
    """The detectors of one machine."""

    def listen(self, message: Chunk | Mark | Context) -> Iterable[Score | Alarm]:
        """Take one message in; return what the detectors say to it, in order, and raise a fault behind it."""
        ...

    def judges(self, stream: Stream) -> bool:
        """Whether a detector listens to this stream, and to the others of the machine that have one, too."""
        ...


class FastLane(Source):
    """A source that lets detectors listen before it hands its messages on, unchanged.

    A hook that fails, or a listener that does, is counted and remembered in `errors`; samples go on flowing. A hook's
    fault is told as `trouble` until the hook takes an alarm again, a listener's to the end: it has lost samples. A
    slow hook holds the samples up: one that may take longer than a chunk must hand over to a thread of its own, as
    `connectors.mqtt_hook` does.

    Args:
        source: the source, which stays at hand under this name.
        listeners: the detectors by machine.
        hook: called with each alarm that is raised or cleared, in the thread that polls; an `Outlet` is held open too.
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
        self.source = source
        self._listeners = dict(listeners)
        self._hook, self._on_score = hook, on_score
        self._outlet = hook if isinstance(hook, Outlet) else None
        self._held = False
        self._slice_s = slice_s
        self.failures = 0
        self.errors: list[str] = []
        self._faults: dict[str, str] = {}  # by who failed, the last one last

    def contents(self) -> Mapping[tuple[str, str], str]:
        """Of the source."""
        told: Mapping[tuple[str, str], str] = getattr(self.source, "contents", dict)()
        return told

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open the source, and what the hook needs."""
        streams = self.source.open(resume, now_ns)
        if self._outlet is not None and not self._held:
            self._outlet.__enter__()
            self._held = True
        return streams

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """What the source has, after the detectors have heard it."""
        messages = self.source.poll(now_ns)
        for message in messages:
            if isinstance(message, Chunk | Mark | Context):
                self.hear(message)
        return messages

    def wake_ns(self, now_ns: int) -> int:
        """When the source has more."""
        return self.source.wake_ns(now_ns)

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended."""
        return self.source.exhausted

    def close(self) -> None:
        """Close the source, and what the hook needed."""
        try:
            self.source.close()
        finally:  # a device that cannot even be closed must not keep the status "online"
            if self._outlet is not None and self._held:
                self._held = False
                self._outlet.__exit__(None, None, None)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the alarms of all lanes that share the outlet, as ``fast_lane.expired`` and the like."""
        counted = {"failed": self.failures} if self._outlet is None else self._outlet.counts
        return {f"fast_lane.{name}": number for name, number in counted.items()}

    @property
    def counters(self) -> Mapping[str, int]:
        """Of the source."""
        told: Mapping[str, int] = getattr(self.source, "counters", {})
        return told

    @property
    def trouble(self) -> str:
        """What the source, the hook or a detector complains about."""
        outlet = "" if self._outlet is None else self._outlet.trouble
        faults = [*self._faults.values()]
        fault = f"{self.failures} faults, the last: {faults[-1]}" if faults else ""
        own = "; ".join(part for part in (outlet, fault) if part)
        return str(getattr(self.source, "trouble", "")) or (own and f"fast lane: {own}")

    def hear(self, message: Chunk | Mark | Context) -> None:
        """Let the detectors hear one message; also for a device's own callback, before a chunk is full."""
        machine = message.machine if isinstance(message, Context) else message.stream.machine
        listener = self._listeners.get(machine)
        if listener is None:
            return
        try:
            parts = [*self._slices(message)]
        except Exception as error:  # a rate that is none, samples without a length: the pipeline counts them, too
            self._failed("detectors", machine, error)
            return
        for part in parts:
            try:
                for said in listener.listen(part):
                    self._say(said, machine)
                if self._outlet is not None and isinstance(part, Chunk) and listener.judges(part.stream):
                    self._outlet.heard(machine)
            except Exception as error:  # a detector's fault must not cost the pipeline its samples
                self._failed("detectors", machine, error)

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

    def _say(self, said: Score | Alarm, machine: str) -> None:
        try:
            if isinstance(said, Alarm):
                self._hook(said)
                self._faults.pop("hook", None)
            elif self._on_score is not None:
                self._on_score(said)
        except Exception as error:  # it must not cost the other alarms of the same samples
            self._failed("hook", machine, error)

    def _failed(self, who: str, machine: str, error: Exception) -> None:
        self.failures += 1
        if self._outlet is not None:
            self._outlet.counts["failed"] += 1
        text = f"{machine}: {type(error).__name__}: {error}"
        self._faults.pop(who, None)
        self._faults[who] = text
        if text not in self.errors[-8:]:
            self.errors = [*self.errors[-7:], text]


class RereadFastLane(FastLane):
    """The same beside a source that can be read again after a restart.

    What it hears a second time is old by then: an outlet must not act on old alarms.
    """

    rereadable: ClassVar[bool] = True
