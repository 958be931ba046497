"""What a source and a sink are. Connectors know devices and files, and nothing of lanes, engines or state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from pipeline.messages import Anchor, Chunk, Context, Image, Mark, Record, Stream

SourceMessage = Chunk | Image | Mark | Context


class Resume(NamedTuple):
    """Where a re-readable source goes on after a restart: the same stream, the same anchor, from sample `n`.

    A `fresh` one begins a stream of this epoch, with an anchor of its own: it has other contents than before.
    """

    epoch: int
    anchor: Anchor
    n: int
    fresh: bool = False


class Source(ABC):
    """Where data come from. The engine calls `open`, then `poll` from one thread until `exhausted`, then `close`."""

    rereadable: ClassVar[bool] = False
    """Whether the same samples can be had again after a restart (files: yes, devices: no)."""

    @abstractmethod
    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Open the device or file and return its streams.

        Args:
            resume: for each (machine, sensor) seen before, where it stopped. A re-readable source continues there;
                another one starts a new stream with ``epoch = resume.epoch + 1``.
            now_ns: the host's clock, for the anchors of new streams.

        Raises:
            SourceError: the device or file cannot be used; says which, and how to mend it.
        """

    @abstractmethod
    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """Everything that is due at `now_ns`, oldest first, at most about a second of data; never blocks."""

    @abstractmethod
    def wake_ns(self, now_ns: int) -> int:
        """When `poll` should be called next; at or before `now_ns` when more is ready already."""

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """Whether nothing more will come (a file at its end, after its end mark)."""

    @abstractmethod
    def close(self) -> None:
        """Let the device go. May be called twice."""


class Sink(ABC):
    """Where results go. The engine calls `write` with records in log order and repeats a batch that failed."""

    name: ClassVar[str]

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Deliver all records or raise; delivering a record twice must leave the same as delivering it once.

        Raises:
            SinkBusy: not now; the same batch comes again after `retry_after_s`.
            SinkRejected: never; the records are counted as dropped with this reason.
        """

    def ending(self) -> None:  # noqa: B027  most sinks wait for nothing
        """The run has ended: a sink that waits for more to be recorded goes on with what there is."""

    @abstractmethod
    def close(self) -> None:
        """Deliver what is buffered and let go. May be called twice."""
