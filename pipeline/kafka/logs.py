"""Reads partitions of `decision` and `state` from a place to their present end, beside the group's consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.kafka.client import Client

BACKOFF_MS = 20
"""aiokafka waits so long, by default 100 ms, whenever it is asked for a topic of which it does not know the broker yet:
for every topic at every takeover."""

STOP_S = 5.0


class LogReader:
    """Reads without belonging to the group. `read` is not for several tasks at once.

    Args:
        client: how to reach the brokers.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._consumer: AIOKafkaConsumer | None = None
        self._offsets: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def _started(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._consumer is None:
                self._consumer = await self._start(
                    fetch_max_wait_ms=50, max_partition_fetch_bytes=4_000_000, auto_offset_reset="earliest",
                    isolation_level="read_uncommitted",
                )  # fmt: skip
            return self._consumer

    async def _grouped(self) -> AIOKafkaConsumer:
        """Knows the group and reads nothing.

        aiokafka's coordinator fails for good where an assignment changes while it looks for the group's broker.
        """
        async with self._starting:
            if self._offsets is None:
                self._offsets = await self._start(group_id=self._client.kafka.group)
            return self._offsets

    async def _start(self, **more: Any) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._client.settings(), enable_auto_commit=False, retry_backoff_ms=BACKOFF_MS, **more
        )
        try:
            await consumer.start()
        except BaseException:
            await _stop(consumer)
            raise
        return consumer

    async def committed(self, topics: Sequence[str], partition: int) -> dict[str, int]:
        """Where the group goes on in one partition of several topics, where it has a committed offset."""
        consumer = await self._grouped()
        found = {}
        for topic in topics:
            offset = await consumer.committed(TopicPartition(topic, partition))
            if offset is not None:
                found[topic] = int(offset)
        return found

    async def ends(self, topics: Sequence[str], partition: int) -> dict[str, int]:
        """The offset behind the last record in one partition of several topics."""
        consumer = await self._started()
        found = await consumer.end_offsets([TopicPartition(topic, partition) for topic in topics])
        return {tp.topic: int(offset) for tp, offset in found.items()}

    async def beginning(self, topic: str, partition: int) -> int:
        """The oldest offset that is still there."""
        consumer = await self._started()
        tp = TopicPartition(topic, partition)
        return int((await consumer.beginning_offsets([tp]))[tp])

    async def read(self, topic: str, start: Mapping[int, int]) -> AsyncGenerator[Any, None]:
        """Records of a topic's partitions, each from its start to what is its end now; each partition in order."""
        consumer = await self._started()
        tps = {TopicPartition(topic, number): offset for number, offset in start.items()}
        ends = await consumer.end_offsets(list(tps))
        begins = await consumer.beginning_offsets(list(tps))
        at = {tp: max(offset, begins[tp]) for tp, offset in tps.items()}
        at = {tp: offset for tp, offset in at.items() if offset < ends[tp]}
        if not at:
            return
        consumer.assign(list(at))
        try:
            for tp, offset in at.items():
                consumer.seek(tp, offset)
            while at:
                batch = await consumer.getmany(*at, timeout_ms=500)
                for records in batch.values():
                    for record in records:
                        yield record
                for tp in list(at):
                    if await consumer.position(tp) >= ends[tp]:
                        del at[tp]
        finally:
            consumer.assign([])  # it would go on fetching for ever, twenty times a second

    async def first(self, topic: str, partition: int, offset: int) -> int | None:
        """The first offset from one on at which there is a record; None where there is none."""
        async with contextlib.aclosing(self.read(topic, {partition: offset})) as records:
            async for record in records:
                return int(record.offset)
        return None

    async def close(self) -> None:
        """Let the brokers go."""
        there = [consumer for consumer in (self._consumer, self._offsets) if consumer is not None]
        self._consumer = self._offsets = None
        for consumer in there:
            await _stop(consumer)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(consumer.stop(), STOP_S)
