"""Publishing to Apache Kafka from a connector: starts without a broker, loses nothing while there is none.

Records wait in memory, bounded in bytes, while a broker answers within seconds. When it does not, new records go to a
spool on disk, and what comes later goes behind them; when the broker is back, the spool is sent in order, with the same
ids, before anything new. A record never expires inside the producer, so that none can overtake another.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from connectors.spool import Kept, Spool
from pipeline.errors import ConfigError, MissingExtra

try:
    with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        from kafka import KafkaProducer
        from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
        from kafka.record.util import crc32c_c
except ImportError:  # pragma: no cover
    raise MissingExtra("kafka", "publishing to Kafka") from None

NEVER_MS: Final = 2_000_000_000
STALL_S: Final = 2.0
RETRY_S: Final = 1.0
IDLE_S: Final = 0.005
MAX_REQUEST_BYTES: Final = 1_000_000


class Waiting(NamedTuple):
    """A record on its way, and since when."""

    since: float
    kept: Kept


class KafkaPublisher:
    """Sends records from a thread of its own; `publish` never blocks on the network.

    Args:
        settings: of the connection, as kafka-python names them (`bootstrap_servers`, security).
        spool_folder: where records wait while the brokers are away.
        spool_bytes: how much may wait there; then the oldest are dropped and counted.
        memory_bytes: how much may be on its way.

    Raises:
        ConfigError: the compiled checksum is missing (without it, 9 MB/s with the interpreter held).
    """

    def __init__(
        self, settings: Mapping[str, Any], spool_folder: Path, spool_bytes: int, memory_bytes: int = 64_000_000
    ) -> None:
        if crc32c_c is None:
            raise ConfigError("kafka-python has no compiled checksum: pip install crc32c")
        self.counts: Counter[str] = Counter()
        self.error = ""
        self._settings = dict(settings)
        self._spool = Spool(spool_folder, spool_bytes)
        self._seq = self._spool.next_seq
        self._limit = memory_bytes
        self._lock = threading.Lock()
        self._queue: deque[Waiting] = deque()
        self._sent: OrderedDict[int, Waiting] = OrderedDict()
        self._bytes = 0
        self._segment: Path | None = None
        self._left = 0  # records of that segment that are not acknowledged
        self.spooling = bool(self._spool.segments())
        self._failed = False
        self._synced = 0.0
        self._producer: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-publisher", daemon=True)
        self._thread.start()

    def publish(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]], timestamp_ms: int
    ) -> int:
        """Take one record; returns its number (see `acknowledged`)."""
        with self._lock:
            record = Kept(self._seq, topic, key, value, headers, timestamp_ms)
            self._seq += 1
            if not self.spooling and (self._stalled() or self._bytes + record.nbytes > self._limit):
                self.spooling = True
                self.counts["outages"] += 1
            if self.spooling:
                self._spool.append(record)
                self.counts["spooled"] += 1
            else:
                self._queue.append(Waiting(time.monotonic(), record))
                self._bytes += record.nbytes
            return record.seq

    def _stalled(self) -> bool:
        """Whether the oldest record waits too long, be it for an answer or for a producer that takes it."""
        oldest = next(iter(self._sent.values()), None) or (self._queue[0] if self._queue else None)
        if oldest is not None:
            return time.monotonic() - oldest.since > STALL_S
        return self._producer is None

    @property
    def acknowledged(self) -> int:
        """All records before this number are safe: on the brokers or in the spool's files."""
        with self._lock:
            first = next(iter(self._sent), None)
            if first is not None:
                return first
            return self._queue[0].kept.seq if self._queue else self._seq

    @property
    def waiting(self) -> int:
        """Records that are not on the brokers, on disk or in memory; -1 for an unknown number on disk."""
        with self._lock:
            return -1 if self.spooling else len(self._queue) + len(self._sent)

    def metrics(self) -> dict[str, int]:
        """Counters, and what waits."""
        with self._lock:
            return {
                **self.counts,
                "memory_bytes": self._bytes,
                "spool_bytes": self._spool.nbytes if self.spooling else 0,
                "dropped.spool_full": self._spool.dropped,
            }

    # the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._failed:
                self._send_again()
            if self._producer is None and not self._connect():
                self._sync()
                self._stop.wait(RETRY_S)
                continue
            self._refill()
            if not self._send():
                self._sync()
                self._stop.wait(IDLE_S)

    def _connect(self) -> bool:
        try:
            self._producer = KafkaProducer(
                **self._settings, acks="all", enable_idempotence=True, linger_ms=5, batch_size=524_288,
                max_request_size=MAX_REQUEST_BYTES, delivery_timeout_ms=NEVER_MS, request_timeout_ms=10_000,
                max_in_flight_requests_per_connection=5, bootstrap_timeout_ms=3_000, max_block_ms=3_000,
                reconnect_backoff_max_ms=1_000,
            )  # fmt: skip
        except (KafkaError, OSError) as error:
            self.error = f"no broker: {error!r}"
            self.counts["connect_failed"] += 1
            return False
        self.error = ""
        return True

    def _refill(self) -> None:
        """When memory is empty, bring the oldest segment in; when none is left, publish directly again.

        What is in memory is thus either older than all segments, or one segment; never a part of both.
        """
        with self._lock:
            if not self.spooling or self._queue or self._sent or self._segment is not None:
                return
            found = self._spool.first()
            if found is None:
                self.spooling = False
                return
            self._segment, records = found
            self._left = len(records)
            if not records:
                self._drop_segment()
            now = time.monotonic()
            for record in records:
                self._queue.append(Waiting(now, record))
                self._bytes += record.nbytes

    def _drop_segment(self) -> None:
        if self._segment is not None:
            with contextlib.suppress(FileNotFoundError):  # the ring was full and has dropped it
                self._segment.unlink()
            self._segment = None

    def _send(self) -> bool:
        with self._lock:
            if not self._queue or self._failed:
                return False
            record = self._queue[0].kept
        try:
            future = self._producer.send(
                record.topic, record.value, key=record.key, headers=list(record.headers),
                timestamp_ms=record.timestamp_ms,
            )  # fmt: skip
        except MessageSizeTooLargeError as error:
            self._refuse(repr(error))
            return True
        except KafkaError as error:
            self.error = repr(error)
            self.counts["send_failed"] += 1
            self._failed = not isinstance(error, KafkaTimeoutError)  # what is no timeout, this producer keeps saying
            self._stop.wait(RETRY_S)
            return True
        with self._lock:
            self._sent[record.seq] = self._queue.popleft()
        future.add_both(lambda outcome, seq=record.seq: self._done(seq, outcome))
        return True

    def _refuse(self, why: str) -> None:
        """A record that no broker will ever take must not hold up those behind it."""
        with self._lock:
            record = self._queue.popleft().kept
            self.error = why
            self.counts["refused.too_large"] += 1
            self._used(record)

    def _used(self, record: Kept) -> None:
        """Memory and segment of a record that needs no more sending."""
        self._bytes -= record.nbytes
        if self._segment is not None:
            self._left -= 1
            if self._left == 0:
                self._drop_segment()

    def _done(self, seq: int, outcome: object) -> None:
        """The producer's thread: a record is on the brokers, or never will be through this producer."""
        with self._lock:
            if isinstance(outcome, BaseException):
                self.error = repr(outcome)
                self.counts["failed"] += 1
                self._failed = True
                return
            known = self._sent.pop(seq, None)
            if known is None:
                return
            self.error = ""
            self.counts["published"] += 1
            self._used(known.kept)

    def _send_again(self) -> None:
        """A producer has given records up: send all that is not acknowledged once more, in order, by another one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _end(producer, 2.0)
        with self._lock:
            again = list(self._sent.values())
            self._sent.clear()
            self._queue.extendleft(reversed(again))
            self.counts["sent_again"] += len(again)
            self._failed = False

    def _sync(self) -> None:
        if self.spooling and time.monotonic() - self._synced > 1.0:
            with self._lock:
                self._spool.sync()
                self._synced = time.monotonic()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is on the brokers; says whether it is."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.waiting == 0:
                return True
            time.sleep(0.01)
        return self.waiting == 0

    def close(self, timeout_s: float = 10.0) -> None:
        """Send what can be sent in time, and leave the rest on disk for the next start."""
        if not self.spooling:
            self.flush(timeout_s)
        self._stop.set()
        self._thread.join()
        if self._producer is not None:
            _end(self._producer, min(timeout_s, 5.0))
        with self._lock:
            self._spool.roll()
            if self._segment is None:  # else all that memory holds is in that file
                for waiting in (*self._sent.values(), *self._queue):  # older than all segments: theirs sorts first
                    self._spool.append(waiting.kept)
            self._spool.close()


def _end(producer: KafkaProducer, timeout_s: float) -> None:
    """Close a producer for good.

    Where kafka-python 3.0 cannot send all in time it raises before it has told its thread to end, which then goes on
    for ever: it would look for the broker, and send what was given up.
    """
    try:
        producer.close(timeout=timeout_s)
    except (KafkaError, OSError):
        producer._sender.force_close()
        producer._sender.join(timeout_s)
