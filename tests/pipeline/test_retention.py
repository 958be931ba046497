"""How long results stay, whatever becomes of the host's clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.memory import ListSink
from connectors.prometheus import PrometheusSink
from pipeline.clock import ManualClock
from pipeline.delivery import Delivery
from pipeline.messages import NS, Decision, Record
from pipeline.metrics import families
from pipeline.retention import TOPICS, Retention
from pipeline.state import PIECE, Store

HOUR = 3600 * NS


@pytest.mark.parametrize("wrong_h", [-168, 0, 168])
def test_a_box_that_boots_with_a_wrong_clock_keeps_its_hours(wrong_h: int, tmp_path: Path) -> None:
    """The host's clock is put right an hour after the start; the engine's own goes on. Then the next start."""
    store, right_ns = Store(tmp_path / "s.sqlite"), 1_700_000_000 * NS
    wall = ManualClock()
    kept: list[str] = []
    for run in range(2):
        clock = ManualClock(right_ns + (wrong_h * HOUR if run == 0 else 0))
        retention = Retention(store, 72.0, clock, (), wall.now_ns)
        for minute in range(180):
            clock.sleep(60.1)
            right_ns += 60 * NS
            wall.sleep((right_ns + (wrong_h * HOUR if run == 0 and minute < 60 else 0) - wall.now_ns()) / NS)
            kept.append(f"{run}-{minute}")
            store.commit([Record(0, "score", "m", minute, kept[-1], {})])
            retention.mind()
            retention.join()
    left = [r.id for r in store.read(0, ("score",))]
    assert left[-300:] == kept[-300:]  # of a clock that was behind, at most what was stored before it was put right


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
    clock.sleep(5 * 3600)
    retention = Retention(store, 1.0, clock, (), clock.now_ns)
    clock.sleep(61)
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


@pytest.mark.parametrize("set_right", [True, False])
def test_a_clock_that_leaps_ahead_throws_nothing_away_for_an_hour(set_right: bool, tmp_path: Path) -> None:
    """A box boots in 2099 and asks a time server a minute later; where nobody sets it right, that is the time."""
    store, wall = Store(tmp_path / "s.sqlite"), ManualClock(1_700_000_000 * NS)
    store.commit([Record(0, "score", "m", n, str(n), {}) for n in range(30)])
    before = Retention(store, 72.0, clock := ManualClock(), ("influx",), wall.now_ns)
    clock.sleep(61)
    before.mind()
    before.close()
    wall.sleep(20 * 365 * 24 * 3600)
    retention = Retention(store, 72.0, clock, ("influx",), wall.now_ns)
    for minute in range(120):
        if set_right and minute == 50:
            wall = ManualClock(1_700_000_000 * NS + HOUR)
            retention._wall_ns = wall.now_ns
        clock.sleep(61)
        wall.sleep(61)
        retention.mind()
        retention.join()
        assert len(store.read(0, ("score",))) == 30 or (minute > 55 and not set_right)
    assert bool(retention.lost) != set_right
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
