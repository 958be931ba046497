"""Results as JSON lines, appended as they come: for people with `grep` and for shippers of logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any, ClassVar

from connectors.base import Sink
from pipeline.errors import SinkBusy
from pipeline.messages import Record


class JsonLinesSink(Sink):
    """Appends one line per record: topic, log place and body. A repeated batch repeats its lines; ids tell them apart.

    Args:
        path: the file; its folder is created.
    """

    name: ClassVar[str] = "jsonl"

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, records: Sequence[Record]) -> None:
        """Append all records with one write.

        Raises:
            SinkBusy: the file cannot be written now (disk full, folder gone).
        """
        lines = [
            json.dumps({**_told(r), "topic": r.topic, "seq": r.seq}, sort_keys=True, separators=(",", ":"))
            for r in records
        ]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b", buffering=0) as file:
                whole = file.seek(0, SEEK_END)
                if _torn(file, whole):
                    lines.insert(0, "")
                _write(file, ("\n".join(lines) + "\n").encode(), whole)
        except OSError as error:
            raise SinkBusy(f"{self._path}: {error.strerror}", 5.0) from None

    def close(self) -> None:
        """Nothing is held open."""


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
