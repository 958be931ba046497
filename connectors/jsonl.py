"""Results as JSON lines, appended as they come: for people with `grep` and for shippers of logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any, ClassVar

from connectors.base import Sink
from pipeline.errors import SinkBusy
from pipeline.messages import Record

MOST_BYTES = 4_000_000_000
PARTS = 8
"""Files that share the bound: what goes at once, when there is no room, is an eighth."""

log = logging.getLogger(__name__)


class JsonLinesSink(Sink):
    """Appends one line per record: topic, log place and body. A repeated batch repeats its lines; ids tell them apart.

    A file that has grown to its part of the bound is renamed to ``PATH.1``, that one to ``PATH.2`` and so on, as
    logrotate does and shippers know it; what is oldest goes, and is named in the log. No line lies in two files.

    Args:
        path: the file; its folder is created.
        most_bytes: of all these files together, but for a single batch that is larger than its part.
    """

    name: ClassVar[str] = "jsonl"

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes

    def write(self, records: Sequence[Record]) -> None:
        """Append all records with one write.

        Raises:
            SinkBusy: the file cannot be written now (disk full, folder gone), or not be renamed.
        """
        lines = [
            json.dumps({**_told(r), "topic": r.topic, "seq": r.seq}, sort_keys=True, separators=(",", ":"))
            for r in records
        ]
        data = ("\n".join(lines) + "\n").encode()
        try:
            path = self._path.resolve()  # else a link would be renamed, and the next file lie beside it
            path.parent.mkdir(parents=True, exist_ok=True)
            self._rotate(path, len(data))
            with path.open("a+b", buffering=0) as file:
                whole = file.seek(0, SEEK_END)
                _write(file, (b"\n" if _torn(file, whole) else b"") + data, whole)
        except OSError as error:
            raise SinkBusy(f"{self._path}: {error.strerror}", 5.0) from None

    def close(self) -> None:
        """Nothing is held open."""

    def _rotate(self, path: Path, more: int) -> None:
        """Let the file be the newest of the old ones, if what comes has no room in its part of the bound."""
        part = self._most_bytes // PARTS
        size = path.stat().st_size if path.is_file() else 0
        if not size or size + more <= part:
            return
        old = _rotated(path)
        for number in sorted(old, reverse=True):  # the highest first: whenever the power goes, none is overwritten
            old[number].rename(_numbered(path, number + 1))
        path.rename(_numbered(path, 1))
        old = _rotated(path)
        total = sum(one.stat().st_size for one in old.values())
        for number in sorted(old, reverse=True):
            if number == 1 or total <= self._most_bytes - part:  # 1 may be from before the bound
                break
            gone = old[number].stat().st_size
            old[number].unlink()
            total -= gone
            log.warning("%s: the oldest %d bytes of results went, for the sink's most_bytes", path, gone)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _rotated(path: Path) -> dict[int, Path]:
    """The old files by their number, 1 being the newest. What somebody has packed, or named else, is theirs."""
    found = ((one, one.name.removeprefix(f"{path.name}.")) for one in path.parent.iterdir())
    return {int(tail): one for one, tail in found if tail.isdecimal() and one == _numbered(path, int(tail))}


def _told(record: Record) -> Mapping[str, Any]:
    """The body; a dead letter names the topic that it came from, which is not that of the line."""
    if record.topic != "dlq":
        return record.body
    return {("from_topic" if key == "topic" else key): value for key, value in record.body.items()}


def _torn(file: FileIO, whole: int) -> bool:
    """Whether the power went in the middle of the last line: what follows must not hang on to it."""
    if not whole:
        return False
    file.seek(whole - 1)
    return file.read(1) != b"\n"


def _write(file: FileIO, data: bytes, whole: int) -> None:
    """All of the data, or nothing of them: half a line would spoil the next one."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(whole)
        raise
