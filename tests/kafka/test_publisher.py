"""A connector's way to Kafka: without a broker, with one that goes away, over restarts of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from connectors.kafka import AHEAD_MS, KafkaPublisher
from connectors.spool import Kept, Spool, read
from tests.kafka.producers import FakeProducer, left_on_disk, now_ms, send, wait_for
from tests.servers.kafka import KafkaServer

HOUR_MS = 3_600_000


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


def test_starts_without_a_broker_and_survives_its_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of before the first broker, of an outage, of a process that ended in it: all, in order.

    Then one of two hours ahead, which a broker takes under an earlier timestamp; and one that it does refuse.
    """
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
        send(second, range(9000, 9001), now_ms() + 2 * HOUR_MS)
        assert second.flush(200), (second.error, second.metrics())
        monkeypatch.setattr("connectors.kafka.AHEAD_MS", 3 * HOUR_MS)
        for numbers, ahead_ms in (range(9001, 9005), 0), (range(9005, 9006), 2 * HOUR_MS), (range(9006, 9010), 0):
            send(second, numbers, now_ms() + ahead_ms)
        assert second.flush(200), (second.error, second.metrics())
        second.close()
        assert second.counts["refused.timestamp"] == 1
        everything = [(r.value, dict(r.headers)["ce_id"], r.timestamp) for r in records(server, "records")]
        *found, ahead = [row for row in everything if int(row[1]) <= 9000]
        behind = list(dict.fromkeys(int(ident) for _, ident, _ in everything if int(ident) > 9000))
        assert behind == [n for n in range(9001, 9010) if n != 9005]
        order = list(dict.fromkeys(int(ident) for _, ident, _ in found))
        assert order == list(range(last + 100))
        assert int(ahead[1]) == 9000 and ahead[2] <= now_ms() + AHEAD_MS
        assert all((value is None) == (int(i) % 10 == 0) and t == 1_700_000_000_000 + int(i) for value, i, t in found)
        assert second.metrics()["dropped.spool_full"] == 0
        assert not list(tmp_path.glob("*.mcap"))
    finally:
        server.close()


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
