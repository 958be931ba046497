"""Reading a recording: what it begins with, then its messages in the order in which the lanes saw them.

The file is read forward once, one MCAP chunk (about a megabyte) at a time, without its index: a file that is still
being written, or that a crash cut short, gives all that is whole in it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from weakref import finalize

import orjson
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Header, Metadata

from pipeline.errors import BadInput, StateError
from pipeline.messages import NS, Input
from pipeline.recording.format import (
    DERIVED,
    HEADER,
    PREROLL,
    PROFILE,
    RUN,
    SCHEMA_VERSION,
    TOPIC,
    RecordingError,
    reader_of,
)
from pipeline.recording.mcap_walk import DAMAGE, Item, Piece, inside, record, walk


class Logged(NamedTuple):
    """A message with its place in the recording."""

    log_ns: int
    preroll: bool
    message: Input


class Recording:
    """One file. `messages` may be called again and again; each call reads the file from its start.

    Attributes:
        path: the file.
        facts: text by name that the recording began with.
        fingerprint: of the numeric platform that it was made on.
        attachments: snapshots, configuration and baselines by name.
        damage: why the newest pass of `messages` ended early; None after a pass over a whole file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, str] = {}
        self.fingerprint: Mapping[str, Any] = {}
        self.attachments: dict[str, bytes] = {}
        self.damage: str | None = None
        self._fd: int | None = None
        self._read_start()

    @property
    def snapshots(self) -> dict[str, bytes]:
        """The stateful snapshots by machine."""
        return self.under("snapshot/")

    def under(self, prefix: str) -> dict[str, bytes]:
        """The attachments whose names begin with `prefix`, by the rest of their names."""
        return {name[len(prefix) :]: data for name, data in self.attachments.items() if name.startswith(prefix)}

    def _read_start(self) -> None:
        with open_recording(self.path) as file:
            with suppress(OSError):  # too many at once: then it must keep its name
                self._fd = os.dup(file.fileno())
                finalize(self, os.close, self._fd)
            try:
                for piece in walk(file):
                    if piece.opcode == Opcode.CHUNK:
                        break
                    self._take(record(file, piece))
            except DAMAGE as error:
                if not self.facts:
                    raise BadInput("not_a_recording", f"{self.path}: no recording: {reason_of(error)}") from None
                self.damage = reason_of(error)
        if not self.facts:
            raise BadInput("not_a_recording", f"{self.path}: its first record, {HEADER}, is missing")

    def _again(self) -> BinaryIO:
        """The file anew: the ring may have finished and renamed it meanwhile, or deleted it."""
        try:
            return open_recording(self.path)
        except RecordingError:
            if self._fd is None:
                raise
        return os.fdopen(os.open(f"/dev/fd/{self._fd}", os.O_RDONLY), "rb")

    def _take(self, found: Header | Metadata | Attachment | None) -> None:
        if isinstance(found, Header) and found.profile != PROFILE:
            raise BadInput("not_a_recording", f"{self.path}: an MCAP file, but no recording of stethos")
        if isinstance(found, Metadata) and found.name == HEADER:
            check_version(found.metadata, self.path)
            self.facts = dict(found.metadata)
            self.fingerprint = orjson.loads(self.facts.get("fingerprint", "{}"))
        elif isinstance(found, Attachment):
            self.attachments[found.name] = found.data

    def messages(self) -> Iterator[Logged]:
        """All inputs in log order; preroll first. Stops at damage and says so in `damage`.

        Raises:
            BadInput: log times that do not increase: another program has rewritten the file.
            DecodeError: a message of no form that this program knows.
        """
        self.damage = None
        channels: dict[int, _Channel] = {}
        last = -1
        with self._again() as file:
            try:
                for item in _items(file, channels):
                    channel = channels[item.channel]
                    if channel.read is None:
                        continue
                    if item.log_ns <= last:
                        raise BadInput("order", f"{self.path}: log times do not increase at {item.log_ns}")
                    last = item.log_ns
                    yield Logged(last, channel.preroll, channel.read(item.data))
            except DAMAGE as error:
                self.damage = reason_of(error)


def _items(file: BinaryIO, channels: dict[int, _Channel]) -> Iterator[Item]:
    for piece in walk(file):
        if piece.opcode == Opcode.CHUNK:
            yield from _of_chunk(file, piece, channels)


def _of_chunk(file: BinaryIO, piece: Piece, channels: dict[int, _Channel]) -> Iterator[Item]:
    for found in inside(file, piece):
        if isinstance(found, Item):
            yield found
        elif isinstance(found, Channel):
            channels.setdefault(found.id, _Channel(found))


class _Channel:
    """How a channel's messages are read; `read` is None for derived ones."""

    def __init__(self, channel: Channel) -> None:
        self.read: Callable[[bytes], Input] | None = None
        self.preroll = channel.metadata.get(PREROLL) == "1"
        if not channel.metadata.get(TOPIC, DERIVED).startswith(DERIVED):
            self.read = reader_of(channel.message_encoding, channel.metadata)


def read(path: Path) -> Recording:
    """Open a recording: a finished file, a ``.part``, or what a crash left of one.

    Raises:
        RecordingError: the file cannot be opened.
        BadInput: it is no recording.
        StateError: a newer version of stethos wrote it.
    """
    return Recording(path)


_STAMP = re.compile(r".*-(\d{8}T\d{6}\.\d{9}Z\.mcap)")


def written(path: Path) -> tuple[int, str, str]:
    """What orders the files of a folder by when they were written: the run, then the time in the name, then the name.

    Not the time alone: a box that starts with an earlier clock writes newer files of earlier times. Of a copy under
    another name its first message tells the time.
    """
    name = path.name.removesuffix(".part")
    found = _STAMP.fullmatch(name)
    try:
        run = _run_of(path.with_name(name))
        begun = found[1] if found else _first_stamp(path)
    except (*DAMAGE, OSError, RecordingError):  # broken, just deleted, or only just begun
        run, begun = 0, found[1] if found else ""
    return run, begun, name


def stamp(t_ns: int) -> str:
    """How a time stands in a name, so that names sort by it."""
    s, ns = divmod(t_ns, NS)
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(s))}.{ns:09d}Z.mcap"


def _first_stamp(path: Path) -> str:
    with open_recording(path) as file:
        return next((stamp(item.log_ns) for item in _items(file, {})), "")


@lru_cache(maxsize=1 << 14)  # of a whole ring: evidence asks for all of it, several times a second
def _run_of(path: Path) -> int:
    """The number of the run that wrote a recording, finished or not; 0 where it does not say."""
    with open_recording(path if path.exists() else path.with_name(path.name + ".part")) as file:
        for piece in walk(file):
            found = record(file, piece)
            if isinstance(found, Metadata) and found.name == HEADER:
                return int(found.metadata.get(RUN, "0"))
            if piece.opcode == Opcode.CHUNK:
                break
    return 0


def check_version(facts: Mapping[str, str], path: Path) -> None:
    """Refuse recordings of newer versions."""
    text = facts.get("schema_version", "")
    if not text.isdecimal():
        raise BadInput("not_a_recording", f"{path}: its schema version is {text!r:.20}")
    if int(text) > SCHEMA_VERSION:
        raise StateError(
            f"{path}: written by a newer stethos (recording schema {text}, this program reads up to {SCHEMA_VERSION}):"
            " update stethos"
        )


def open_recording(path: Path) -> BinaryIO:
    """Open for reading, errors as ours."""
    try:
        return path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None


def reason_of(error: BaseException) -> str:
    """Damage in words."""
    if isinstance(error, EndOfFile):
        return "EndOfFile: the file ends in the middle, its last second may be missing"
    return f"{type(error).__name__}: {error}"
