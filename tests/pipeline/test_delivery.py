"""From the log to a sink: nothing lost, nothing held up by one bad record, whatever the sink raises."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.sinks import JournalSinkConfig
from connectors.results import RecordsRejected
from pipeline.delivery import ATTEMPTS, PASSED_OVER, POLL_S, RETRY_S, Delivery
from pipeline.errors import SinkBusy, SinkRejected, SinkWaits, SourceError, StateError
from pipeline.messages import Record
from pipeline.outlets import make_sink
from pipeline.state import Store
from tests.memory import ListSink


def records(first: int, last: int, topic: str = "score") -> list[Record]:
    """Results named after their numbers."""
    return [Record(0, topic, "m", k, f"{topic}-{k}", {"id": f"{topic}-{k}", "k": k}) for k in range(first, last)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A log with thirty scores and three alarms."""
    made = Store(tmp_path / "state.sqlite")
    made.commit([*records(0, 30), *records(0, 3, "alarm")])
    return made


def deliver(sink: ListSink, store: Store, topics: Sequence[str] = ("score",)) -> Delivery:
    """A delivery that is driven by hand."""
    return Delivery(sink, store.path, topics, "list")


def test_all_of_its_topics_once_and_then_what_is_new(store: Store) -> None:
    """The cursor survives the sink."""
    sink = ListSink()
    assert deliver(sink, store).drain(store) == POLL_S
    assert [r.body["k"] for r in sink.records] == list(range(30))
    store.commit(records(30, 32))
    again = ListSink()
    delivery = deliver(again, store)
    delivery.drain(store)
    assert [r.body["k"] for r in again.records] == [30, 31]
    assert delivery.counts == {"delivered": 2}


def test_a_busy_sink_gets_the_same_batch_again_when_it_wishes(store: Store) -> None:
    """And the reason can be read meanwhile."""
    sink = ListSink([SinkBusy("the server is away", 7.0), SinkBusy("still", 0.0), None])
    delivery = deliver(sink, store)
    assert delivery.drain(store) == 7.0
    assert delivery.error == "the server is away"
    assert delivery.drain(store) == POLL_S
    delivery.drain(store)
    assert [len(batch) for batch in sink.batches] == [30]
    assert delivery.counts == {"busy": 2, "delivered": 30}
    assert delivery.error == ""


def test_a_sink_that_waits_for_what_comes_by_itself_has_no_problem(store: Store) -> None:
    """As the evidence of an alarm, which needs the seconds behind it."""
    delivery = deliver(ListSink([SinkWaits("not recorded yet", 0.5), None]), store)
    assert delivery.drain(store) == 0.5
    assert (delivery.error, delivery.counts) == ("", {})
    delivery.drain(store)
    assert delivery.counts == {"delivered": 30}


def test_what_a_sink_never_takes_is_counted_and_passed_over(store: Store) -> None:
    """All of a batch, or the records that it names."""
    rows = store.read(0, ("score",))
    sink = ListSink([RecordsRejected("list", [(rows[3], "no number")], 30)])
    delivery = deliver(sink, store)
    delivery.drain(store)
    assert delivery.counts == {"rejected": 1, "delivered": 29}
    store.commit(records(30, 40))
    sink._failures = [SinkRejected("401: unauthorised")]
    delivery.drain(store)
    assert delivery.counts == {"rejected": 11, "delivered": 29}
    assert delivery.error == "401: unauthorised"
    assert store.cursor("list") == store.last_seq()


class Allergic(ListSink):
    """Breaks on one record, every time, with an error that no sink should raise."""

    def write(self, batch: Sequence[Record]) -> None:
        """Keep them, unless number 13 is among them."""
        if any(r.body["k"] == 13 for r in batch):
            raise KeyError("t_end_ns")
        super().write(batch)


def test_one_record_that_breaks_a_sink_does_not_hold_up_the_others(store: Store) -> None:
    """It is tried a few times by itself and counted as rejected."""
    sink = Allergic()
    delivery = deliver(sink, store)
    waits = []
    for _ in range(100):
        waits.append(delivery.drain(store))
        if store.cursor("list") == store.read(0, ("score",))[-1].seq:
            break
    assert [r.body["k"] for r in sink.records] == [k for k in range(30) if k != 13]
    assert delivery.counts["rejected"] == 1
    assert delivery.counts["delivered"] == 29
    assert waits.count(RETRY_S) >= ATTEMPTS - 2


def test_other_errors_of_ours_are_tried_again(store: Store) -> None:
    """A socket that broke, a device that is away: never a lost record."""
    sink = ListSink([SourceError("odd"), ConnectionResetError("by peer"), None])
    delivery = deliver(sink, store)
    assert delivery.drain(store) == RETRY_S
    assert delivery.drain(store) == RETRY_S
    assert delivery.error == "ConnectionResetError: by peer"
    delivery.drain(store)
    assert delivery.counts == {"failed": 2, "delivered": 30}


@pytest.mark.parametrize("error", [StateError("database or disk is full"), sqlite3.DatabaseError("malformed")])
def test_the_thread_survives_a_state_that_cannot_be_used_for_a_while(
    store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a bad block: the cursor cannot move, so the batch comes again; then all is well."""
    monkeypatch.setattr("pipeline.delivery.RETRY_S", 0.02)
    move, failures = Store.move_cursor, [3]

    def moved(self: Store, sink: str, seq: int) -> None:
        if failures[0]:
            failures[0] -= 1
            raise error
        move(self, sink, seq)

    monkeypatch.setattr(Store, "move_cursor", moved)
    sink = ListSink()
    delivery = deliver(sink, store)
    delivery.start()
    end = time.monotonic() + 10
    while store.cursor("list") == 0 and time.monotonic() < end:
        time.sleep(0.01)
    delivery.stop()
    assert len(sink.records) == 30
    assert delivery.counts["failed"] == 3
    assert store.cursor("list") > 0
    assert sink.closed == 1


def test_a_sink_of_rare_results_does_not_hold_the_log(store: Store) -> None:
    """Its cursor moves on over what is not for it, and not over what is."""
    store.commit(records(30, 30 + PASSED_OVER))
    sink = ListSink()
    rare = deliver(sink, store, ("late",))
    rare.drain(store)
    assert store.cursor("list") == store.last_seq()
    store.commit([*records(0, 1, "late"), *records(2000, 2010)])
    rare.drain(store)
    assert [r.topic for r in sink.records] == ["late"]


def test_a_busy_sink_holds_what_it_has_not_read(store: Store) -> None:
    """From its configuration on, not only from its first success."""
    store.keep_cursors(["list", "other"])
    delivery = deliver(ListSink([SinkBusy("away", 1.0)] * 3), store)
    delivery.drain(store)
    store.move_cursor("other", store.last_seq())
    store.prune(0, 1, ("score", "alarm"))
    assert store.prune(10, 1, ("score", "alarm")) == 0


def test_stopping_delivers_what_is_there(store: Store) -> None:
    """And closes the sink once."""
    sink = ListSink()
    delivery = deliver(sink, store, ("score", "alarm"))
    delivery.start()
    store.commit(records(30, 35))
    delivery.stop()
    assert len(sink.records) == 38
    assert sink.closed == 1


def test_the_configured_bound_of_json_lines_holds(tmp_path: Path) -> None:
    """What is configured reaches the sink: two megabytes of results leave less than one on the disk."""
    path = tmp_path / "out" / "results.jsonl"
    sink = make_sink(JournalSinkConfig(type="jsonl", path=path, most_bytes=1_000_000))
    for k in range(40):
        sink.write([Record(k, "score", "m", k, f"s{k}", {"id": f"s{k}", "text": "x" * 50_000})])
    held = sum(file.stat().st_size for file in path.parent.iterdir())
    assert 500_000 < held <= 1_000_000
