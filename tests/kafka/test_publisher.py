"""A connector's way to Kafka: without a broker, with one that goes away, over restarts of its own."""

from __future__ import annotations

import time
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition

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


def values(server: KafkaServer, topic: str) -> list[tuple[bytes | None, bytes, int]]:
    """What stands in the topic: value, id and time."""
    consumer = KafkaConsumer(bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    tp = TopicPartition(topic, 0)
    consumer.assign([tp])
    end, found = consumer.end_offsets([tp])[tp], []
    while consumer.position(tp) < end:
        for records in consumer.poll(timeout_ms=500).values():
            found += [(r.value, dict(r.headers)["ce_id"], r.timestamp) for r in records]
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
        assert first.flush(20), first.error
        send(first, range(100, 200))
        assert first.flush(20)
        server.kill()
        for start in range(200, 400, 20):
            send(first, range(start, start + 20))
            time.sleep(0.3)
        assert first.metrics()["outages"] >= 1
        first.close(1.0)
        second = KafkaPublisher(settings, tmp_path, 100_000_000)
        send(second, range(400, 450))
        server.start()
        assert second.flush(40), second.error
        second.close()
        found = values(server, "records")
        order = list(dict.fromkeys(int(ident) for _, ident, _ in found))
        assert order == list(range(450))
        assert all((value is None) == (int(i) % 10 == 0) and t == 1_700_000_000_000 + int(i) for value, i, t in found)
        assert second.metrics()["dropped.spool_full"] == 0
        assert not list(tmp_path.glob("*.mcap"))
    finally:
        server.close()
