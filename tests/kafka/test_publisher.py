"""A connector's way to Kafka: without a broker, with one that goes away, over restarts of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from connectors.kafka import KafkaPublisher
from connectors.spool import Kept, Spool, read
from tests.servers.kafka import KafkaServer


def kept(seq: int, size: int = 1000) -> Kept:
    """A record whose content is its number."""
    value = None if seq % 7 == 3 else bytes([seq % 256]) * size
    return Kept(seq, f"topic-{seq % 2}", b"m", value, [("ce_id", b"%d" % seq)], 1_700_000_000_000 + seq)


def test_the_spool_keeps_order_over_segments_and_a_torn_file(tmp_path: Path) -> None:
    """Whatever is whole comes back as it was, oldest first."""
    spool = Spool(tmp_path, 10_000_000, segment_bytes=20_000)
    for seq in range(100):
        spool.append(kept(seq))
    spool.sync()
    *whole, last = spool.segments()
    torn = last.read_bytes()[:-1]
    spool.close()
    last.write_bytes(torn)
    again = [record for path in [*whole, last] for record in read(path)]
    assert [r._replace(headers=list(r.headers)) for r in again] == [kept(seq) for seq in range(100)]
    assert Spool(tmp_path, 10_000_000).next_seq == 100


def test_a_full_spool_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    """A ring in bytes."""
    spool = Spool(tmp_path, 60_000, segment_bytes=20_000)
    for seq in range(200):
        spool.append(kept(seq))
    spool.close()
    left = [record.seq for path in spool.segments() for record in read(path)]
    assert left == list(range(200 - len(left), 200))
    assert spool.dropped == 200 - len(left) > 0
    assert spool.nbytes <= 60_000 + 30_000


def records(server: KafkaServer, topic: str, partition: int = 0) -> list[Any]:
    """What stands in a partition."""
    consumer = KafkaConsumer(bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    tp = TopicPartition(topic, partition)
    consumer.assign([tp])
    end, found = consumer.end_offsets([tp])[tp], []
    while consumer.position(tp) < end:
        found += [r for batch in consumer.poll(timeout_ms=500).values() for r in batch]
    consumer.close()
    return found


def send(publisher: KafkaPublisher, numbers: range) -> None:
    """Records with their numbers as ids."""
    for n in numbers:
        value = None if n % 10 == 0 else bytes(5000)
        publisher.publish("records", b"m", value, [("ce_id", b"%d" % n)], 1_700_000_000_000 + n)


def test_starts_without_a_broker_and_survives_its_death(tmp_path: Path) -> None:
    """Records of before the first broker, of an outage, of a process that ended in it: all, in order."""
    server = KafkaServer(own=True, options={"log.retention.ms": "-1"})
    try:
        settings = {"bootstrap_servers": [server.bootstrap]}
        first = KafkaPublisher(settings, tmp_path, 100_000_000)
        send(first, range(100))
        assert first.metrics()["spooled"] == 100
        server.start()
        assert first.flush(200), (first.error, first.metrics())
        send(first, range(100, 200))
        assert first.flush(200), (first.error, first.metrics())
        before, last = first.counts["outages"], 200
        server.kill()
        until = time.monotonic() + 200
        while first.counts["outages"] == before and time.monotonic() < until:
            send(first, range(last, last + 20))
            last += 20
            time.sleep(0.1)
        assert first.counts["outages"] == before + 1
        send(first, range(last, last + 50))
        first.close(1.0)
        second = KafkaPublisher(settings, tmp_path, 100_000_000)
        send(second, range(last + 50, last + 100))
        server.start()
        assert second.flush(200), (second.error, second.metrics())
        second.close()
        found = [(r.value, dict(r.headers)["ce_id"], r.timestamp) for r in records(server, "records")]
        order = list(dict.fromkeys(int(ident) for _, ident, _ in found))
        assert order == list(range(last + 100))
        assert all((value is None) == (int(i) % 10 == 0) and t == 1_700_000_000_000 + int(i) for value, i, t in found)
        assert second.metrics()["dropped.spool_full"] == 0
        assert not list(tmp_path.glob("*.mcap"))
    finally:
        server.close()


class FakeFuture:
    """Of a record: done when the test says so."""

    def __init__(self) -> None:
        self.tell: Callable[[object], None] = lambda _outcome: None

    def add_both(self, tell: Callable[[object], None]) -> None:
        """As kafka-python's."""
        self.tell = tell


class FakeProducer:
    """Takes records, or not; answers when the test says so."""

    made: ClassVar[list[FakeProducer]] = []

    def __init__(self, **_: object) -> None:
        self.refuses: Exception | None = None
        self.taken: list[tuple[int, FakeFuture]] = []
        FakeProducer.made.append(self)

    def send(self, *_: object, headers: list[tuple[str, bytes]], **__: object) -> FakeFuture:
        """As kafka-python's."""
        if self.refuses is not None:
            raise self.refuses
        self.taken.append((int(dict(headers)["ce_id"]), FakeFuture()))
        return self.taken[-1][1]

    def close(self, **_: object) -> None:
        """As kafka-python's."""

    def acknowledge(self) -> list[int]:
        """All that it has taken is on the brokers."""
        taken, self.taken = self.taken, []
        for _, future in taken:
            future.tell(None)
        return [number for number, _ in taken]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProducer]:
    """The producers that a publisher makes."""
    monkeypatch.setattr("connectors.kafka.KafkaProducer", FakeProducer)
    monkeypatch.setattr("connectors.kafka.STALL_S", 0.05)
    monkeypatch.setattr("connectors.kafka.RETRY_S", 0.01)
    FakeProducer.made = []
    return FakeProducer.made


def wait_for(true: Callable[[], object]) -> None:
    """Until something holds; a minute is for machines that are busy with other things."""
    until = time.monotonic() + 200
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)


def left_on_disk(folder: Path) -> list[int]:
    """The numbers that the next start will send."""
    return [record.seq for path in sorted(folder.glob("*.mcap")) for record in read(path)]


def test_what_waits_in_memory_is_not_forgotten_when_it_closes_beside_a_spool(
    fakes: list[FakeProducer], tmp_path: Path
) -> None:
    """Sent and unanswered, then spooled, then closed: nothing of the memory may hide behind the spool's segments."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: fakes)
    wait_for(lambda: publisher._producer is not None)
    send(publisher, range(10))
    wait_for(lambda: len(fakes[0].taken) == 10)
    time.sleep(0.06)
    send(publisher, range(10, 20))
    assert publisher.spooling
    time.sleep(0.05)  # in which nothing of the spool may come into memory
    publisher.close(0.1)
    assert left_on_disk(tmp_path) == list(range(20))
    again = KafkaPublisher({}, tmp_path, 10_000_000)
    send(again, range(20, 25))
    got: list[int] = []
    wait_for(lambda: got.extend(fakes[-1].acknowledge() if len(fakes) > 1 else ()) or len(got) == 25)
    assert got == list(range(25))
    assert again.flush(200)
    again.close()
    assert not left_on_disk(tmp_path)


@pytest.mark.parametrize("error", [KafkaTimeoutError("no metadata"), KafkaError("fatal")])
def test_a_producer_that_takes_nothing_is_an_outage(
    error: Exception, fakes: list[FakeProducer], tmp_path: Path
) -> None:
    """It blocks for metadata, or has given up: records go to disk all the same, and leave it in order."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    fakes[0].refuses = error
    send(publisher, range(5))
    time.sleep(0.06)
    wait_for(lambda: publisher.counts["send_failed"])
    send(publisher, range(5, 10))
    assert publisher.spooling and publisher.counts["outages"] == 1
    fakes[0].refuses = None
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or len(got) == 10)
    assert got == list(range(10))
    publisher.close()


def test_a_record_that_no_broker_takes_holds_up_nobody(fakes: list[FakeProducer], tmp_path: Path) -> None:
    """It is counted and named; what comes behind it is sent."""
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher._producer is not None)
    fakes[0].refuses = MessageSizeTooLargeError("2000000 bytes")
    send(publisher, range(1))
    wait_for(lambda: publisher.counts["refused.too_large"])
    fakes[0].refuses = None
    send(publisher, range(1, 3))
    got: list[int] = []
    wait_for(lambda: got.extend(fakes[0].acknowledge()) or len(got) == 2)
    assert got == [1, 2] and publisher.flush(200) and publisher.metrics()["memory_bytes"] == 0
    publisher.close()
