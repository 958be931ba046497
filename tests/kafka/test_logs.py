"""Reading `decision` and `state` beside the group, on a real broker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

import config
from config.schema import Kafka
from pipeline.app import plan as planned
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.export import record_since
from pipeline.kafka.logs import LogReader
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.part import Part
from pipeline.kafka.records import Claim, claim_out
from pipeline.messages import Feature
from pipeline.state import Store
from tests.servers.kafka import KafkaServer

CONFIG = """
schema_version = 1
[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "m/s2"
"""


def test_one_log_after_the_other_is_read_at_once_and_then_let_go(broker: KafkaServer, prefix: str) -> None:
    """As at a takeover, by readers that have just begun, again and again; none fetches on when it has read."""
    client = Client(Kafka(bootstrap=broker.bootstrap, prefix=prefix, group=prefix, partitions=4))
    admin.create(client)
    decision, state = client.topic("decision"), client.topic("state")

    async def look() -> list[int]:
        reader = LogReader(client)
        try:
            counts = []
            for topic in (decision, state, decision):
                counts.append(len([r async for r in reader.read(topic, dict.fromkeys(range(4), 0))]))
                assert await reader.committed([topic], 0) == {}
            assert await reader.first(decision, 2, 0) == 0
            assert reader._consumer is not None and not reader._consumer.assignment()
            return counts
        finally:
            await reader.close()

    async def run() -> None:
        outbox = Outbox(client, lambda: False)
        await outbox.write([claim_out(decision, Claim(number, "w", 1, 0)) for number in range(4)])
        await outbox.close()
        for _ in range(10):
            assert await asyncio.wait_for(look(), 60) == [4, 0, 4]

    asyncio.run(run())


def test_topics_that_began_anew_are_read_from_their_beginning(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Removed and made again: what was kept of the old logs says nothing of the new ones."""
    client = Client(Kafka(bootstrap=broker.bootstrap, prefix=prefix, group=prefix, partitions=1))

    def read(results: int, claims: int) -> dict[str, int]:
        admin.create(client)
        part = Part(0, 1, claims - 1, {})

        async def write() -> None:
            outbox = Outbox(client, lambda: False)
            await outbox.write([claim_out(client.topic("decision"), Claim(0, "w", n + 1, 0)) for n in range(claims)])
            outbox.add(part, [Feature("m", ("s",), "level", n, {"rms": 1.0}) for n in range(results)], 0)
            await outbox.flush()
            await outbox.close()

        asyncio.run(write())
        store, collector = Store(tmp_path / "state.sqlite"), Collector(client, tmp_path / "state.sqlite")
        assert collector.drain(store)
        counts = dict(collector.counts) | {"features": len(store.read(0, ["feature"]))}
        collector.close()
        store.close()
        return counts

    assert read(5, 4) == {"read": 9, "features": 5}
    admin.remove(client)
    until = time.monotonic() + 60
    while admin.partitions(client) and time.monotonic() < until:
        time.sleep(0.2)
    again = read(7, 2)
    assert again["read"] == 9 and again["begun_anew"] > 0 and "void" not in again


def test_a_recording_of_topics_that_are_not_there_makes_none(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """A prefix that was mistyped: the reason, in place of a wait without end or of topics of another shape."""
    (tmp_path / "c.toml").write_text(CONFIG)
    made = planned(config.load(tmp_path / "c.toml"))
    kafka = Kafka(bootstrap=broker.bootstrap, prefix=f"{prefix}mistyped.")
    settings = made.settings.model_copy(update={"kafka": kafka})
    with pytest.raises(ConfigError, match="no partitions"):
        record_since(replace(made, settings=settings), tmp_path / "out.mcap", 0, HostClock())
    assert admin.partitions(Client(kafka)) == {}
