"""The durable state: order, overwriting by id, cursors, versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import StateError
from pipeline.messages import Anchor, Decision, Record
from pipeline.state import Position, Store

TOPICS = ("score", "alarm")


def record(name: str, value: float = 1.0, topic: str = "score", t_ns: int = 5) -> Record:
    """A result."""
    return Record(0, topic, "m", t_ns, name, {"id": name, "value": value})


def test_a_repeat_overwrites_and_only_news_moves(tmp_path: Path) -> None:
    """The same body leaves the log as it is; another one is seen again by sinks that had read the first."""
    store = Store(tmp_path / "s.sqlite")
    store.commit([record("a"), record("b")])
    first = [(r.seq, r.id) for r in store.read(0, TOPICS)]
    store.commit([record("a")])
    assert [(r.seq, r.id) for r in store.read(0, TOPICS)] == first
    store.commit([record("a", 2.0), record("c")])
    behind = store.read(first[-1][0], TOPICS)
    assert [(r.id, r.body["value"]) for r in behind] == [("a", 2.0), ("c", 1.0)]
    assert len({r.seq for r in store.read(0, TOPICS)}) == 3


def test_everything_survives_reopening(tmp_path: Path) -> None:
    """Results, snapshots, positions, decisions, cursors, commands."""
    path = tmp_path / "s.sqlite"
    store = Store(path)
    position = Position("m", "s", 3, 77, Anchor(5, 6))
    store.commit([record("a")], {"m": b"{}"}, [position], urgent=True)
    decision = Decision("m", "d1", 9, "baseline", {"sensor": "s"})
    store.decide(decision)
    store.decide(decision)
    store.move_cursor("influx", 1)
    number = store.ask("m", "baseline", {"path": "x"})
    store.close()
    again = Store(path)
    assert again.positions() == {("m", "s"): position}
    assert again.snapshots() == {"m": b"{}"}
    assert again.decisions() == [decision]
    assert again.cursor("influx") == 1
    assert [c.seq for c in again.open_commands()] == [number]
    again.answer(number, error="no such baseline")
    assert again.command_state(number) == (None, "no such baseline")
    assert again.open_commands() == []


def test_pruning_spares_what_a_sink_has_not_read(tmp_path: Path) -> None:
    """Old results go once every sink is past them, and not before."""
    store = Store(tmp_path / "s.sqlite")
    store.commit([record(str(i), t_ns=i) for i in range(10)])
    store.move_cursor("slow", 4)
    assert store.prune(8, TOPICS) == 4
    store.move_cursor("slow", 10)
    assert store.prune(8, TOPICS) == 4
    assert [r.id for r in store.read(0, TOPICS)] == ["8", "9"]


def test_a_newer_state_is_refused(tmp_path: Path) -> None:
    """State of a future version is left alone, with a sentence that says what to do."""
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store.put_meta("schema_version", "99")
    store.close()
    with pytest.raises(StateError, match="newer stethos"):
        Store(path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    """A file that is no database names itself."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(StateError, match=r"s\.sqlite"):
        Store(path)


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    """Results and positions stand or fall together."""
    store = Store(tmp_path / "s.sqlite")
    with pytest.raises(sqlite3.Error):
        store.commit([record("a")], {"m": b"{}"}, [Position("m", None, 0, 0, Anchor(0, 0))])  # type: ignore[arg-type]
    assert store.read(0, TOPICS) == []
    assert store.snapshots() == {}
