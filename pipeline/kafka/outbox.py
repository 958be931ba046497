"""What a worker writes: an idempotent producer that does not give up, and the results that wait for it.

It gives up one record alone: one that brokers will never take for what it is. That is counted and told, and whoever
wrote it learns it, as nothing may be built upon it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    kafka_errors,
)

from pipeline import codec
from pipeline.errors import BadInput, ConfigError
from pipeline.kafka import trace
from pipeline.kafka.client import MAX_REQUEST_BYTES, Client
from pipeline.kafka.part import Part
from pipeline.kafka.records import OWNER, Out
from pipeline.messages import Alarm, DeadLetter, Result

log = logging.getLogger(__name__)

RETRY_S = 0.5
ROOM = 1_000
"""Of what a batch writes around a record."""
EVERY_NS = 50_000_000
"""Results wait for others so long; alarms do not."""
REFUSED = -1
"""In place of the offset of a record that brokers refuse."""


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]  # untyped
    """Kafka's error 87, which aiokafka does not know: the topic's rules forbid the record."""

    errno = 87
    message = "INVALID_RECORD"


kafka_errors[InvalidRecordError.errno] = InvalidRecordError

REFUSALS: dict[type[KafkaError], str] = {
    MessageSizeTooLargeError: "too_large",
    RecordListTooLargeError: "too_large",
    InvalidRecordError: "invalid",
}
"""What brokers say of a batch with a record that they will never take, with the reason that is counted."""


class Waiting(NamedTuple):
    """A result with the partition that it came from, and the trace of the message that completed it."""

    part: Part
    result: Result
    parent: bytes | None = None


def tell(result: Alarm | DeadLetter, parent: bytes | None) -> None:
    """What people look for in logs, with its trace."""
    extra = {"trace_id": trace.trace_id(parent)} if parent is not None else {}
    if isinstance(result, Alarm):
        log.info("alarm %s of machine '%s'", result.transition, result.machine, extra=extra)
    else:
        log.warning("dead letter from %s, machine '%s': %s", result.topic, result.machine, result.error, extra=extra)


def _size(out: Out) -> int:
    return len(out.value or b"") + len(out.key) + sum(len(k) + len(v) for k, v in out.headers)


class Outbox:
    """Sends records and waits until all in-sync copies have them; sends again until they do.

    Args:
        client: how to reach the brokers.
        stopping: whether the worker gives up waiting for brokers.
    """

    def __init__(self, client: Client, stopping: Callable[[], bool]) -> None:
        self.counts: Counter[str] = Counter()
        self.urgent = False
        self.oldest_ns = 0
        self._client = client
        self._stopping = stopping
        self._producer: AIOKafkaProducer | None = None
        self._results: list[Waiting] = []
        self._sending = 0
        self._lock = asyncio.Lock()
        self._came = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Results that are not durable yet."""
        return len(self._results) + self._sending

    def due(self, now_ns: int) -> bool:
        """Whether results must not wait any longer."""
        return self.urgent or (bool(self._results) and now_ns - self.oldest_ns >= EVERY_NS)

    def add(self, part: Part, results: Sequence[Result], now_ns: int, parent: bytes | None = None) -> None:
        """Take results of a partition's lane, and the trace that they continue; alarms make it urgent."""
        if results and not self._results:
            self.oldest_ns = now_ns
            self._came.set()
        for result in results:
            self._results.append(Waiting(part, result, parent))
            if isinstance(result, Alarm | DeadLetter):
                tell(result, parent)
            self.urgent = self.urgent or isinstance(result, Alarm)

    async def some(self, timeout_s: float) -> None:
        """Wait until there is a result, or the time is up."""
        if not self._results:
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._came.wait()

    def drop(self, part: Part) -> None:
        """Forget the results of a partition that another worker has now: it computes them again."""
        part.lost = True
        kept = [waiting for waiting in self._results if waiting.part is not part]
        self.counts["dropped"] += len(self._results) - len(kept)
        self._results = kept

    async def flush(self) -> None:
        """Make all results durable that were added before the call."""
        async with self._lock:
            self.urgent = False
            taken, self._results = self._results, []
            self._sending = len(taken)
            try:
                if outs := [out for waiting in taken if (out := self._out(waiting)) is not None]:
                    await self._send(outs)
            except BaseException:  # cancelled: they wait for the next flush, before any snapshot that includes them
                self._results = [waiting for waiting in taken if not waiting.part.lost] + self._results
                raise
            finally:
                self._sending = 0

    def _out(self, waiting: Waiting) -> Out | None:
        part, result, parent = waiting
        try:
            headers, value = codec.encode(result)
        except BadInput as error:
            self.counts["refused." + error.reason] += 1
            log.error("a result cannot be sent: %s", error)
            return None
        topic = self._client.topic(codec.topic_of(result))
        own = [*headers, (OWNER, b"%d" % part.epoch)]
        if parent is not None:
            own.append((trace.TRACEPARENT, trace.child(parent, headers)))
        out = Out(topic, part.number, codec.key_of(result), value, own)
        return out if self.fits(out) else None

    def fits(self, out: Out) -> bool:
        """Whether Kafka takes a record of this size; else it is counted and told, for it would be refused for ever."""
        size = _size(out) + ROOM
        if size <= MAX_REQUEST_BYTES:
            return True
        self.counts["refused.too_large"] += 1
        log.error("a record of %d bytes for %s is too large for Kafka: %r", size, out.topic, out.key[:80])
        return False

    async def write(self, outs: Sequence[Out]) -> list[int]:
        """Write records in order behind all others; returns their offsets, `REFUSED` for one that no broker takes.

        Raises:
            ConfigError: this host's clock is wrong.
            asyncio.CancelledError: the worker stops and no broker answers.
        """
        async with self._lock:
            return await self._send(outs)

    async def _send(self, outs: Sequence[Out]) -> list[int]:
        try:
            return await self._send_all(outs)
        except tuple(REFUSALS) as error:
            if len(outs) == 1:
                self._refuse(outs[0], error)
                return [REFUSED]
        # Brokers refuse a whole batch for one of its records: each for itself, the others are taken.
        return [offset for out in outs for offset in await self._send([out])]

    def _refuse(self, out: Out, error: KafkaError) -> None:
        self.counts["refused." + REFUSALS[type(error)]] += 1
        log.error("brokers refuse a record of %d bytes for %s, %r: %r", _size(out), out.topic, out.key[:80], error)

    async def _send_all(self, outs: Sequence[Out]) -> list[int]:
        while True:
            try:
                producer = await self._started()
                futures = [await self._put(producer, out) for out in outs]
                done = await asyncio.gather(*futures)
            except (InvalidTimestampError, *REFUSALS) as error:
                await self._discard()
                if not isinstance(error, InvalidTimestampError):
                    raise
                now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
                raise ConfigError(
                    f"this host's clock ({now} UTC) is too far ahead of the brokers', they refuse its records: set it, "
                    "or theirs, by NTP (message.timestamp.after.max.ms is an hour by default)"
                ) from None
            except (KafkaError, OSError) as error:
                self.counts["retried"] += 1
                log.warning("%d records could not be written, sending them again: %r", len(outs), error)
                await self._discard()
                if self._stopping():
                    raise asyncio.CancelledError from error
                await asyncio.sleep(RETRY_S)
            else:
                self.counts["written"] += len(outs)
                return [record.offset for record in done]

    @staticmethod
    async def _put(producer: AIOKafkaProducer, out: Out) -> Any:
        return await producer.send(
            out.topic, out.value, key=out.key, partition=out.partition, headers=[(k, v) for k, v in out.headers]
        )

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._client.settings(), acks="all", enable_idempotence=True, linger_ms=2,
                max_batch_size=262_144, max_request_size=MAX_REQUEST_BYTES, request_timeout_ms=10_000,
            )  # fmt: skip
            try:
                await producer.start()
            except BaseException:
                with contextlib.suppress(KafkaError, OSError):
                    await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _discard(self) -> None:
        """A producer that failed may have lost its place in the sequence: the next one begins a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, asyncio.TimeoutError):
                await asyncio.wait_for(producer.stop(), 5)

    async def close(self) -> None:
        """Let the brokers go."""
        await self._discard()
