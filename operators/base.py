"""What an operator is: a pure function of its messages with a little memory, in two kinds.

A *windowed* operator remembers samples. Its memory is finite and is never saved: after a restart the log is read again
from what `needs_from` named, and until its memory is full it emits nothing. A *stateful* operator remembers what it
learned; it is saved as a small snapshot. Windowed operators feed stateful ones, never the reverse.

The output of both depends on their input alone, to the bit, however the samples were cut into chunks. Anything summed
is therefore summed over complete blocks of fixed size, and never over what happened to have arrived.

Instances belong to one stream (`scope="stream"` in the topology) or to one machine (`scope="machine"`). A windowed
operator of a stream receives `Segment` and `Gap` (or the `Window` of an earlier stage) of that stream only, in order,
without overlap: each message starts where the previous one ended, except the first one after a start or a rebuild.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pipeline.messages import Message


class Windowed(ABC):
    """Finite memory, rebuilt from the log."""

    memory_s: ClassVar[float] = 0.0
    """The longest time from the first sample that an output depends on to its last one, which is what a restart reads
    again. Where settings decide it, the constructor refuses those that need more."""

    @abstractmethod
    def process(self, message: Message) -> Iterable[Message]:
        """Take one message in and return what it completes, in order. Never keeps or changes the message's arrays."""

    @abstractmethod
    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """First sample of each (sensor, epoch) that an output still to come depends on."""

    def flush(self) -> Iterable[Message]:
        """Say that the stream has ended: emit what an end completes. Called on an end mark, never on a stop."""
        return ()


class Stateful(ABC):
    """Small state, saved as a snapshot with the event time that it includes."""

    @abstractmethod
    def process(self, message: Message) -> Iterable[Message]:
        """Take one message in and return what follows from it, in order."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """The state as JSON values, at most 20 kB encoded; equal states give equal snapshots."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the operator that gave this snapshot."""
