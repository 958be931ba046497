"""Nothing may be left out between a partition's log and its lanes: what the consumer passed over is fetched again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from pipeline.kafka.logs import LogReader
from pipeline.kafka.part import Part

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""So long a seek has to take effect: what was fetched before it is still delivered."""

SILENT_S = 3.0
"""A topic that has more, and of which nothing was delivered for so long, is stuck."""

ANSWER_S = 10.0


class Continuity:
    """Compares each message's offset with the one that comes next.

    Args:
        rows: of the table, by topic.
        reader: tells what the logs have; nobody else's.
        counts: takes ``sought`` and ``lost_retention``.
        seek: has the consumer go on at an offset.
    """

    def __init__(
        self, rows: Mapping[str, str], reader: LogReader, counts: Counter[str], seek: Callable[[TP, int], None]
    ) -> None:
        self._rows = rows
        self._reader = reader
        self._counts = counts
        self._seek = seek
        self._sought: dict[TP, tuple[int, float]] = {}
        self._heard: dict[TP, float] = {}
        self._exhausted: dict[TP, int] = {}
        self._asking = asyncio.Lock()

    def begin(self) -> None:
        """A new assignment: the consumer starts at committed offsets."""
        self._sought.clear()
        self._heard.clear()
        self._exhausted.clear()

    async def holds(self, part: Part, message: Any) -> bool:
        """Whether this is the message that the partition's log has next; seeks back to it if one was left out."""
        row, tp = self._rows[message.topic], TP(message.topic, message.partition)
        self._heard[tp] = time.monotonic()
        expected = part.expect.get(row)
        if expected is not None and message.offset < expected:
            return False
        if expected is not None and message.offset > expected:
            if self._on_its_way(tp, expected):
                return False
            try:
                first = await self._first(part, tp, expected)
            except (KafkaError, OSError, TimeoutError):
                return False  # the next message asks again, or `chase`
            if first is not None and first < message.offset:
                self._fetch_again(tp, first)
                return False
            if part.expect.get(row) not in {expected, first}:
                return False  # the partition was taken over anew while we asked
        part.expect[row] = message.offset + 1
        return True

    async def chase(self, part: Part, end: Callable[[TP], int | None], waiting: Container[TP]) -> None:
        """Fetch again where the last messages of a topic were passed over, and none comes behind that would tell.

        Args:
            part: in our hands.
            end: of a partition's log, as far as it is known.
            waiting: partitions that are paused.
        """
        now = time.monotonic()
        for topic, row in self._rows.items():
            tp, expected = TP(topic, part.number), part.expect.get(row)
            ends = end(tp)
            if expected is None or ends is None or ends <= expected or tp in waiting or self._exhausted.get(tp) == ends:
                self._heard.pop(tp, None)
            elif now - self._heard.setdefault(tp, now) >= SILENT_S:
                try:
                    first = await self._first(part, tp, expected)
                except (KafkaError, OSError, TimeoutError):
                    return
                if first is None:  # what is at the end was never a message, but the mark of a transaction
                    self._exhausted[tp] = ends
                else:
                    self._fetch_again(tp, first)

    async def _first(self, part: Part, tp: TP, expected: int) -> int | None:
        """The first offset from the expected one on at which the log has a message; None where it has none.

        Retention may have removed what was expected, which is counted; transactions leave offsets without a message.

        Raises:
            KafkaError, OSError, TimeoutError: the brokers do not answer.
        """
        async with self._asking:
            try:
                async with asyncio.timeout(ANSWER_S):
                    begin = await self._reader.beginning(tp.topic, tp.partition)
                    first = await self._reader.first(tp.topic, tp.partition, max(begin, expected))
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("%s/%d: not known what the consumer left out: %r", tp.topic, tp.partition, error)
                await self._reader.close()
                raise
        if begin > expected and part.expect.get(self._rows[tp.topic]) == expected:
            self._counts["lost_retention"] += begin - expected
            log.error("%s/%d: offsets %d to %d are no longer there", tp.topic, tp.partition, expected, begin)
            part.expect[self._rows[tp.topic]] = begin
        return first

    async def close(self) -> None:
        """Let the brokers go."""
        await self._reader.close()

    def _on_its_way(self, tp: TP, offset: int) -> bool:
        sought, at_s = self._sought.get(tp, (-1, 0.0))
        return sought == offset and time.monotonic() - at_s < AGAIN_S

    def _fetch_again(self, tp: TP, offset: int) -> None:
        """Have the consumer deliver what it left out; once, unless it does not come."""
        if self._on_its_way(tp, offset):
            return
        self._heard[tp] = time.monotonic()
        self._sought[tp] = (offset, self._heard[tp])
        self._counts["sought"] += 1
        log.warning("%s/%d: left out by the consumer, fetched again from offset %d", tp.topic, tp.partition, offset)
        self._seek(tp, offset)
