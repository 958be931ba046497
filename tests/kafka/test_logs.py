"""Reading `decision` and `state` beside the group, on a real broker."""

from __future__ import annotations

import asyncio

from config.schema import Kafka
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.logs import LogReader
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.records import Claim, claim_out
from tests.servers.kafka import KafkaServer


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
