"""The plant on Kafka answers as the lanes do without it."""

from __future__ import annotations

from pathlib import Path

from kafka import KafkaProducer

from connectors.kafka import KafkaPublisher
from pipeline.journal import line_of
from pipeline.kafka.feed import publish
from pipeline.messages import Input
from pipeline.results import record_of
from pipeline.state import JOURNAL_TOPICS
from tests.kafka.plant import Running, journal_hash, plant
from tests.kafka.scenarios import placed, scenario_plant
from tests.servers.kafka import KafkaServer


def test_two_workers_give_the_same_journal(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Machines shared by two workers, a sensor that dies, alarms, a join; then garbage and repeats among the data.

    The publisher compresses, as those of other languages do.
    """
    with Running(plant(), broker, tmp_path, prefix) as running:
        packs = {**running.client.settings(), "compression_type": "zstd"}
        running._publisher = KafkaPublisher(packs, tmp_path / "spool", 1_000_000_000)
        foreign = KafkaProducer(**packs)
        running.start("w0", "w1")
        for number, message in enumerate(running.publish(running.plant.messages)):
            if number % 50 == 0:
                publish(running.publisher, running.client, message)  # doubled
            if number % 100 == 0:
                _garbage(running, number, foreign)
        foreign.close()
        running.wait_done()
        records = running.results()
        assert [r.topic for r in records].count("alarm") >= 6
        assert journal_hash(records, tmp_path) == running.expected
        reasons = {r.body["reason"] for r in records if r.topic == "dlq"}
        assert reasons == {"missing", "version", "unknown_machine", "key", "unreadable"}
        assert {r.body["reason"] for r in records if r.topic == "late"} == {"duplicate"}


class Latin(str):
    """A header's name whose bytes are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """As kafka-python asks for them."""
        return str.encode(self, "latin-1")


def _garbage(running: Running, number: int, foreign: KafkaProducer) -> None:
    """A poison message, an unknown version, an unknown machine, a key that is not the machine, a name in Latin-1."""
    from pipeline import codec

    message = running.plant.messages[number]
    headers, value = codec.encode(message)
    topic, key = running.client.topic(codec.topic_of(message)), codec.key_of(message)
    newer = [(n, v.replace(b".v1", b".v9") if n == "ce_type" else v) for n, v in headers]
    stranger = [(n, v.replace(key, b"nobody") if n == "ce_source" else v) for n, v in headers]
    running.publisher.publish(topic, key, b"\xff" * 100, [], 0)
    running.publisher.publish(topic, key, value, newer, 0)
    running.publisher.publish(topic, b"nobody", value, stranger, 0)
    running.publisher.publish(topic, b"other-key", value, headers, 0)
    foreign.send(topic, value, key, headers=[*headers, (Latin("größe"), b"3")], timestamp_ms=0)


def test_every_scenario_gives_the_same_journal(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Gaps, late and doubled chunks, restarts, a join, strangers, and a baseline that takes hold by decision."""
    made, decisions = scenario_plant()
    with Running(made, broker, tmp_path, prefix, more={"health_port": 0}) as running:
        decided = [placed(decision, tmp_path / "baselines") for decision in decisions]
        running.publish_all(decided)
        running.start("w0")
        running.publish_all(in_turn(made.logs))
        running.wait_settled("w0")
        got = {line_of(r) for r in running.results() if r.topic in JOURNAL_TOPICS}
        expected = {line_of(r) for r in made.expected if r.topic in JOURNAL_TOPICS}
        assert got - expected == set()
        assert expected - got == set()
        assert {d.id for d in running.store.decisions()} == {record_of(d).id for d in decided}


def in_turn(logs: dict[str, dict[str, list[Input]]]) -> list[Input]:
    """A message of every sensor in turn: nothing is sorted that a sensor published out of order."""
    queues = [list(reversed(messages)) for log in logs.values() for messages in log.values()]
    out: list[Input] = []
    while any(queues):
        out += [queue.pop() for queue in queues if queue]
    return out
