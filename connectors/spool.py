"""Records on disk while their receiver is away: a ring of MCAP files that keeps order and says what it dropped."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from mcap.reader import SeekingReader
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

_SIZE: Final = struct.Struct("<I")
_MARK: Final = ".mcap"


class Kept(NamedTuple):
    """A record as a producer sends it. `seq` is its place in the order of publishing."""

    seq: int
    topic: str
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int

    @property
    def nbytes(self) -> int:
        """About its size in memory and on disk."""
        return len(self.value or b"") + sum(len(name) + len(value) for name, value in self.headers) + 100


class Waiting(NamedTuple):
    """A record on its way, and since when, by the monotonic clock."""

    since: float
    kept: Kept


class Segment(NamedTuple):
    """What a file holds.

    Attributes:
        records: those that can be read, in order.
        damage: what ended the reading; empty for a whole file.
        lost: records behind the damage, as far as the file still tells.
    """

    records: list[Kept]
    damage: str = ""
    lost: int = 0


class Spool:
    """A folder of segments, the oldest first. Not for several threads at once.

    Whatever raises an OSError gives the present segment up: it reads up to its damage, `lost` counts the records behind
    that, and the next record begins a new one.

    Args:
        folder: where the segments lie; those of an earlier process are sent first.
        limit_bytes: size from which the oldest segment is dropped and counted.
        segment_bytes: size of one file.
    """

    def __init__(self, folder: Path, limit_bytes: int, segment_bytes: int = 8_000_000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.dropped = 0
        self._sending: Path | None = None
        self.lost = 0
        self._folder = folder
        self._limit = limit_bytes
        self._segment = segment_bytes
        self._file: BinaryIO | None = None
        self._path = folder
        self._writer: Writer | None = None
        self._channels: dict[str, int] = {}
        self._bytes = 0
        self._count = 0

    def segments(self) -> list[Path]:
        """All files, oldest first."""
        return sorted(self._folder.glob("*" + _MARK))

    @property
    def next_seq(self) -> int:
        """A number behind all that is on disk."""
        last = self.segments()[-1:]
        return 0 if not last else max((kept.seq for kept in load(last[0]).records), default=int(last[0].stem)) + 1

    @property
    def nbytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.segments())

    def append(self, record: Kept) -> None:
        """Write one record behind all others; `sync` brings it to disk.

        Raises:
            OSError: the disk does not take it, or not those before it.
        """
        if self._writer is None:
            self._path = self._folder / f"{record.seq:020d}{_MARK}"
            self._channels, self._bytes, self._count = {}, 0, 0
        self._count += 1  # whatever fails below, it is one of those that should be in the file
        with self._failing():
            writer = self._writer or self._begin()
            channel = self._channels.get(record.topic)
            if channel is None:
                channel = self._channels[record.topic] = writer.register_channel(record.topic, "stethos.kept", 0)
            writer.add_message(channel, record.timestamp_ms * 1_000_000, _pack(record), record.seq)
            self._bytes += record.nbytes
            if self._bytes >= self._segment:
                self.roll()
                self._bound()

    def _begin(self) -> Writer:
        self._file = self._path.open("wb")
        self._writer = Writer(self._file, chunk_size=256_000, compression=CompressionType.NONE)
        self._writer.start("stethos.spool", "stethos")
        return self._writer

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Nobody knows what of the last writes is in the file: nothing more goes behind them. May be called twice."""
        file, self._file, self._writer = self._file, None, None
        whole = 0
        with suppress(OSError):
            if file is not None:
                file.close()
        with suppress(OSError):
            whole = len(load(self._path).records)
            if whole == 0:
                self._path.unlink()
        self.lost += self._count - whole
        self._count = whole

    def _bound(self) -> None:
        segments = self.segments()
        full = sum(path.stat().st_size for path in segments)
        oldest = [path for path in segments[:-1] if path != self._sending]
        while oldest and full > self._limit:
            path = oldest.pop(0)
            found = load(path)
            self.dropped += len(found.records) + found.lost
            full -= path.stat().st_size
            path.unlink()

    def sync(self) -> None:
        """Wait until everything is on disk."""
        if self._writer is not None and self._file is not None:
            with self._failing():
                self._writer.flush()  # type: ignore[no-untyped-call]
                self._file.flush()
                os.fsync(self._file.fileno())

    def roll(self) -> None:
        """Finish the present segment."""
        if self._writer is not None and self._file is not None:
            with self._failing():
                self._writer.finish()  # type: ignore[no-untyped-call]
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
        self._writer = self._file = None

    def first(self) -> tuple[Path, Segment] | None:
        """The oldest segment with what it holds; finishes the present one if that is all there is."""
        segments = self.segments()
        if segments and self._writer is not None and segments[0] == self._path:
            self.roll()
        self._sending = segments[0] if segments else None
        return (segments[0], load(segments[0])) if segments else None

    def close(self) -> None:
        """Finish the file. May be called twice."""
        self.roll()


def read(path: Path) -> Iterator[Kept]:
    """A segment's records; of one that is damaged, those before the damage."""
    yield from load(path).records


def load(path: Path) -> Segment:
    """Read a segment up to its end, or to where a crash cut it short or its disk has damaged it.

    Raises:
        OSError: it cannot be opened.
    """
    data, damage = _content(path)
    topics: dict[int, str] = {}
    records: list[Kept] = []
    try:
        # Nothing is longer than its file. A checksum that fails comes before the records that it is of.
        for record in StreamReader(BytesIO(data), validate_crcs=True, record_size_limit=len(data)).records:
            if isinstance(record, Channel):
                topics[record.id] = record.topic
            elif isinstance(record, Message):
                records.append(_unpack(topics[record.channel_id], record))
    except MemoryError:  # of this process, not of the file
        raise
    except Exception as error:  # a flipped bit is a wrong length, number, name or type: it may raise anything
        damage = damage or f"{type(error).__name__}: {error}".rstrip(": ")
    return Segment(records, damage, max(0, _announced(data) - len(records)) if damage else 0)


def _content(path: Path) -> tuple[bytes, str]:
    """A file's bytes, up to a place that the disk cannot read, and what it says of that."""
    pieces: list[bytes] = []
    with path.open("rb") as file:
        try:
            while piece := file.read(1 << 20):
                pieces.append(piece)
        except OSError as error:
            return b"".join(pieces), str(error)
    return b"".join(pieces), ""


def _announced(data: bytes) -> int:
    """The number of records that the end of a finished segment tells; 0 without one."""
    try:
        summary = SeekingReader(BytesIO(data)).get_summary()
    except Exception:  # as in `load`
        return 0
    return 0 if summary is None or summary.statistics is None else summary.statistics.message_count


def _pack(record: Kept) -> bytes:
    parts = [record.key, *(part for name, value in record.headers for part in (name.encode(), value))]
    packed = [_SIZE.pack(len(parts)), *(piece for part in parts for piece in (_SIZE.pack(len(part)), part))]
    seq = struct.pack("<q?", record.seq, record.value is None)
    return b"".join((seq, *packed, record.value or b""))


def _unpack(topic: str, message: Message) -> Kept:
    data = message.data
    seq, empty = struct.unpack_from("<q?", data)
    (count,) = _SIZE.unpack_from(data, 9)
    at, parts = 13, []
    for _ in range(count):
        (size,) = _SIZE.unpack_from(data, at)
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    headers = [(name.decode(), value) for name, value in zip(parts[1::2], parts[2::2], strict=True)]
    value = None if empty else data[at:]
    return Kept(seq, topic, parts[0], value, headers, message.log_time // 1_000_000)
