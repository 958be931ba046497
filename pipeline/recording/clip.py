"""What a sensor recorded around a moment: the raw material of an alarm's evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias

from mcap.records import Channel

from pipeline.errors import DecodeError
from pipeline.messages import NS, Chunk, Image, Input, Mark
from pipeline.recording.format import RecordingError, reader_of, stream_of
from pipeline.recording.mcap_walk import DAMAGE, ChunkPlace, Item, chunk_places, inside, publish_ns
from pipeline.recording.reader import open_recording, written

NOT_RECORDED: Final = "not_recorded"
_LONGEST_NS = 5 * NS
"""No chunk of samples is longer."""
_SKEW_NS = 60 * NS
"""A sensor's clock may be this far ahead of the host's."""


class Missing(NamedTuple):
    """A part of the time asked for without samples: what a mark said about it, or ``"not_recorded"``."""

    t0_ns: int
    t1_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Clip:
    """The samples of one sensor with t0_ns <= t < t1_ns.

    Attributes:
        parts: chunks, cut to the time asked for, or whole images; in order, without repeats. Consecutive parts may
            belong to different epochs or have a gap between them: `missing` tells.
        missing: times without samples, in order.
        reached_ns: how far the sensor's recording has come, by samples or by a mark; 0 if there is none.
    """

    machine: str
    sensor: str
    t0_ns: int
    t1_ns: int
    parts: tuple[Chunk | Image, ...]
    missing: tuple[Missing, ...]
    reached_ns: int


Sampled: TypeAlias = Chunk | Image | Mark


def window_of(folder: Path, machine: str, sensor: str, t0_ns: int, t1_ns: int) -> Clip:
    """The samples of a sensor in [t0_ns, t1_ns) from the recordings in a folder, the growing one included.

    Sync the recorder first: what it has not written yet is missing. Only the parts of the files that are needed are
    read.
    """
    newest_first: list[list[Sampled]] = []
    reached_ns = 0
    searched: set[str] = set()
    for path in sorted((*folder.glob("*.mcap"), *folder.glob("*.mcap.part")), key=written, reverse=True):
        series = path.name.rpartition("-")[0]
        if series in searched:
            continue
        messages: list[Sampled] = []
        newest_first.append(messages)
        try:
            with open_recording(path) as file:
                search = _Search(file, machine, sensor, t0_ns, t1_ns)
                messages.extend(search.messages())
        except (
            *DAMAGE,
            OSError,
            DecodeError,
            RecordingError,
        ):  # damaged, or just deleted by the ring: missing shows what that cost
            continue
        reached_ns = reached_ns or search.reached_ns
        if search.begins_before:
            searched.add(series)
    found = [message for messages in reversed(newest_first) for message in messages]
    marks = [message for message in found if isinstance(message, Mark)]
    parts = tuple(_joined((m for m in found if not isinstance(m, Mark)), t0_ns, t1_ns))
    return Clip(machine, sensor, t0_ns, t1_ns, parts, tuple(_missing(parts, marks, t0_ns, t1_ns)), reached_ns)


class _Search:
    """One pass over one file.

    Attributes:
        reached_ns: event time that the newest message of the sensor has come to; 0 if there is none.
    """

    def __init__(self, file: BinaryIO, machine: str, sensor: str, t0_ns: int, t1_ns: int) -> None:
        self._file = file
        self._of = (machine, sensor)
        self._t = (t0_ns, t1_ns)
        self.reached_ns = 0
        self._first_ns: int | None = None
        self._first_log_ns: int | None = None
        self._known: set[int] = set()
        self._wanted: dict[int, Callable[[bytes], Input]] = {}

    def messages(self) -> Iterator[Sampled]:
        """All chunks, images and marks of the sensor that overlap the time."""
        before: ChunkPlace | None = None
        for place in chunk_places(self._file):
            if self._first_log_ns is None:
                self._first_log_ns = place.log_ns
            new = not place.channels or not self._known.issuperset(place.channels)
            if new and before is not None:  # a channel may be described at the end of the chunk before its first one
                for _ in self._read(before):
                    pass
            if new or self._relevant(place):
                yield from self._read(place)
            before = place

    @property
    def begins_before(self) -> bool:
        """Whether no earlier file of the series can hold samples of the time: known once all messages were taken.

        The sensor's own clock decides, which may be anywhere: the host's says nothing about it, and is asked only
        where the file has nothing of the sensor.
        """
        if self._first_ns is not None:
            return self._first_ns < self._t[0] - _LONGEST_NS
        return self._first_log_ns is not None and self._first_log_ns < self._t[0] - _SKEW_NS

    def _relevant(self, place: ChunkPlace) -> bool:
        first, end = self._t[0] - _LONGEST_NS, self._t[1]
        places = [at for channel in self._wanted.keys() & place.channels.keys() for at in place.channels[channel]]
        if places:
            self.reached_ns = publish_ns(self._file, max(places))
        return any(first <= publish_ns(self._file, at) < end for at in places)

    def _read(self, place: ChunkPlace) -> Iterator[Sampled]:
        t0_ns, t1_ns = self._t
        for found in inside(self._file, place.piece):
            if isinstance(found, Channel) and found.id not in self._known:
                self._learn(found)
            elif isinstance(found, Item) and found.channel in self._wanted:
                message = self._wanted[found.channel](found.data)
                if not isinstance(message, Chunk | Image | Mark):
                    continue
                if self._first_ns is None:
                    self._first_ns = message.t0_ns
                self.reached_ns = message.t1_ns
                if message.t0_ns < t1_ns and message.t1_ns > t0_ns:
                    yield message

    def _learn(self, channel: Channel) -> None:
        self._known.add(channel.id)
        stream = stream_of(channel.metadata)
        if stream is not None and (stream.machine, stream.sensor) == self._of:
            self._wanted[channel.id] = reader_of(channel.message_encoding, channel.metadata)


def _joined(parts: Iterable[Chunk | Image], t0_ns: int, t1_ns: int) -> Iterator[Chunk | Image]:
    """Cut to the time, in order of event time, each sample once."""
    ends: dict[int, int] = {}
    for part in sorted(parts, key=lambda part: (part.stream.epoch, part.n0)):
        end = ends.get(part.stream.epoch, 0)
        lo = max(end, part.n0, _first_at(part, t0_ns))
        hi = min(part.n1, _first_at(part, t1_ns))
        if lo >= hi:
            continue
        ends[part.stream.epoch] = hi
        yield (
            part if isinstance(part, Image) else replace(part, n0=lo, samples=part.samples[lo - part.n0 : hi - part.n0])
        )


def _first_at(part: Chunk | Image, t_ns: int) -> int:
    """The first sample index whose time is at or after `t_ns`."""
    rate, anchor = part.stream.rate, part.anchor
    return anchor.n - (anchor.t_ns - t_ns) * rate.num // (NS * rate.den)


def _missing(parts: Iterable[Chunk | Image], marks: Iterable[Mark], t0_ns: int, t1_ns: int) -> Iterator[Missing]:
    said = list(marks)
    at, last = t0_ns, None
    for part in sorted(parts, key=lambda part: part.t0_ns):
        joins = last is not None and (last.stream.epoch, last.n1) == (part.stream.epoch, part.n0)
        period = part.t1_ns - part.anchor.at(part.n1 - 1, part.stream.rate)
        if not joins and part.t0_ns - at > period:
            yield Missing(at, part.t0_ns, _reason(said, at, part.t0_ns))
        at, last = max(at, part.t1_ns), part
    if at < t1_ns:
        yield Missing(at, t1_ns, _reason(said, at, t1_ns))


def _reason(marks: Iterable[Mark], t0_ns: int, t1_ns: int) -> str:
    return next((mark.reason for mark in marks if mark.t0_ns < t1_ns and mark.t1_ns > t0_ns), NOT_RECORDED)
