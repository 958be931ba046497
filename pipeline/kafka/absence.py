"""Sensors whose connector is gone: after `ABANDON_S` the worker writes the marks that nobody else writes.

A mark of ours goes into the sensor's own raw topic and takes hold when it is read back from there: it is durable before
anything computed under it, every later owner reads the same, and a recording holds it. It is written only while the
brokers answer and everything before it has been taken in, so that samples that a connector keeps on its disk while the
brokers are away are not called missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from config.schema import Sensor
from config.sources import PlaybackSource
from pipeline import codec
from pipeline.absent import BEHIND_NS
from pipeline.clock import Clock
from pipeline.kafka.client import Client
from pipeline.kafka.logs import LogReader
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.part import Part
from pipeline.kafka.records import OWNER, Out
from pipeline.messages import NS, Anchor, Chunk, Image, Mark, Stream
from pipeline.stages import LaneSettings
from pipeline.topics import ABANDON_S

log = logging.getLogger(__name__)

ROUND_S = 1.0
LIVE_NS = 60 * NS
"""What was published later than this after its event is an old recording, whose time is its own."""

ASK_NS = NS
"""Sensors that were heard of this recently need no question to the brokers."""

ANSWER_S = 5.0


@dataclass
class Last:
    """What is known of a sensor under this owner: since when there has been no message, the newest, whether it is live.

    How late it was read does not matter: a connector may die while no worker runs.
    """

    since_ns: int
    message: Chunk | Image | Mark | None = None
    live: bool = True


class Absence:
    """Watches the sensors of a worker's machines.

    Args:
        client: names of topics.
        reader: tells the ends of logs.
        outbox: to write marks with.
        clock: the host's.
        parts: the partitions in this worker's hands.
        current: whether a partition still is.
        counts: takes ``abandoned_marks``.
    """

    def __init__(
        self,
        client: Client,
        reader: LogReader,
        outbox: Outbox,
        clock: Clock,
        parts: Mapping[int, Part],
        current: Callable[[Part], bool],
        counts: Counter[str],
    ) -> None:
        self._counts = counts
        self._client = client
        self._reader = reader
        self._outbox = outbox
        self._clock = clock
        self._parts = parts
        self._current = current
        self._of: dict[Part, dict[tuple[str, str], Last]] = {}

    def heard(self, part: Part, message: Chunk | Image | Mark, sent_ns: int | None = None) -> None:
        """A lane has taken in a message of a sensor.

        Args:
            part: its partition.
            message: what it was.
            sent_ns: when it was published; None where its publisher does not tell, and reading must do.
        """
        now, key = self._clock.now_ns(), (message.stream.machine, message.stream.sensor)
        lasts = self._of.setdefault(part, {})
        last = lasts.get(key)
        if last is None:
            last = lasts[key] = Last(now)
        last.message = message
        given_up = isinstance(message, Mark) and message.reason == "abandoned"
        last.live = given_up or (now if sent_ns is None else sent_ns) - message.t1_ns < LIVE_NS
        if not given_up:
            last.since_ns = now
        elif now - last.since_ns < ABANDON_S * NS:  # given up by the owner before us
            last.since_ns = now - round(ABANDON_S * NS)

    async def watch(self) -> None:
        """Look around once a second, for ever."""
        while True:
            await asyncio.sleep(ROUND_S)
            for part in [part for part in self._of if self._parts.get(part.number) is not part]:
                del self._of[part]
            for part in [part for part in self._parts.values() if self._current(part)]:
                await self._round(part)

    async def _round(self, part: Part) -> None:
        now, lasts = self._clock.now_ns(), self._of.setdefault(part, {})
        silent: dict[tuple[str, str], str] = {}
        for lane in part.lanes.values():
            for sensor in lane.settings.machine.sensors:
                key = (lane.machine, sensor.name)
                last = lasts.setdefault(key, Last(now))
                if now - last.since_ns >= ASK_NS and _ours(sensor, last):
                    silent[key] = codec.topic_of(_first(lane.settings, sensor, last))
        read = await self._read_to_the_end(part, set(silent.values()))
        due: list[Mark] = []
        for key, row in silent.items():
            if row not in read:
                lasts[key].since_ns = now
            elif now - lasts[key].since_ns >= ABANDON_S * NS:
                due += self._marks(part, key, lasts[key], now)
        if due and self._current(part):
            await self._outbox.write([self._out(part, mark) for mark in due])
            self._counts["abandoned_marks"] += len(due)

    async def _read_to_the_end(self, part: Part, rows: set[str]) -> set[str]:
        """Those of some topics in which nothing waits to be taken in, as the brokers say now."""
        if not rows:
            return set()
        try:
            names = [self._client.topic(row) for row in rows]
            ends = await asyncio.wait_for(self._reader.ends(names, part.number), ANSWER_S)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("the ends of logs are not known, no sensor is given up: %r", error)
            return set()
        return {row for row in rows if part.upto(row) >= ends[self._client.topic(row)]}

    def _marks(self, part: Part, key: tuple[str, str], last: Last, now: int) -> Iterator[Mark]:
        lane = part.lanes[key[0]]
        sensor = lane.settings.sensor(key[1])
        if sensor is None:
            return
        first = _first(lane.settings, sensor, last)
        stream, anchor, n0 = first.stream, first.anchor, first.n1
        upto = anchor.n + (now - BEHIND_NS - anchor.t_ns) * stream.rate.num // (stream.rate.den * NS)
        if upto - n0 >= stream.rate.hz * 0.9:
            if not isinstance(last.message, Mark) or last.message.reason != "abandoned":
                log.warning("machine '%s', sensor '%s': nobody publishes it, it is given up", *key)
            yield Mark(stream, anchor, n0, upto, "abandoned")

    def _out(self, part: Part, mark: Mark) -> Out:
        headers, _ = codec.encode(mark)
        topic = self._client.topic(codec.topic_of(mark))
        return Out(topic, part.number, codec.key_of(mark), None, [*headers, (OWNER, b"%d" % part.epoch)])


def _ours(sensor: Sensor, last: Last) -> bool:
    """Whether marks for a sensor would be right at all.

    Not for files, whose samples keep their own time; not for streams that ended or were published long after their
    time; and for one that was never heard of only where a source is configured for it.
    """
    if isinstance(sensor.source, PlaybackSource):
        return False
    if last.message is None:
        return sensor.source is not None
    ended = isinstance(last.message, Mark) and last.message.reason == "end"
    return not ended and last.live


def _first(settings: LaneSettings, sensor: Sensor, last: Last) -> Chunk | Image | Mark:
    """The newest message of a sensor; for one without any, an empty mark in a stream before its first one."""
    if last.message is not None:
        return last.message
    stream: Stream = settings.announced(sensor)
    return Mark(stream, Anchor(0, last.since_ns), 0, 0, "abandoned")
