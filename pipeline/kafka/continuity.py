"""Nothing may be left out between a partition's log and its lanes: what the consumer passed over is fetched again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from faust.types import TP

from pipeline.kafka.logs import LogReader
from pipeline.kafka.part import Part

log = logging.getLogger(__name__)

SEEK_AGAIN_S = 2.0


class Continuity:
    """Compares each message's offset with the one that comes next.

    Args:
        rows: of the table, by topic.
        reader: tells what the logs still have.
        counts: takes ``sought`` and ``lost_retention``.
    """

    def __init__(self, rows: Mapping[str, str], reader: LogReader, counts: Counter[str]) -> None:
        self._rows = rows
        self._reader = reader
        self._counts = counts
        self._sought: dict[tuple[str, int], float] = {}

    def begin(self) -> None:
        """A new assignment: the consumer starts at committed offsets."""
        self._sought.clear()

    async def holds(self, part: Part, message: Any, consumer: Any) -> bool:
        """Whether this is the message that the partition's log has next; seeks back to it if one was left out."""
        row = self._rows[message.topic]
        expected = part.expect.get(row)
        if expected is not None and message.offset > expected:
            first = await self._reader.beginning(message.topic, message.partition)
            if first <= expected:
                await self._seek(message.topic, message.partition, expected, consumer)
                return False
            self._counts["lost_retention"] += min(first, message.offset) - expected
            log.error("%s/%d: offsets %d to %d are no longer there", message.topic, part.number, expected, first)
        if expected is not None and message.offset < expected:
            return False
        part.expect[row] = message.offset + 1
        return True

    async def _seek(self, topic: str, partition: int, offset: int, consumer: Any) -> None:
        """Have the consumer deliver what it left out; once, unless it does not come."""
        now = time.monotonic()
        if now - self._sought.get((topic, partition), -SEEK_AGAIN_S) < SEEK_AGAIN_S:
            return
        self._sought[topic, partition] = now
        self._counts["sought"] += 1
        await consumer.seek(TP(topic, partition), offset)
