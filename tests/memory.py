"""The test kit: a source that follows a script and a sink that keeps what it gets. Nothing here waits or sleeps.

A crash is a line of the script::

    source = ScriptedSource([stream], [chunk0, chunk1, ABORT, chunk2, END])

`poll` gives chunk0 and chunk1, the next one raises `Aborted`. Opened again, the script starts over at the sample that
`resume` names and gets past the abort: each one happens once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import ClassVar, Final, Literal

from connectors.base import Resume, Sink, Source, SourceMessage
from pipeline.errors import SourceError
from pipeline.messages import NS, Chunk, Context, Image, Mark, Record, Stream


class Cue(Enum):
    """What a script says besides its messages."""

    END = "end"
    ABORT = "abort"
    PAUSE = "pause"


END: Final = Cue.END
"""The source is exhausted; opened again, it goes on behind."""
ABORT: Final = Cue.ABORT
"""Once: `poll` raises `Aborted`."""
PAUSE: Final = Cue.PAUSE
"""`poll` gives what came before; the rest comes with the next call."""


class Aborted(BaseException):
    """The process is to die here. No `Exception`, so that no failure policy takes it for bad data."""


class ScriptedSource(Source):
    """Gives the messages of a script, all up to the next cue per `poll`.

    Args:
        streams: what `open` returns.
        script: messages and cues in order; the end of the script is an END.
    """

    rereadable: ClassVar[bool] = True

    def __init__(self, streams: Sequence[Stream], script: Iterable[SourceMessage | Cue]) -> None:
        self._streams = list(streams)
        self._script = list(script)
        self._at = 0
        self._done: set[int] = set()  # cues that have happened
        self._from: dict[tuple[str, str], Resume] = {}
        self._exhausted = False
        self.is_open = False
        self.opened: list[Mapping[tuple[str, str], Resume]] = []
        """What each `open` was given."""

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Start, start over, or go on."""
        del now_ns  # a script has its own times
        self.opened.append(dict(resume))
        self._from = dict(resume) if self.rereadable else {}
        if self.rereadable:
            self._at = 0
        self._exhausted, self.is_open = False, True
        return list(self._streams)

    def poll(self, now_ns: int) -> Sequence[SourceMessage]:
        """Everything up to the next cue.

        Raises:
            Aborted: the script says so.
            SourceError: the source is not open.
        """
        del now_ns
        if not self.is_open:
            raise SourceError("the scripted source is not open")
        out: list[SourceMessage] = []
        while self._at < len(self._script):
            line = self._script[self._at]
            if not isinstance(line, Cue):
                out.extend(self._rest(line))
            elif self._at not in self._done:
                if line is not PAUSE and out:
                    return out  # what came before arrives; the cue is for the next call
                return self._heed(line, out)
            self._at += 1
        self._exhausted = True
        return out

    def _heed(self, cue: Cue, out: list[SourceMessage]) -> list[SourceMessage]:
        self._done.add(self._at)
        self._at += 1
        if cue is ABORT:
            self.is_open = False
            raise Aborted
        self._exhausted = self._exhausted or cue is END
        return out

    def _rest(self, message: SourceMessage) -> Iterable[SourceMessage]:
        """What of a message lies behind the point to resume from."""
        if isinstance(message, Context):
            return (message,)
        resume = self._from.get((message.stream.machine, message.stream.sensor))
        if resume is None or message.stream.epoch > resume.epoch:
            return (message,)
        if message.stream.epoch < resume.epoch:
            return ()
        return _behind(message, resume.n)

    def wake_ns(self, now_ns: int) -> int:
        """At once, as long as there is something."""
        return now_ns + NS if self._exhausted else now_ns

    @property
    def exhausted(self) -> bool:
        """Whether an END, or the end of the script, was reached."""
        return self._exhausted

    def close(self) -> None:
        """Note that it was closed."""
        self.is_open = False


class ScriptedDevice(ScriptedSource):
    """The same for a device: what it once gave is gone, so a second `open` goes on where the script stopped."""

    rereadable: ClassVar[bool] = False


def _behind(message: Chunk | Image | Mark, n: int) -> Iterable[SourceMessage]:
    if message.n0 >= n or (isinstance(message, Mark) and message.reason == "end"):
        return (message,)
    if message.n1 <= n:
        return ()
    if isinstance(message, Chunk):
        return (replace(message, n0=n, samples=message.samples[n - message.n0 :]),)
    return (replace(message, n0=n),) if isinstance(message, Mark) else (message,)


class ListSink(Sink):
    """Keeps records in memory; a record with an id already there replaces the older one.

    Args:
        failures: what the first calls of `write` raise, one each (`SinkBusy`, `SinkRejected`); None lets one pass.
    """

    name: ClassVar[Literal["list"]] = "list"

    def __init__(self, failures: Iterable[Exception | None] = ()) -> None:
        self._failures = list(failures)
        self._kept: dict[tuple[str, str], Record] = {}
        self.batches: list[list[Record]] = []
        """Everything delivered, repeats too."""
        self.closed = 0

    @property
    def records(self) -> list[Record]:
        """One record per topic and id, the newest, in the order of their first delivery."""
        return list(self._kept.values())

    def of(self, topic: str) -> list[Record]:
        """The records of one topic."""
        return [record for record in self.records if record.topic == topic]

    def write(self, records: Sequence[Record]) -> None:
        """Keep the records, or fail as told."""
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        self.batches.append(list(records))
        for record in records:
            self._kept[record.topic, record.id] = record

    def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1
