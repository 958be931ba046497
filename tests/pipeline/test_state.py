"""The durable state: order, overwriting by id, cursors, versions."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.contexts import outdated
from pipeline.errors import StateError
from pipeline.messages import Anchor, Decision, Record
from pipeline.state import Position, Store
from pipeline.status import overview

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


def test_the_event_time_of_a_result_is_that_of_what_it_says_now(tmp_path: Path) -> None:
    """An alarm's name does not say when it was cleared: a repeat under other settings may say another time."""
    store = Store(tmp_path / "s.sqlite")
    for t_ns in (5, 9):
        store.commit([told("alarm", "a|1", alarm="a", transition="cleared", t_ns=t_ns)])
    assert [(r.t_ns, r.body["t_ns"]) for r in store.read(0, TOPICS)] == [(9, 9)]
    assert store.newest_ns("m") == 9


def test_everything_survives_reopening(tmp_path: Path) -> None:
    """Results, snapshots, positions, decisions, cursors, commands."""
    path = tmp_path / "s.sqlite"
    store = Store(path)
    position, over = Position("m", "s", 3, 77, Anchor(5, 6)), Position("m", "t", 0, 7, Anchor(0, 1), ended=True)
    store.commit([record("a")], {"m": b"{}"}, [position, over], urgent=True)
    decision = Decision("m", "d1", 9, "baseline", {"sensor": "s"})
    store.decide(decision)
    store.decide(decision)
    store.move_cursor("influx", 1)
    number, later = (store.ask("m", "baseline", {"path": path}) for path in "xa")
    store.close()
    again = Store(path)
    assert again.positions() == {("m", "s"): position, ("m", "t"): over}
    assert again.snapshots() == {"m": b"{}"}
    assert again.decisions() == [decision]
    assert again.cursor("influx") == 1
    assert [(c.seq, c.body["path"]) for c in again.open_commands()] == [(number, "x"), (later, "a")]  # as asked
    again.answer(number, error="no such baseline")
    assert again.command_state(number) == (None, "no such baseline")
    assert [c.seq for c in again.open_commands()] == [later]


def test_alarms_and_decisions_wait_for_the_disk_and_nothing_else_does(tmp_path: Path) -> None:
    """A power cut must not take an alarm, or a decision under which results were computed."""
    store, durable, at = Store(tmp_path / "s.sqlite"), False, list[tuple[str, bool]]()

    def note(text: str) -> None:
        nonlocal durable
        if text.startswith("PRAGMA synchronous="):
            durable = text.endswith("FULL")
        elif text.startswith(("COMMIT", "INSERT OR IGNORE INTO decision")):
            at.append((text.split()[0], durable))

    store._db.set_trace_callback(note)
    store.commit([told("alarm", "a|0", alarm="a", transition="raised")], urgent=True)
    store.commit([record("s")])
    store.decide(Decision("m", "d", 0, "baseline", {}))
    store.commit([record("t")])
    store._db.set_trace_callback(None)
    assert at == [("COMMIT", True), ("COMMIT", False), ("INSERT", True), ("COMMIT", False)]


def test_a_clock_that_was_set_back_makes_no_silence(tmp_path: Path) -> None:
    """Nor one of less than nothing."""
    store = Store(tmp_path / "s.sqlite")
    assert store.quiet_ns(100) is None
    store.put_meta("stored_ns", "100")
    assert [store.quiet_ns(now_ns) for now_ns in (160, 100, 40)] == [60, 0, 0]


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Whichever of the three it is; SQLite, which would make the missing ones of the same mode, is not asked."""
    path = tmp_path / "s.sqlite"
    Store(path).close()
    shut = tmp_path / f"s.sqlite{end}"
    shut.touch()
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "access", lambda file, mode: not (Path(file) == shut and mode == os.W_OK))
    with pytest.raises(StateError, match=rf"{shut.name}: may not be written; .*sudo -u USER"):
        Store(path)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    Store(path).close()


def test_pruning_spares_what_a_sink_has_not_read(tmp_path: Path) -> None:
    """Results go when they were stored long ago and every sink is past them, whatever their event time."""
    store = Store(tmp_path / "s.sqlite")
    store.keep_cursors(["slow"])
    store.commit([record(str(i), t_ns=0) for i in range(8)])
    assert store.prune(100, 50, TOPICS) == 0  # nobody knows for how long they have been here
    store.commit([record(str(i), t_ns=0) for i in range(8, 10)])
    assert store.prune(160, 50, TOPICS) == 0  # not read
    store.move_cursor("slow", 4)
    assert store.prune(161, 50, TOPICS) == 4
    store.move_cursor("slow", 10)
    assert store.prune(162, 50, TOPICS) == 4
    assert [r.id for r in store.read(0, TOPICS)] == ["8", "9"]
    assert store.prune(300, 50, TOPICS) == 1  # the last place in the log must not be given again
    assert [r.id for r in store.read(0, TOPICS)] == ["9"]


def told(topic: str, ident: str, **body: object) -> Record:
    """A transition."""
    return Record(0, topic, "m", int(str(body.get("t_ns", 0))), ident, {"id": ident, "machine": "m", "t_ns": 0, **body})


def test_pruning_spares_what_stands(tmp_path: Path) -> None:
    """An alarm that was not cleared and a sensor's last health are facts, however old."""
    store = Store(tmp_path / "s.sqlite")
    store.commit(
        [
            told("alarm", "a|0", alarm="a", transition="raised"),
            told("alarm", "b|0", alarm="b", transition="raised"),
            told("alarm", "b|1", alarm="b", transition="cleared"),
            told("health", "h0", sensor="s", state="normal", t_ns=1),
            told("health", "h1", sensor="s", state="failure", t_ns=2),
            told("health", "g0", sensor="g", state="normal", t_ns=1),
            *(record(str(i)) for i in range(3)),
        ]
    )
    assert {r.id for r in store.standing()} == {"a|0", "h1", "g0"}
    store.prune(0, 10, (*TOPICS, "health"))
    store.prune(11, 10, (*TOPICS, "health"))
    assert [r.id for r in store.read(0, (*TOPICS, "health"))] == ["a|0", "h1", "g0", "2"]
    store._db.execute("DELETE FROM out WHERE topic = 'score'")
    seen = overview(store)
    assert seen["active"] == 1 and seen["health"][1]["state"] == "failure"


def test_the_place_in_the_log_says_what_is_newest(tmp_path: Path) -> None:
    """And not the event time: clocks are set back, and one that was ahead must not hide the others' series."""
    store = Store(tmp_path / "s.sqlite")
    store.commit([
        *(told("score", f"a{k}", sensors=["a"], detector="d", t_ns=1000 + k) for k in range(9)),
        told("health", "h0", sensor="a", state="normal", t_ns=1000),
    ])  # fmt: skip
    store.commit([
        *(told("score", f"{s}-{k}", sensors=[s], detector="d", t_ns=k) for k in range(5) for s in "ab"),
        told("health", "h1", sensor="a", state="failure", t_ns=3),
    ])  # fmt: skip
    assert [r.id for r in store.latest("score", 3)] == ["b-4", "a-4", "b-3"]
    assert [r.id for r in store.newest_of_each("score", 2)] == ["a-4", "a-3", "b-4", "b-3"]
    assert [r.id for r in store.newest_of_each("score", 9, most=6)] == ["a-4", "a-3", "b-4", "b-3"]
    assert [r.body["state"] for r in store.standing()] == ["failure"]


def test_what_stands_is_what_was_raised_and_not_cleared(tmp_path: Path) -> None:
    """Also behind repeats in any order, and behind a program of before that wrote on or knew nothing of it."""
    path, draw = tmp_path / "s.sqlite", random.Random(5)
    raised: set[str] = set()
    cleared: set[str] = set()
    for turn in range(30):
        store = Store(path)
        for _ in range(30):
            name, ordinal = f"m|s|d|{draw.randrange(300)}", draw.randrange(2)
            (raised, cleared)[ordinal].add(name)
            body = {"alarm": name, "transition": ("raised", "cleared")[ordinal], "text": draw.randrange(2)}
            store.commit([told("alarm", f"{name}|{ordinal}", **body), record(f"{turn}", topic="alarm")])
        assert {one.body["alarm"] for one in store.standing()} == raised - cleared
        store.close()
        if turn % 3:
            with sqlite3.connect(path) as old:
                if turn % 3 == 1:
                    old.execute("DELETE FROM standing")
                    old.execute("DELETE FROM meta WHERE key = 'standing'")
                name = min(raised - cleared)
                cleared.add(name)
                body = {"alarm": name, "transition": "cleared"}
                row = ("alarm", f"{name}|1", "m", 0, json.dumps(body).encode())
                old.execute("INSERT INTO out (topic, id, machine, t_ns, body) VALUES (?, ?, ?, ?, ?)", row)
        assert {one.body["alarm"] for one in Store(path).standing()} == raised - cleared != set()


def steps(store: Store, ask: Callable[[], object]) -> int:
    """What SQLite does for an answer, in hundreds of its instructions."""
    count = [0]

    def step() -> None:
        count[0] += 1

    store._db.set_progress_handler(step, 100)
    ask()
    store._db.set_progress_handler(None, 0)
    return count[0]


def test_what_is_asked_often_does_not_cost_by_what_has_come(tmp_path: Path) -> None:
    """Alarms that stand, a sink that wants some topics only, decisions of a kind, decisions on facts that may go."""
    store = Store(tmp_path / "s.sqlite")
    costs: list[list[int]] = []
    for size in (1000, 4000):
        alarms = [
            told("alarm", f"{size}-{n}|{k}", alarm=f"{size}-{n}", transition=word)
            for n in range(size)
            for k, word in enumerate(("raised", "cleared"))
        ]
        store.commit([*alarms[:-1], *(record(f"{size}-{n}") for n in range(size)), told("health", str(size))])
        with store._transaction():
            for n in range(size):
                kind = ("abandon", "return")[n % 2]
                row = ("m", f"{size}-{n}", size + n, kind, b'{"context": "state"}')
                store._db.execute("INSERT INTO decision (machine, id, t_ns, kind, body) VALUES (?, ?, ?, ?, ?)", row)
        asked = (
            store.standing,
            lambda: store.read(0, ("health", "late")),
            lambda: store.decisions("baseline"),
            lambda: store.outdated(10**6),
        )
        costs.append([steps(store, ask) for ask in asked])
    assert [r.id for r in store.standing() if r.topic == "alarm"] == ["1000-999|0", "4000-3999|0"]
    assert all(there < 20 for there in costs[1]), costs


def test_any_choice_of_topics_is_read_in_the_order_of_the_log(tmp_path: Path) -> None:
    """Piece by piece, as a sink does."""
    store, draw = Store(tmp_path / "s.sqlite"), random.Random(1)
    names = ("score", "alarm", "feature", "late")
    written = [record(str(n), topic=draw.choice(names)) for n in range(300)]
    store.commit(written)
    for topics in (names[:1], names[1:3], names, ("alarm", "alarm"), ("dlq",)):
        wanted = [r.id for r in written if r.topic in topics]
        found: list[Record] = []
        while piece := store.read(found[-1].seq if found else 0, topics, 7):
            found += piece
        assert [r.id for r in found] == wanted


def test_which_decisions_on_facts_may_go_is_what_all_of_them_say(tmp_path: Path) -> None:
    """Of several facts and machines, at equal times, too."""
    store, draw = Store(tmp_path / "s.sqlite"), random.Random(3)
    for n in range(200):
        kind = draw.choice(("abandon", "return", "baseline"))
        body = {"context": draw.choice(("state", "tool"))}
        store.decide(Decision(draw.choice("ab"), str(n), draw.randrange(100), kind, body))
    for keep_ns in (0, 30, 99, 200):
        gone = {one.id for one in store.outdated(keep_ns)}
        assert gone == {one.id for one in outdated(store.decisions(), keep_ns)}
        assert bool(gone) == (keep_ns < 99)
    store.forget(store.outdated(30))
    assert store.outdated(30) == [] and {one.kind for one in store.decisions("baseline")} == {"baseline"}
    assert outdated(store.decisions(), 30) == []


def test_a_run_starts_without_the_counters_of_the_last_one(tmp_path: Path) -> None:
    """It may have fewer shards and other machines; nobody would ever replace what those have published."""
    store = Store(tmp_path / "s.sqlite")
    store.put_metrics("shard-1", {"counts": {"x": 1}})
    store.enrol({"m": ["a"]}, {})
    assert store.metrics() == {}


def test_a_sink_that_is_gone_does_not_hold_the_log(tmp_path: Path) -> None:
    """And a new one holds it from the start."""
    store = Store(tmp_path / "s.sqlite")
    store.commit([record(str(i)) for i in range(10)])
    store.move_cursor("gone", 2)
    store.move_cursor("here", 9)
    store.keep_cursors(["here", "new"])
    assert [store.cursor(name) for name in ("gone", "here", "new")] == [0, 9, 0]
    store.prune(0, 10, TOPICS)
    assert store.prune(11, 10, TOPICS) == 0
    store.move_cursor("new", 9)
    assert store.prune(12, 10, TOPICS) == 9


def test_neither_sinks_nor_the_page_look_through_the_whole_log(tmp_path: Path) -> None:
    """SQLite goes to where a reader stopped, and to the newest of a topic, without sorting; in old files, too."""
    path = tmp_path / "s.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as old:
        old.execute("DROP INDEX out_place")
        old.execute("DROP INDEX out_series")
        old.execute("CREATE INDEX out_time ON out (topic, t_ns)")
        old.execute("DROP TABLE stored")
    store, asked = Store(path), list[str]()
    store._db.set_trace_callback(asked.append)
    store.read(5, TOPICS)
    store.latest("score", 10)
    store.commit([record("a")])
    store.newest_of_each("score", 10)
    store._db.set_trace_callback(None)
    asked = [text for text in asked if text.startswith("SELECT") and " FROM out " in text]
    assert len(asked) == 5
    for statement in asked:
        plan = " ".join(str(row[3]) for row in store._db.execute("EXPLAIN QUERY PLAN " + statement))
        assert "TEMP B-TREE" not in plan and "SEARCH" in plan, plan


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


def test_a_damaged_file_is_told_wherever_it_is_noticed(tmp_path: Path) -> None:
    """When rows are fetched, too; what the program itself does wrong is none of the file's faults."""
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store.commit([record(str(i)) for i in range(5000)])
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(sqlite3.ProgrammingError):
        store._db.execute("SELECT ?", ())
    store.close()
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // 4096 - 1, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    store = Store(path)
    for ask in (
        lambda: store.read(0, TOPICS, 10**6),
        lambda: list(store.journal_records()),
        lambda: store.commit([record(f"new-{i}") for i in range(50)]),
    ):
        with pytest.raises(StateError, match="malformed; move it away"):
            ask()
