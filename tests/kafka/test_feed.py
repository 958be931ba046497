"""The feed of a process without a broker: what goes wrong behind it is said, counted, and ends nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka.errors import KafkaError

from config.schema import Kafka
from connectors.kafka import KafkaPublisher
from connectors.playback import Playback
from connectors.spool import Spool
from pipeline import codec
from pipeline.clock import HostClock, ManualClock
from pipeline.errors import StateError
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.feed import Feed, FeedPublisher
from pipeline.kafka.records import SENT
from pipeline.messages import NS, Anchor, Chunk, Rate, Stream
from pipeline.metrics import families
from pipeline.state import Position, Store
from tests.kafka.producers import FakeFuture, FakeProducer, send, wait_for

STREAM = Stream("m", "acc", 0, "vibration", Rate(100), 1, "<i2", "m/s2")
T0 = 1_700_000_000 * NS


class Source:
    """A chunk of a second at every poll, which takes a second."""

    rereadable = True

    def __init__(self, clock: ManualClock, seconds: int) -> None:
        self._clock = clock
        self._left = seconds
        self._n = 0

    def open(self, *_: object) -> Sequence[Stream]:
        """As a source's."""
        return [STREAM]

    def poll(self, *_: object) -> Sequence[Chunk]:
        """As a source's."""
        self._clock.sleep(1.0)
        self._left -= 1
        self._n += 100
        return [Chunk(STREAM, Anchor(0, T0), self._n - 100, self._n // 100, np.zeros((100, 1), "<i2"))]

    def wake_ns(self, now_ns: int) -> int:
        """As a source's."""
        return now_ns

    @property
    def exhausted(self) -> bool:
        """As a source's."""
        return self._left <= 0

    def close(self) -> None:
        """As a source's."""


class Publisher:
    """Takes everything; what it says of itself is up to the test."""

    def __init__(self) -> None:
        self.error = ""
        self.acknowledged = 0
        self.lost = 0
        self.crowded = False

    def publish(self, *_: object) -> int:
        """As the publisher's."""
        self.acknowledged += 1
        return self.acknowledged - 1

    def metrics(self) -> dict[str, int]:
        """As the publisher's."""
        return {"published": 3, "dropped.spool_failed": self.lost, "memory_bytes": 7, "spool_bytes": 9}

    def flush(self, _: float) -> bool:
        """As the publisher's."""
        return True


def feed(folder: Path, seconds: int) -> tuple[Feed, Publisher]:
    """A feed of so many seconds, on a clock of its own."""
    clock, publisher = ManualClock(T0), Publisher()
    made = Feed([Source(clock, seconds)], publisher, Client(Kafka()), clock, folder / "feed.sqlite")  # type: ignore[arg-type]
    return made, publisher


def test_what_keeps_the_publisher_from_its_work_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Among the errors while it lasts, in the log when it comes up; losses once a minute."""
    made, publisher = feed(tmp_path, 200)
    seconds = 0

    def second() -> None:
        nonlocal seconds
        seconds += 1
        publisher.error = {True: "spool: no space", False: ""}[20 <= seconds < 80 or seconds >= 190]
        publisher.lost = max(0, min(seconds, 80) - 20)

    with caplog.at_level(logging.WARNING, "pipeline.kafka.feed"):
        made.run(every_s=second)
    said = [entry.getMessage() for entry in caplog.records]
    assert said.count("publishing: spool: no space") == 2
    lost = [line for line in said if "lost" in line]
    assert 2 <= len(lost) <= 3 and "60" in lost[-1]
    assert made.errors == ["publishing: spool: no space"]


def test_its_counters_are_in_the_exporters_form(tmp_path: Path) -> None:
    """Reasons as labels, bytes in memory and on disk as queues."""
    made, publisher = feed(tmp_path, 1)
    publisher.lost = 4
    made.refused = 2
    made._intake.counts["device.overflows"] = 5  # of a microphone
    found = families(made.metrics(), {})

    def events(kind: str, reason: str) -> float:
        return found["engine_events_total"][("kind", kind), ("reason", reason), ("shard", "feed")]

    assert (events("published", ""), events("dropped", "spool_failed"), events("refused", "no_form")) == (3, 4, 2)
    assert events("device", "overflows") == 5
    assert found["queue_bytes"] == {(("queue", "feed"),): 7, (("queue", "spool"),): 9}


def test_a_full_disk_for_the_positions_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept, and written when there is space again."""
    made, publisher = feed(tmp_path, 30)
    seconds, full, commit = 0, False, Store.commit
    errors: list[list[str]] = []

    def second() -> None:
        nonlocal seconds, full
        seconds += 1
        full = 5 <= seconds < 28
        errors.append(made.errors)

    def committed(store: Store, results: Any, snapshots: Any, positions: Any) -> None:
        if full:
            raise StateError("database or disk is full")
        commit(store, results, snapshots, positions)

    monkeypatch.setattr(Store, "commit", committed)
    made.run(every_s=second)
    assert publisher.acknowledged == 30
    assert errors[15] == ["database or disk is full"] and made.errors == []
    position = Store(tmp_path / "feed.sqlite").positions()["m", "acc"]
    assert position == Position("m", "acc", 0, 3000, Anchor(0, T0))


def test_other_recordings_are_published_from_their_start(tmp_path: Path) -> None:
    """A feed goes on in the same file, and begins a new stream with another one."""
    sent: list[Chunk] = []

    class Keeps(Publisher):
        def publish(self, *record: Any) -> int:
            _, _, value, headers, *_ = record
            message = codec.decode(headers, value)
            sent.extend([message] if isinstance(message, Chunk) else [])
            return super().publish()

    def play(name: str) -> list[tuple[int, int]]:
        sent.clear()
        played = Playback("m", "acc", "vibration", [tmp_path / name], rate_hz=100, unit="m/s2", speed=0)
        feed = Feed([played], Keeps(), Client(Kafka()), ManualClock(T0), tmp_path / "feed.sqlite")  # type: ignore[arg-type]
        feed.run()
        return [(chunk.stream.epoch, chunk.n0) for chunk in sent]

    for name in ("monday.csv", "tuesday.csv"):
        (tmp_path / name).write_text("x\n" + "1\n" * 20)
    assert play("monday.csv") == [(0, 0), (0, 10)]
    assert play("monday.csv") == []
    assert play("tuesday.csv") == [(1, 0), (1, 10)]


def test_what_is_published_says_when_by_the_clock_of_the_sources(tmp_path: Path) -> None:
    """A worker tells by it what is live from an old recording, however late it reads."""
    made, publisher = feed(tmp_path, 3)
    sent: list[int] = []
    publisher.publish = lambda *told: sent.append(int(dict(told[3])[SENT])) or len(sent)  # type: ignore[method-assign]
    made.run()
    assert [round((at - T0) / NS) for at in sent] == [1, 2, 3]


def test_topics_are_made_before_the_first_record(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as a broker lets them be made; one that is written to first makes them as it likes."""
    sent: list[int] = []
    there = threading.Event()

    def create(_: object) -> list[str]:
        sent.append(sum(len(fake.taken) for fake in fakes))
        if not there.is_set():
            raise admin.BrokerError("not yet")
        return []

    monkeypatch.setattr(admin, "create", create)
    monkeypatch.setattr(admin, "partitions", lambda _: {})
    publisher = FeedPublisher(Client(Kafka()), tmp_path, 100_000_000, 10_000_000)
    send(publisher, range(30))
    wait_for(lambda: len(sent) > 9 and publisher.error == "not yet")
    send(publisher, range(30, 60))
    assert publisher.troubles == []
    there.set()
    came: list[int] = []
    wait_for(lambda: came.extend(n for fake in list(fakes) for n in fake.acknowledge()) or publisher.waiting == 0)
    attempts = len(sent)
    fakes[-1].fail(KafkaError("gone"))
    assert came == list(range(60)) and set(sent) == {0} and publisher.counts["spooled"] >= 30
    assert "raw.vibration: no partitions" in publisher.troubles[0]  # it goes by what the brokers have
    publisher.close()
    assert len(sent) == attempts
    told = Feed([], publisher, Client(Kafka()), HostClock(), tmp_path / "feed.sqlite", lambda: publisher.troubles)
    assert publisher.troubles[0] in told.errors


def test_brokers_that_have_lost_their_topics_get_them_anew(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that is gone with them must not cost what the spool has kept meanwhile."""
    lacks: set[str] = set()
    allowed, tries = threading.Event(), list[int]()

    def create(_: object) -> list[str]:
        tries.append(len(lacks))
        if lacks and not allowed.is_set():
            raise admin.BrokerError("no leader yet")
        lacks.clear()
        return []

    monkeypatch.setattr(admin, "create", create)
    monkeypatch.setattr(admin, "partitions", lambda _: {})
    monkeypatch.setattr("connectors.kafka.missing", lambda _, topics: frozenset(topics & lacks))
    monkeypatch.setattr("connectors.kafka.MISSING_S", 0.05)
    publisher = FeedPublisher(Client(Kafka()), tmp_path, 100_000_000, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    fakes[0].lacks = lacks
    lacks.add("records")
    send(publisher, range(30))
    wait_for(lambda: tries.count(1) >= 3)
    assert not publisher.counts["refused.no_topic"]
    allowed.set()
    came: list[int] = []
    wait_for(lambda: came.extend(n for fake in list(fakes) for n in fake.acknowledge()) or publisher.waiting == 0)
    assert came == list(range(30)) and not publisher.counts["refused.no_topic"]
    publisher.close()


def test_a_damaged_spool_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The publisher's error is gone with the next record, before anybody has seen it."""
    made, publisher = feed(tmp_path, 5)
    counts = {"damaged.segment": 1, "memory_bytes": 0, "spool_bytes": 0}
    publisher.metrics = lambda: dict(counts)  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "pipeline.kafka.feed"):
        made.run()
    assert "damaged.segment" in caplog.text


@pytest.mark.parametrize("spooling", [False, True])
def test_a_recording_waits_for_slow_brokers(
    spooling: bool, fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be read later; as fast as it can be read it would push its own middle out of the spool."""
    taken: list[int] = []

    class Slow(FakeProducer):
        def send(self, *_: object, headers: list[tuple[str, bytes]], timestamp_ms: int, **told: object) -> FakeFuture:
            taken.append(len(taken))
            return super().send("", headers=[("ce_id", b"%d" % len(taken))], timestamp_ms=timestamp_ms)

    monkeypatch.setattr("connectors.kafka.KafkaProducer", Slow)
    monkeypatch.setattr("connectors.kafka.Spool", partial(Spool, segment_bytes=20_000))
    (tmp_path / "fast.csv").write_text("x\n" + "1\n" * 20_000)
    memory = 10_000_000 if spooling else 60_000
    publisher = KafkaPublisher({}, tmp_path / "spool", 100_000, memory)
    if not spooling:
        wait_for(lambda: publisher._producer is not None)
    played = Playback("m", "acc", "vibration", [tmp_path / "fast.csv"], rate_hz=100, unit="m/s2", speed=0)
    made = Feed([played], publisher, Client(Kafka()), HostClock(), tmp_path / "feed.sqlite")

    def answers() -> None:
        while not done.wait(0.01):
            for fake in list(fakes):
                fake.answer(40, 10**15)

    done = threading.Event()
    broker = threading.Thread(target=answers)
    broker.start()
    made.run()
    wait_for(lambda: publisher.waiting == 0)
    done.set()
    broker.join()
    assert publisher.counts["published"] == 2_001  # 2,000 chunks of 0.1 s, and the end
    assert publisher.metrics()["dropped.spool_full"] == 0
    publisher.close()


def test_what_is_live_does_not_wait_for_a_recording(tmp_path: Path) -> None:
    """With the spool half full, a microphone's samples are still taken, a recording's are not."""
    clock, publisher, sent = ManualClock(T0), Publisher(), []
    live, played = Source(clock, 3), Source(clock, 3)
    live.rereadable = False
    other = replace(STREAM, sensor="mic")
    live.poll = lambda *_: [replace(chunk, stream=other) for chunk in Source.poll(live)]  # type: ignore[method-assign]
    publisher.publish = lambda *told: sent.append(dict(told[3])) or len(sent)  # type: ignore[method-assign]
    made = Feed([live, played], publisher, Client(Kafka()), clock, tmp_path / "feed.sqlite")  # type: ignore[arg-type]

    def second() -> None:
        publisher.crowded = not live.exhausted or len(sent) < 3

    publisher.crowded = True
    made.run(every_s=second)
    chunks = [headers["ce_source"] for headers in sent if b"chunk" in headers["ce_type"]]
    assert chunks == [b"/m/mic"] * 3 + [b"/m/acc"] * 3
