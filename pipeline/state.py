"""Durable order on one box: results, then snapshots, then positions, in one SQLite file.

Everything is written in transactions of that order, so that whatever survives a crash is consistent: a position never
runs ahead of the results that its samples gave. Results are kept under their deterministic id; a repeat overwrites
and, if it says something new, moves to the end of the log so that sinks see it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pipeline.errors import StateError
from pipeline.messages import NS, Anchor, Record
from pipeline.results import record_of
from pipeline.roster import Roster
from pipeline.state_commands import Commands
from pipeline.state_decisions import Decisions
from pipeline.state_file import Connection
from pipeline.state_tables import ADDED, SERIES, STANDING, TABLES

SCHEMA_VERSION = 1

WAL_PAGES = 25_000
"""A writer tidies the write-ahead log itself only beyond this (100 MB): it would wait for the disk in a lane's time."""
PIECE = 2_000
"""Results that are dropped at once: some 25 ms, for which writers wait."""
JOURNAL_TOPICS = ("embedding", "score", "machine_state", "alarm", "health")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream has been used up: sample `n` is the first one still needed."""

    machine: str
    sensor: str
    epoch: int
    n: int
    anchor: Anchor
    ended: bool = False


class Store(Commands, Decisions):
    """One SQLite file; each process and thread opens its own.

    Raises:
        StateError: the file is damaged, not writable, or of a newer schema version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted_ns = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db: Connection = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False, factory=Connection
            )
            self._db.path = path
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
            with self._transaction():
                version = self._version()
                if version is None:
                    for statement in TABLES.split(";"):
                        self._db.execute(statement)
                    self.put_meta("schema_version", str(SCHEMA_VERSION))
                for statement in (*ADDED, *STANDING) if (version or 0) <= SCHEMA_VERSION else ():
                    self._db.execute(statement)
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{path}: cannot be used as state: {error}") from None
        if version is not None and version > SCHEMA_VERSION:
            self._db.close()
            raise StateError(
                f"{path}: written by a newer stethos (schema {version}, this program knows {SCHEMA_VERSION}): "
                "update stethos, or start with another engine.state_dir"
            )

    def _version(self) -> int | None:
        known = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
        if known is None:
            return None
        return int(self.meta("schema_version") or SCHEMA_VERSION)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have rolled it back already
                self._db.execute("ROLLBACK")
            raise

    def meta(self, key: str) -> str | None:
        """A note kept with the state."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put_meta(self, key: str, value: str) -> None:
        """Keep a note with the state."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def tidy(self) -> None:
        """Move what was written from the write-ahead log into the database; writers go on meanwhile."""
        with suppress(StateError):  # somebody else is at it
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def commit(
        self,
        results: Sequence[Record],
        snapshots: Mapping[str, bytes] | None = None,
        positions: Iterable[Position] = (),
        urgent: bool = False,
    ) -> None:
        """Make results, then snapshots, then positions durable, in one transaction.

        `urgent` waits for the disk (alarms, decisions); otherwise a power cut may take the newest transactions, whole
        and from the end, which repeats work but contradicts nothing.
        """
        if urgent:
            self._db.execute("PRAGMA synchronous=FULL")
        try:
            with self._transaction():
                self._insert(results)
                if results and abs(time.time_ns() - self._noted_ns) >= NS:
                    self._noted_ns = time.time_ns()
                    self.put_meta("stored_ns", str(self._noted_ns))
                if snapshots:
                    self._db.executemany("INSERT OR REPLACE INTO snapshot VALUES (?, ?)", snapshots.items())
                self._db.executemany(
                    "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(p.machine, p.sensor, p.epoch, p.n, p.anchor.n, p.anchor.t_ns, int(p.ended)) for p in positions],
                )
        finally:
            if urgent:
                self._db.execute("PRAGMA synchronous=NORMAL")

    def _insert(self, results: Sequence[Record]) -> None:
        self._db.executemany(
            "INSERT INTO out (id, topic, machine, t_ns, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, id) DO UPDATE"
            " SET seq = (SELECT max(seq) + 1 FROM out), t_ns = excluded.t_ns, body = excluded.body"
            " WHERE body IS NOT excluded.body",
            [(r.id, r.topic, r.machine, r.t_ns, orjson.dumps(r.body, option=orjson.OPT_SORT_KEYS)) for r in results],
        )
        for statement in STANDING if any(r.topic == "alarm" for r in results) else ():
            self._db.execute(statement)

    def snapshots(self) -> dict[str, bytes]:
        """The lanes' snapshots by machine."""
        return {str(row[0]): bytes(row[1]) for row in self._db.execute("SELECT machine, body FROM snapshot")}

    def positions(self) -> dict[tuple[str, str], Position]:
        """Where each (machine, sensor) stopped."""
        rows = self._db.execute("SELECT machine, sensor, epoch, n, anchor_n, anchor_ns, ended FROM position")
        return {(r[0], r[1]): Position(r[0], r[1], r[2], r[3], Anchor(r[4], r[5]), bool(r[6])) for r in rows}

    def read(self, after: int, topics: Sequence[str], limit: int = 1000) -> list[Record]:
        """Records behind log place `after`, oldest first."""
        of_one = "SELECT seq FROM out INDEXED BY out_place WHERE topic = ? AND seq > ?"
        places = " UNION ".join([of_one] * len(topics))  # SQLite merges them, and passes over what is of other topics
        wanted = f"seq IN ({places} ORDER BY seq LIMIT ?)"
        rows = self._db.execute(
            f"SELECT seq, topic, machine, t_ns, id, body FROM out WHERE {wanted} ORDER BY seq",  # noqa: S608
            (*(value for topic in topics for value in (topic, after)), limit),
        )
        return [Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5])) for r in rows]

    def last_seq(self) -> int:
        """The newest place in the log."""
        row = self._db.execute("SELECT max(seq) FROM out").fetchone()
        return int(row[0] or 0)

    def newest_ns(self, machine: str) -> int | None:
        """Event time of a machine's newest result."""
        row = self._db.execute("SELECT max(t_ns) FROM out WHERE machine = ?", (machine,)).fetchone()
        return None if row[0] is None else int(row[0])

    def latest(self, topic: str, limit: int = 100) -> list[Record]:
        """The newest records of a topic, last told first: a clock that was ahead hides nothing."""
        rows = self._db.execute(
            "SELECT seq, topic, machine, t_ns, id, body FROM out WHERE topic = ? ORDER BY seq DESC LIMIT ?",
            (topic, limit),
        )
        return [Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5])) for r in rows]

    def newest_of_each(self, topic: str, each: int = 1, most: int = 3000) -> list[Record]:
        """The newest records of every series of a topic, series by series, last told first.

        A series is what is told of the same: scores of a detector, features of a name, health of a sensor.

        Args:
            topic: of the records.
            each: most of one series.
            most: about so many of all; each has one at least.
        """
        here = f"FROM out INDEXED BY out_series WHERE topic = ? AND {SERIES}"
        found = [""]
        while name := self._db.execute(f"SELECT min({SERIES}) {here} > ?", (topic, found[-1])).fetchone()[0]:
            found.append(name)
        share = max(1, min(each, most // len(found)))
        told = f"SELECT seq, topic, machine, t_ns, id, body {here} = ? ORDER BY seq DESC LIMIT ?"
        rows = (row for name in found[1:] for row in self._db.execute(told, (topic, name, share)))
        return [Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5])) for r in rows]

    def quiet_ns(self, now_ns: int) -> int | None:
        """For how long no result has been stored, by the host's clock; None if nobody knows."""
        said = self.meta("stored_ns")
        return None if said is None else max(0, now_ns - int(said))

    def old(self, now_ns: int, age_ns: int) -> int:
        """The place up to which results were stored `age_ns` ago or earlier, as far as is known."""
        if (self.quiet_ns(now_ns) or 0) >= age_ns:
            return self.last_seq()
        row = self._db.execute(
            "SELECT seq FROM stored WHERE at_ns <= ? ORDER BY at_ns DESC LIMIT 1", (now_ns - age_ns,)
        ).fetchone()
        return int(row[0]) if row else 0

    def newest(self, topic: str, machine: str, part: str, limit: int = 100) -> list[Record]:
        """The newest records of a machine whose id holds `part`, newest event time first."""
        rows = self._db.execute(
            "SELECT seq, topic, machine, t_ns, id, body FROM out WHERE topic = ? AND machine = ? AND instr(id, ?) > 0"
            " ORDER BY t_ns DESC LIMIT ?",
            (topic, machine, part, limit),
        )
        return [Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5])) for r in rows]

    def journal_records(self) -> Iterator[Record]:
        """What a journal is made of: scores, states, transitions of alarms and health, decisions."""
        marks = ",".join("?" * len(JOURNAL_TOPICS))
        rows = self._db.execute(
            f"SELECT seq, topic, machine, t_ns, id, body FROM out WHERE topic IN ({marks})",  # noqa: S608
            JOURNAL_TOPICS,
        )
        for r in rows:
            yield Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5]))
        for seq, decision in enumerate(self.decisions()):
            yield record_of(decision, seq)

    def cursor(self, sink: str) -> int:
        """The last log place that a sink has delivered."""
        row = self._db.execute("SELECT seq FROM cursor WHERE sink = ?", (sink,)).fetchone()
        return int(row[0]) if row else 0

    def move_cursor(self, sink: str, seq: int) -> None:
        """Say that a sink has delivered everything up to a log place."""
        self._db.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (sink, seq))

    def lags(self) -> dict[str, int]:
        """How many places of the log each sink has not passed yet."""
        last = self.last_seq()
        return {str(r[0]): last - int(r[1]) for r in self._db.execute("SELECT sink, seq FROM cursor")}

    def overtake(self, now_ns: int, most_ns: int) -> dict[str, int]:
        """Move cursors on that stand where results were stored `most_ns` ago; returns how many each sink has lost.

        When what was stored, of earlier times, is forgotten.
        """
        newest = "SELECT max(at_ns), max(seq) FROM stored WHERE at_ns <= ?"
        at_ns, old = self._db.execute(newest, (now_ns - most_ns,)).fetchone()
        self._db.execute("DELETE FROM stored WHERE at_ns < ?", (at_ns or 0,))
        behind = self._db.execute("SELECT sink, seq FROM cursor WHERE seq < ?", (old or 0,)).fetchall()
        count = "SELECT count(*) FROM out WHERE seq > ? AND seq <= ?"
        lost = {str(sink): int(self._db.execute(count, (seq, old)).fetchone()[0]) for sink, seq in behind}
        for sink in lost:
            self.move_cursor(sink, int(old))
        return lost

    def keep_cursors(self, sinks: Sequence[str]) -> None:
        """Give each of these sinks a cursor, and forget the others': a sink that is gone must not hold the log."""
        marks = ",".join("?" * len(sinks))
        with self._transaction():
            self._db.execute(f"DELETE FROM cursor WHERE sink NOT IN ({marks})", tuple(sinks))  # noqa: S608
            self._db.executemany("INSERT OR IGNORE INTO cursor VALUES (?, 0)", [(sink,) for sink in sinks])

    def standing(self, past: bool = False) -> list[Record]:
        """What holds until something else is said, oldest first: alarms not cleared, the newest health of sensors.

        Without what the roster takes for past, unless `past`: lanes go by it again once it is configured again.
        """
        rows = self._db.execute(
            "SELECT seq, topic, machine, t_ns, id, body FROM out WHERE seq IN (SELECT seq FROM standing) ORDER BY seq"
        )
        alarms = [Record(r[0], r[1], r[2], r[3], r[4], orjson.loads(r[5])) for r in rows]
        told = sorted([*alarms, *self.newest_of_each("health")], key=lambda record: record.seq)
        roster = self.roster()
        return [record for record in told if past or not roster.past(record)]

    def enrol(self, sensors: Mapping[str, Sequence[str]], unasked: Mapping[str, Sequence[str]]) -> None:
        """Say at the start of a run which sensors it monitors, and which detectors its machines do without."""
        self.put_meta("roster", orjson.dumps(Roster(sensors, self.last_seq(), unasked)).decode())
        self._db.execute("DELETE FROM metric")  # counters start anew, and perhaps in fewer shards

    def reask(self, unasked: Mapping[str, Sequence[str]]) -> None:
        """Say within a run which detectors its machines do without by now."""
        self.put_meta("roster", orjson.dumps(replace(self.roster(), unasked=unasked)).decode())

    def roster(self) -> Roster:
        """Who is monitored; until a run has said so, nobody, and nothing is past."""
        said = self.meta("roster")
        return Roster({}, 0) if said is None else Roster(**orjson.loads(said))

    def pruned_ns(self) -> int | None:
        """When `prune` first met the newest result, by the clock that it was told."""
        row = self._db.execute("SELECT at_ns FROM stored ORDER BY seq DESC, at_ns LIMIT 1").fetchone()
        return None if row is None else int(row[0])

    def redate(self, by_ns: int) -> None:
        """Move the times at which results are said to have been stored, by as much as the clock has leapt.

        Of a time behind `pruned_ns` nobody knows whether its clock was right: it is forgotten.
        """
        moved = "SELECT at_ns + ?, seq FROM stored WHERE at_ns <= ?"
        rows = self._db.execute(moved, (by_ns, self.pruned_ns())).fetchall()
        with self._transaction():
            self._db.execute("DELETE FROM stored")
            self._db.executemany("INSERT INTO stored VALUES (?, ?)", rows)

    def prune(
        self, now_ns: int, keep_ns: int, topics: Sequence[str], enough: Callable[[], bool] = lambda: False
    ) -> int:
        """Drop results that were stored `keep_ns` ago or earlier and that every sink has read; returns how many went.

        By when they were stored, to within the time between two calls, and not by event time: recordings that are
        played back, and dead letters, are old when they come. What is `standing` stays, also what is past: the snapshot
        of a machine that is enabled again says that its alarm was raised. They go piece by piece, as writers wait for
        each; between two pieces `enough` may wait for a moment, and ends it.
        """
        last, went, first = self.last_seq(), 0, 0
        self._db.execute("INSERT OR REPLACE INTO stored VALUES (?, ?)", (now_ns, last))
        (old,) = self._db.execute("SELECT max(seq) FROM stored WHERE at_ns <= ?", (now_ns - keep_ns,)).fetchone()
        (read,) = self._db.execute("SELECT min(seq) FROM cursor").fetchone()
        upto = min(old or 0, last - 1 if read is None else read, last - 1)  # the last place must not be given again
        stay = orjson.dumps([record.seq for record in self.standing(past=True)] if upto > 0 else []).decode()
        where = f"seq > ? AND seq <= ? AND +topic IN ({','.join('?' * len(topics))})"
        some = f"SELECT seq FROM out WHERE {where} AND seq NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?"  # noqa: S608
        drop = "DELETE FROM out WHERE seq IN (SELECT value FROM json_each(?))"
        while True:
            piece = [row[0] for row in self._db.execute(some, (first, upto, *topics, stay, PIECE))]
            if piece:
                went += self._db.execute(drop, (orjson.dumps(piece).decode(),)).rowcount
                first = piece[-1]
            if len(piece) < PIECE or enough():
                return went

    def put_metrics(self, shard: str, body: Mapping[str, Any]) -> None:
        """Publish a shard's counters."""
        self._db.execute("INSERT OR REPLACE INTO metric VALUES (?, ?)", (shard, orjson.dumps(body)))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The newest counters of every shard."""
        return {str(r[0]): orjson.loads(r[1]) for r in self._db.execute("SELECT shard, body FROM metric")}

    def close(self) -> None:
        """Let the file go."""
        self._db.close()
