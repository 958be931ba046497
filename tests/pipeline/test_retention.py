"""How long results stay, whatever becomes of the host's clock."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from connectors.prometheus import PrometheusSink
from pipeline.clock import ManualClock
from pipeline.delivery import Delivery
from pipeline.errors import StateError
from pipeline.messages import NS, Decision, Record
from pipeline.metrics import families
from pipeline.retention import TOPICS, Retention
from pipeline.state import PIECE, Store
from pipeline.topics import TOPICS as ALL
from tests.memory import ListSink

HOUR = 3600 * NS


@pytest.mark.parametrize("wrong_days", [-400, 3650])
@pytest.mark.parametrize("minutes", [5, 90])
def test_a_wrong_clock_neither_throws_away_nor_keeps(
    wrong_days: int, minutes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box runs rightly, boots with a wrong clock that is put right late or never, and boots again.

    What was stored in the last two hours of running is there, and little more; nothing has read it.
    """
    monkeypatch.setattr("pipeline.retention.UNREAD", 1)
    store, right_ns, lost, kept = Store(tmp_path / "s.sqlite"), 1_700_000_000 * NS, 0, list[str]()
    for run, length in enumerate((60, 90, 40)):
        right_ns += 10 * HOUR  # off
        wrong_ns = 24 * wrong_days * HOUR if run == 1 else 0
        wall, clock = ManualClock(right_ns + wrong_ns), ManualClock(right_ns + wrong_ns)
        retention = Retention(store, 2.0, clock, ("away",), wall.now_ns)
        for minute in range(length):
            clock.sleep(60.1)
            right_ns += 60 * NS
            wall.sleep((right_ns + (wrong_ns if minute < minutes else 0) - wall.now_ns()) / NS)
            kept.append(f"{run}-{minute}")
            store.commit([Record(0, "score", "m", minute, kept[-1], {})])
            retention.mind()
            retention.join()
            left = [r.id for r in store.read(0, ("score",))]
            assert left[-120:] == kept[-120:] and len(left) <= 125
        lost += retention.lost["away"]
    assert lost == len(kept) - len(left) > 60


def test_times_that_an_earlier_version_took_from_a_wrong_clock(tmp_path: Path) -> None:
    """Ten years ahead, then put right an hour behind the start: what came first goes, the others in their turn."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock()
    for n, at_ns in enumerate((0, 87_600 * HOUR, HOUR)):
        store.commit([Record(0, "score", "m", n, str(n), {})])
        store.prune(clock.now_ns() + at_ns, 10**6 * HOUR, TOPICS)
    clock.sleep(2 * 3600)
    retention = Retention(store, 1.0, clock, (), clock.now_ns)
    left = []
    for n in range(3, 75):
        clock.sleep(60.1)
        store.commit([Record(0, "score", "m", n, str(n), {})])
        retention.mind()
        retention.join()
        left.append(len(store.read(0, ("score",))))
    assert left[:58] == list(range(3, 61)) and left[-1] == pytest.approx(60, abs=2)
    store.close()


def test_a_sink_that_is_away_does_not_fill_the_disk(tmp_path: Path) -> None:
    """Its results stay ten times as long as others, then go and are counted; it goes on with what is left."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock()
    retention = Retention(store, 1.0, clock, ("away", "here"), clock.now_ns)
    rows: list[int] = []
    for minute in range(20 * 60):
        clock.sleep(60.1)
        store.commit([Record(0, "score", "m", minute, str(minute), {})])
        store.move_cursor("here", store.last_seq())
        retention.mind()
        retention.join()
        rows.append(len(store.read(0, ("score",), 10_000)))
    assert max(rows) == pytest.approx(600, abs=5) == rows[-1]
    assert retention.lost == {"away": pytest.approx(600, abs=5)}
    assert store.lags() == {"away": pytest.approx(600, abs=5), "here": 0}
    assert int(store.read(store.cursor("away"), ("score",), 1)[0].id) == 1200 - store.lags()["away"]


def test_days_of_old_results_go_piece_by_piece(tmp_path: Path) -> None:
    """In one piece, minutes would pass in which nothing else is stored; the end of a run waits for one piece."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock(HOUR)
    store.commit([Record(0, "score", "m", n, str(n), {}) for n in range(10 * PIECE)])
    store.prune(clock.now_ns(), 100 * HOUR, TOPICS)
    retention = Retention(store, 1.0, clock, (), clock.now_ns)
    clock.sleep(5 * 3600)
    retention.mind()
    stored = 0
    while retention.busy:
        store.commit([Record(0, "score", "m", 0, f"new {stored}", {})])
        stored += 1
    assert stored > 10
    left = [r.id for r in store.read(0, ("score",), 10 * PIECE + stored)]
    assert left[-stored:] == [f"new {n}" for n in range(stored)]
    assert len(left) <= stored + 1  # the log's last place stays; it is the last new one's, or was when it began
    store.prune(clock.now_ns(), 100 * HOUR, TOPICS)
    store.commit([Record(0, "score", "m", n, f"more {n}", {}) for n in range(10 * PIECE)])
    store.prune(clock.now_ns(), 100 * HOUR, TOPICS)
    clock.sleep(5 * 3600)
    retention.mind()
    retention.close()
    assert len(store.read(0, ("score",), 20 * PIECE)) > 5 * PIECE
    store.close()


def test_every_topic_that_goes_to_the_log_grows_old(tmp_path: Path) -> None:
    """Dead letters and late samples come by the thousand from one device that is set up wrongly."""
    out = {topic.name for topic in ALL if topic.kind == "out"}
    assert out == set(TOPICS)
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock()
    store.commit([Record(0, topic, "m", 0, topic, {}) for topic in sorted(out)])
    store.commit([Record(0, "score", "m", 0, "last", {})])
    store.prune(clock.now_ns(), 10**6 * HOUR, TOPICS)
    retention = Retention(store, 1.0, clock, (), clock.now_ns)
    for _ in range(2):
        clock.sleep(2 * 3600)
        retention.mind()
        retention.join()
    assert [r.id for r in store.read(0, sorted(out))] == ["health", "last"]  # a sensor's newest health stands


def test_that_nothing_could_be_dropped_is_said_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock()
    retention = Retention(store, 1.0, clock, (), clock.now_ns)

    def fails(*_: object, **__: object) -> int:
        raise StateError("no space")

    def mind() -> None:
        clock.sleep(61)
        try:
            retention.mind()
        finally:
            retention.join()

    with monkeypatch.context() as full:
        full.setattr(Store, "prune", fails)
        mind()
    with pytest.raises(StateError, match="no space"):
        mind()
    mind()


def test_a_log_that_takes_long_is_pruned_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a sink that was away it may take longer than the minute: the next turn waits for its end."""
    store, clock, over, turns = Store(tmp_path / "s.sqlite"), ManualClock(), Event(), list[int]()
    retention = Retention(store, 1.0, clock, (), clock.now_ns)

    def long(*_: object, **__: object) -> int:
        turns.append(1)
        over.wait(60.0)
        return 0

    monkeypatch.setattr(Store, "prune", long)
    for _ in range(3):
        clock.sleep(61)
        retention.mind()
    assert retention.busy
    over.set()
    retention.join()
    assert len(turns) == 1
    clock.sleep(61)
    retention.mind()
    retention.join()
    assert len(turns) == 2
    store.close()


def test_decisions_about_a_slow_fact_go_with_the_results(tmp_path: Path) -> None:
    """A state that is told every 30 s is given up and taken back each time; other decisions and what holds stay."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock()
    store.decide(Decision("m", "b", 0, "baseline", {}))
    for n in range(500):
        kind = "abandon" if n % 2 == 0 else "return"
        store.decide(Decision("m", str(n), n * 15 * NS, kind, {"context": "state"}))
    retention = Retention(store, 1.0, clock, (), clock.now_ns)
    clock.sleep(61)
    retention.mind()
    retention.join()
    left = store.decisions()
    assert [one.id for one in left] == ["b", *(str(n) for n in range(500 - 242, 500))]
    store.close()


def test_how_far_a_sink_is_behind_is_a_metric(tmp_path: Path) -> None:
    """Beside what it has lost."""
    sink = Delivery(ListSink(), tmp_path / "s.sqlite", ("score",), "jsonl-0")
    sink.counts["rejected"] = 2
    made = families({}, {sink.name: sink.metrics({"jsonl-0": 70}, {"jsonl-0": 5})})
    key = (("sink", "jsonl-0"),)
    assert made["sink_lag_records"][key] == 70 and made["sink_dropped_total"][key] == 7
    page = PrometheusSink()
    page.update(made)
    assert 'stethos_sink_lag_records{sink="jsonl-0"} 70.0' in page.render()[0].decode()
