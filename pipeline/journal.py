"""The journal: what a run found, in one canonical file, so that two runs can be compared by a hash.

JSON Lines, UTF-8. The first line is the header (platform and configuration fingerprint), which the hash leaves out.
Then one line per embedding (as a digest), score, machine state, alarm and health transition, and decision: the body
with sorted keys and shortest round-trip floats, and its ``topic``. Lines are ordered by machine, event time, id and
topic; a repeat by id has replaced what it repeats. Nothing in it depends on when, where or in which order the results
were computed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pipeline.bodies import parse
from pipeline.errors import BadInput, DecodeError, StateError, StethosError
from pipeline.messages import Decision, Record, Result
from pipeline.results import canonical, record_of

JOURNAL_VERSION: Final = 1
TOPICS: Final = frozenset({"embedding", "score", "machine_state", "alarm", "health", "decision"})
LEFT_OUT: Final = frozenset({"seq", "owner", "owner_epoch", "partition", "offset", "wall_ns"})
"""Entries of a body that say where and when it was computed."""

_BATCH = 1000
_VERSION_KEY = "stethos_journal"
_TABLE = """
CREATE TABLE line (
    topic TEXT NOT NULL, machine TEXT NOT NULL, id TEXT NOT NULL, t_ns INTEGER NOT NULL, line BLOB NOT NULL,
    PRIMARY KEY (topic, machine, id)
) WITHOUT ROWID
"""


class Journal:
    """Collects what a run finds and writes it in order. Beyond a few megabytes it sorts on disk, not in memory."""

    def __init__(self) -> None:
        self._batch: list[tuple[str, str, str, int, bytes]] = []
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # "": private, spills to disk
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(_TABLE)

    def add(self, found: Record | Result | Decision) -> None:
        """Take a result or decision in; topics that the journal does not keep are ignored."""
        record = found if isinstance(found, Record) else record_of(found)
        if record.topic not in TOPICS:
            return
        self._batch.append((record.topic, record.machine, record.id, record.t_ns, line_of(record)))
        if len(self._batch) >= _BATCH:
            self._spill()

    def _spill(self) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?, ?)", self._batch)
        self._db.execute("COMMIT")
        self._batch.clear()

    def lines(self) -> Iterator[bytes]:
        """The lines in order, without line ends."""
        self._spill()
        for (line,) in self._db.execute("SELECT line FROM line ORDER BY machine, t_ns, id, topic"):
            yield line

    def write(self, path: Path, header: Mapping[str, Any]) -> str:
        """Write the journal under `path` and return its hash; may be called again as more comes.

        Args:
            path: the file; it appears when it is complete.
            header: for people and `compare`: ``platform`` (see `platform_fingerprint`), ``configuration``.

        Raises:
            BadInput: there is a file of that name which is no journal.
            StethosError: the file cannot be written.
        """
        spare_others(path)
        part = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(canonical({**header, _VERSION_KEY: JOURNAL_VERSION}) + b"\n")
                for line in self.lines():
                    digest.update(line + b"\n")
                    file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise StethosError(f"{path}: the journal cannot be written: {error.strerror}") from None
        return digest.hexdigest()

    def close(self) -> None:
        """Let the temporary table go."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write_journal(records: Iterable[Record | Result | Decision], path: Path, header: Mapping[str, Any]) -> str:
    """Write all at once; returns the hash. See `Journal.write`."""
    with Journal() as journal:
        for record in records:
            journal.add(record)
        return journal.write(path, header)


def spare_others(path: Path) -> None:
    """Refuse to overwrite what is no journal: a recording or a state that was named by mistake.

    Raises:
        BadInput: the file holds something else.
    """
    with suppress(OSError), path.open("rb") as file:
        first = file.readline(1 << 20)
        if first and not (first.startswith(b"{") and f'"{_VERSION_KEY}"'.encode() in first):
            raise BadInput("journal", f"{path}: is no journal and would be overwritten; name another file")


def line_of(record: Record) -> bytes:
    """One line: the body and its topic, without what depends on the run."""
    body = {key: value for key, value in record.body.items() if key not in LEFT_OUT}
    if record.topic == "decision" and isinstance(inner := body.get("body"), Mapping):
        body["body"] = {key: value for key, value in inner.items() if key not in LEFT_OUT}
    body["topic"] = record.topic
    return canonical(body)


def order_of(line: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """Where a line stands: machine, event time, id, topic."""
    t_ns = line["t_end_ns"] if "t_end_ns" in line else line["t_ns"]
    return (line["machine"], t_ns, line["id"], line["topic"])


def sha256_of(path: Path) -> str:
    """The journal's hash: of everything behind the header line.

    Raises:
        BadInput: no journal.
        StateError: a newer version's journal.
        StethosError: the file cannot be read.
    """
    digest = hashlib.sha256()
    for line in islice(_raw(path), 1, None):
        digest.update(line)
    return digest.hexdigest()


def header_of(path: Path) -> dict[str, Any]:
    """The journal's header; errors as `sha256_of`."""
    header: dict[str, Any] = parse(next(_raw(path)))
    return header


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines in order; errors as `sha256_of`."""
    last: tuple[str, int, str, str] | None = None
    for number, raw in enumerate(islice(_raw(path), 1, None), 2):
        try:
            line = parse(raw)
            place = order_of(line)
            in_order = last is None or last < place
        except (DecodeError, KeyError, TypeError) as error:
            raise BadInput("journal", f"{path}:{number}: no journal line: {error}") from None
        if not in_order:
            raise BadInput("journal", f"{path}:{number}: out of order; journals are written sorted, not by hand")
        last = place
        yield line


def _raw(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            first = file.readline()
            _check(first, path)
            yield first
            yield from file
    except OSError as error:
        raise StethosError(f"{path}: cannot be read: {error.strerror}") from None


def _check(first: bytes, path: Path) -> None:
    try:
        header = parse(first)
        version = header[_VERSION_KEY]
        newer = version > JOURNAL_VERSION
    except (DecodeError, KeyError, TypeError):
        raise BadInput("journal", f"{path}: no journal: its first line has no {_VERSION_KEY}") from None
    if newer:
        raise StateError(
            f"{path}: written by a newer stethos (journal {version}, this program reads up to {JOURNAL_VERSION}):"
            " update stethos"
        )
