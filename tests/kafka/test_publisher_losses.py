"""What a publisher loses, and that it loses no more: records that brokers refuse, a disk that is full for a while."""

from __future__ import annotations

import errno
import io
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaError

from config.schema import Kafka
from connectors.kafka import AHEAD_MS, KafkaPublisher
from connectors.kafka_brokers import missing
from connectors.spool import Spool
from pipeline.kafka.admin import create
from pipeline.kafka.client import Client
from tests.kafka.producers import FakeProducer, left_on_disk, now_ms, send, wait_for
from tests.kafka.test_publisher import HOUR_MS, kept
from tests.servers.kafka import KafkaServer


def answered(fakes: list[FakeProducer], publisher: KafkaPublisher, limit_ms: int, batch: int = 4) -> list[int]:
    """What is on the brokers when nothing waits any more."""
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.answer(batch, limit_ms)) or publisher.waiting == 0)
    return got


def test_time_far_ahead_is_sent_under_a_timestamp_that_brokers_take(fakes: list[FakeProducer], tmp_path: Path) -> None:
    """They would refuse it, and its batch; the exact time is in the headers."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    began = now_ms()
    send(publisher, range(1, 2), began)
    send(publisher, range(2, 3), began + 2 * HOUR_MS)
    assert answered(fakes, publisher, began + HOUR_MS) == [1, 2]
    assert fakes[0].stamps[1] == began + 1
    assert began + AHEAD_MS <= fakes[0].stamps[2] <= now_ms() + AHEAD_MS
    assert len(fakes) == 1
    publisher.close()


@pytest.mark.parametrize("bad", [{17}, {0}, {3, 17, 18, 39}])
def test_what_brokers_refuse_is_passed_over_alone(bad: set[int], fakes: list[FakeProducer], tmp_path: Path) -> None:
    """Its batch is refused with it; all others arrive, in order, though every refusal ends a producer."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    for n in range(40):
        send(publisher, range(n, n + 1), HOUR_MS if n in bad else 0)
    assert answered(fakes, publisher, HOUR_MS // 2) == [n for n in range(40) if n not in bad]
    assert publisher.metrics()["memory_bytes"] == 0
    assert publisher.counts["refused.timestamp"] == len(bad)
    assert len(fakes) <= 1 + 2 * len(bad)
    publisher.close()
    assert not left_on_disk(tmp_path)


def test_producers_that_fail_at_once_are_made_with_pauses(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else hundreds would be made in a second."""
    monkeypatch.setattr("connectors.kafka.RETRY_S", 0.1)
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    send(publisher, range(3))

    wait_for(lambda: [fake.fail(KafkaError("not authorised")) for fake in fakes] and len(fakes) == 4)
    assert all(after.born - before.born >= 0.1 for before, after in pairwise(fakes))
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or len(got) == 3)
    assert got == [0, 1, 2] and not publisher.counts["refused.invalid"]
    publisher.close()


class SmallDisk:
    """A disk that another program fills: of what does not fit, a part is written."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        ours, disk = Path.open, self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                if not disk.full:
                    return super().write(data)
                if len(data) > 4096:
                    return super().write(bytes(data[:4096]))
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def opened(path: Path, mode: str = "r", *more: Any) -> Any:
            if mode == "wb" and path.is_relative_to(folder):
                return io.BufferedWriter(Raw(path, "w"))
            return ours(path, mode, *more)

        patch.setattr(Path, "open", opened)


def test_a_torn_segment_reads_up_to_its_damage_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind stands in segments of its own."""
    disk = SmallDisk(tmp_path, monkeypatch)
    spool, refused = Spool(tmp_path, 10_000_000), []
    for seq in range(1000):
        disk.full = 400 <= seq < 700
        try:
            spool.append(kept(seq))
        except OSError:
            refused.append(seq)
    spool.close()
    left = left_on_disk(tmp_path)
    assert refused and len(left) + spool.lost == 1000
    assert left == sorted(left) and set(left) >= {*range(200), *range(refused[-1] + 1, 1000)}
    assert Spool(tmp_path, 10_000_000).next_seq == 1000


def test_a_full_disk_ends_neither_the_thread_nor_who_publishes(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With space and brokers again, all that comes is sent in order, and what was lost is counted."""
    disk = SmallDisk(tmp_path, monkeypatch)
    away = True

    def made(**settings: object) -> FakeProducer:
        if away:
            raise KafkaError("no brokers")
        return FakeProducer(**settings)

    monkeypatch.setattr("connectors.kafka.KafkaProducer", made)
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    send(publisher, range(50))
    wait_for(lambda: publisher._synced)
    with publisher._lock:
        publisher._spool.sync()
    disk.full = True
    send(publisher, range(50, 250))  # some of them while nobody has seen yet that the disk is full
    publisher._synced = 0.0
    wait_for(lambda: publisher.metrics().get("spool_failed"))
    assert publisher._thread.is_alive()
    disk.full = False
    send(publisher, range(250, 300))
    away = False
    lost = publisher.metrics()["dropped.spool_failed"]
    assert 0 < lost <= 200
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or len(got) == 300 - lost)
    assert got == sorted(got) and set(got) >= {*range(50), *range(250, 300)}
    assert publisher.flush(200) and publisher.error == ""
    send(publisher, range(300, 310))
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or len(got) == 310 - lost)
    assert got[-10:] == list(range(300, 310))
    publisher.close()


def test_a_full_disk_at_the_end_is_counted(fakes: list[FakeProducer], tmp_path: Path) -> None:
    """What was never answered cannot be kept either; closing says so and ends all the same."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    send(publisher, range(10))
    with pytest.MonkeyPatch.context() as patch:
        SmallDisk(tmp_path, patch).full = True
        publisher.close(0.1)
    assert publisher.metrics()["dropped.spool_failed"] == 10 and "spool: " in publisher.error
    assert not left_on_disk(tmp_path)


class Topics:
    """What brokers say of topics, while they answer at all."""

    def __init__(self, patch: pytest.MonkeyPatch, lacks: set[str]) -> None:
        self.lacks = lacks
        self.answer = True
        self.asked = 0
        patch.setattr("connectors.kafka.missing", self.missing)
        patch.setattr("connectors.kafka.MISSING_S", 0.05)

    def missing(self, settings: object, topics: set[str]) -> frozenset[str]:
        self.asked += 1
        if not self.answer:
            raise KafkaError("no broker")
        return frozenset(topics & self.lacks)


def test_a_topic_that_there_is_not_holds_up_no_other(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its records are counted, its name is told; once it is there, its records are sent."""
    topics = Topics(monkeypatch, {"old"})
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    fakes[0].lacks = topics.lacks
    for n in range(30):
        send(publisher, range(n, n + 1), topic="old" if n % 3 == 0 else "records")
    got: list[int] = []
    said: set[str] = set()

    def through() -> bool:
        said.add(publisher.error)
        got.extend(n for fake in fakes for n in fake.acknowledge())
        return publisher.waiting == 0

    wait_for(through)
    assert got == [n for n in range(30) if n % 3]
    assert publisher.counts["refused.no_topic"] == 10 and publisher.metrics()["memory_bytes"] == 0
    assert "kafka has no topic old: run `stethos topics create`" in said
    assert [m for m in caplog.messages if "old" in m] == [
        "kafka has no topic old: its records are not sent (`stethos topics create` makes it)"
    ]
    topics.lacks.clear()
    wait_for(lambda: not publisher._missing)
    send(publisher, range(30, 33), topic="old")
    wait_for(lambda: got.extend(fakes[0].acknowledge()) or publisher.waiting == 0)
    assert got[-3:] == [30, 31, 32] and publisher.error == "" and publisher.counts["refused.no_topic"] == 10
    publisher.close()


def test_a_topic_that_goes_while_records_are_on_their_way_holds_up_no_other(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The producer would send them for ever."""
    Topics(monkeypatch, {"old"})
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    send(publisher, range(3), topic="old")
    wait_for(lambda: len(fakes[0].taken) == 3)
    send(publisher, range(3, 6))
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes[1:] for n in fake.acknowledge()) or publisher.waiting == 0)
    assert got == [3, 4, 5] and publisher.counts["refused.no_topic"] == 3
    publisher.close()


def test_nothing_is_given_up_in_an_outage(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for one look in which brokers have just begun and do not know their topics yet."""
    topics = Topics(monkeypatch, {"records"})
    topics.answer = False
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    send(publisher, range(5))
    wait_for(lambda: topics.asked >= 3)
    topics.answer = True
    wait_for(lambda: publisher._unseen)
    topics.lacks.clear()
    wait_for(lambda: not publisher._unseen)
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or publisher.waiting == 0)
    assert got == list(range(5)) and not publisher.counts["refused.no_topic"] and len(fakes) == 1
    publisher.close()


def test_brokers_are_asked_for_topics_without_making_them(broker: KafkaServer, prefix: str) -> None:
    """Though they would make one for a producer that asks."""
    client = Client(Kafka(bootstrap=broker.bootstrap, prefix=prefix, partitions=1))
    create(client)
    for _ in range(2):
        assert missing(client.settings(), [prefix + "score", prefix + "old"]) == {prefix + "old"}
