"""The plant on Kafka answers as the lanes do without it."""

from __future__ import annotations

from pathlib import Path

from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer


def test_two_workers_give_the_same_journal(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Machines shared by two workers, a sensor that dies, alarms, a join."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.publish_all()
        running.wait_done()
        topics = [r.topic for r in running.results()]
        assert topics.count("alarm") >= 6
        assert running.journal() == running.expected
