"""Nothing may be left out between a partition's log and its lanes: what the consumer passed over is fetched again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from pipeline.kafka.logs import LogReader
from pipeline.kafka.part import UNKNOWN_BEGIN, Part

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""So long a seek has to take effect: what was fetched before it is still delivered."""

SILENT_S = 3.0
"""A topic that has a `FEW` more messages, and of which none was delivered for so long, is stuck."""

BACKLOG_S = 30.0
"""The same for one that has many more, and may have to wait for others."""

FEW = 100
"""Faust drops at most what it polls at once, a dozen."""

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
        self._asking = asyncio.Lock()

    def begin(self) -> None:
        """A new assignment: the consumer starts at committed offsets."""
        self._sought.clear()
        self._heard.clear()

    async def holds(self, part: Part, message: Any) -> bool:
        """Whether this is the message that the partition's log has next; seeks back to it if one was left out."""
        row, tp = self._rows[message.topic], TP(message.topic, message.partition)
        self._heard[tp] = time.monotonic()
        expected = part.expect.get(row)
        if expected is None or message.offset < expected:
            return False
        if message.offset > max(0, expected):
            if self._on_its_way(tp, expected):
                return False
            same, first = await self._look(part, tp, expected)
            if not same:
                return False  # it comes again, or `chase` asks again
            if first is not None and first < message.offset:
                self._fetch_again(part, tp, first)
                return False
        part.expect[row] = message.offset + 1
        return True

    async def chase(self, parts: Iterable[Part], end: Callable[[TP], int | None], waiting: Container[TP]) -> None:
        """Fetch again where the last messages of a topic were passed over, and none comes behind that would tell.

        At most one topic at a time: to look into the log takes a while, and where a backlog is read most of them wait.

        Args:
            parts: in our hands.
            end: of a partition's log, as far as it is known.
            waiting: partitions that are paused.
        """
        now = time.monotonic()
        for part in parts:
            for topic, row in self._rows.items():
                tp, ends = TP(topic, part.number), end(TP(topic, part.number))
                unread = 0 if ends is None else ends - part.upto(row)
                if unread <= 0 or tp in waiting:
                    self._heard.pop(tp, None)
                elif now - self._heard.setdefault(tp, now) >= (SILENT_S if unread <= FEW else BACKLOG_S):
                    same, first = await self._look(part, tp, part.expect[row])
                    if same and first is not None:
                        self._fetch_again(part, tp, first)
                    elif same and ends is not None:  # removed by retention, or never a message: a transaction's mark
                        part.expect[row] = ends
                    return

    async def _look(self, part: Part, tp: TP, expected: int) -> tuple[bool, int | None]:
        """Where the log has its first message from the expected offset on; None where it has none.

        Beside it, whether that is known, and the partition is still in the same state. Retention may have removed what
        was expected, which is counted; transactions leave offsets without a message.
        """
        async with self._asking:
            try:
                async with asyncio.timeout(ANSWER_S):
                    begin = await self._reader.beginning(tp.topic, tp.partition)
                    first = await self._reader.first(tp.topic, tp.partition, max(begin, expected))
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("%s/%d: not known what the consumer left out: %r", tp.topic, tp.partition, error)
                await self._reader.close()
                return False, None
        row = self._rows[tp.topic]
        if part.expect.get(row) != expected:
            return False, None
        if begin > expected > UNKNOWN_BEGIN:
            self._counts["lost_retention"] += begin - expected
            log.error("%s/%d: offsets %d to %d are no longer there", tp.topic, tp.partition, expected, begin)
            part.expect[row] = begin
        return True, first

    async def close(self) -> None:
        """Let the brokers go."""
        await self._reader.close()

    def _on_its_way(self, tp: TP, offset: int) -> bool:
        sought, until_s = self._sought.get(tp, (UNKNOWN_BEGIN, 0.0))
        return sought == offset > UNKNOWN_BEGIN and time.monotonic() < until_s

    def _fetch_again(self, part: Part, tp: TP, offset: int) -> None:
        """Have the consumer deliver what it left out."""
        part.expect[self._rows[tp.topic]] = offset
        self._heard[tp] = time.monotonic()
        self._sought[tp] = (offset, self._heard[tp] + AGAIN_S)
        self._counts["sought"] += 1
        log.warning("%s/%d: left out by the consumer, fetched again from offset %d", tp.topic, tp.partition, offset)
        self._seek(tp, offset)
