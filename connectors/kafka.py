"""Publishing to Apache Kafka from a connector: starts without a broker, loses nothing while there is none.

Records wait in memory, bounded in bytes, while a broker answers within seconds. When it does not, new records go to a
spool on disk, and what comes later goes behind them; when the broker is back, the spool is sent in order, with the same
ids, before anything new. A record never expires inside the producer, so that none can overtake another.

Four things do lose records, each counted with its reason: a disk that does not take what should go to the spool, one
that damages it, brokers that refuse a record for what it is, and brokers that do not have its topic. None holds up what
comes behind.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from connectors.kafka_brokers import end, missing, refusal
from connectors.spool import Kept, Spool, Waiting
from pipeline.errors import ConfigError, MissingExtra

try:
    with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        from kafka import KafkaProducer
        from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
        from kafka.record.util import crc32c_c
except ImportError:  # pragma: no cover
    raise MissingExtra("kafka", "publishing to Kafka") from None

log = logging.getLogger(__name__)

NEVER_MS: Final = 2_000_000_000
STALL_S: Final = 2.0
RETRY_S: Final = 1.0
IDLE_S: Final = 0.005
MISSING_S: Final = 10.0
"""So long a record waits before its topic is looked for, and so long again before that is believed to be gone: a topic
that is made anew at once loses nothing."""
MAX_REQUEST_BYTES: Final = 1_000_000
AHEAD_MS: Final = 50 * 60_000
"""So far may a record's timestamp be ahead: from 3.6 on, brokers refuse what is an hour ahead of their own clock."""


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
        self._spool_limit = spool_bytes
        self._lock = threading.Lock()
        self._queue: deque[Waiting] = deque()
        self._sent: OrderedDict[int, Waiting] = OrderedDict()
        self._bytes = 0
        self._segment: Path | None = None
        self._left = 0  # records of that segment that are not acknowledged
        self.spooling = bool(self._spool.segments())
        self._failed = False
        self._accused: int | None = None  # the record that brokers refused within its batch; it is sent alone once more
        self._blamed = False  # whether this producer has had a record refused
        self._unseen = self._missing = frozenset[str]()  # topics that brokers did not have at the last look; at two
        self._looked = 0.0
        self._lack = ""  # what `error` says of records refused since then
        self._made = -RETRY_S
        self._synced = 0.0
        self._producer: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-publisher", daemon=True)
        self._thread.start()

    def publish(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]], timestamp_ms: int
    ) -> int:
        """Take one record; returns its number (see `acknowledged`). One that the disk does not take is counted."""
        with self._lock:
            record = Kept(self._seq, topic, key, value, headers, timestamp_ms)
            self._seq += 1
            if not self.spooling and (self._stalled() or self._bytes + record.nbytes > self._limit):
                self.spooling = True
                self.counts["outages"] += 1
            if self.spooling:
                self._keep(record)
            else:
                self._queue.append(Waiting(time.monotonic(), record))
                self._bytes += record.nbytes
            return record.seq

    def _keep(self, record: Kept) -> None:
        with self._disk():
            self._spool.append(record)
            self.counts["spooled"] += 1

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """What the spool's disk does not do for now is said and counted; it ends nothing."""
        try:
            yield
        except OSError as error:
            self.error = f"spool: {error}"
            self.counts["spool_failed"] += 1

    def _stalled(self) -> bool:
        """Whether the oldest record waits too long, be it for an answer or for a producer that takes it."""
        oldest = self._oldest()
        if oldest is not None:
            return time.monotonic() - oldest.since > STALL_S
        return self._producer is None

    def _oldest(self) -> Waiting | None:
        return next(iter(self._sent.values()), None) or (self._queue[0] if self._queue else None)

    @property
    def acknowledged(self) -> int:
        """All records before this number are safe, on the brokers or in the spool's files, or counted as lost."""
        with self._lock:
            first = next(iter(self._sent), None)
            if first is not None:
                return first
            return self._queue[0].kept.seq if self._queue else self._seq

    @property
    def crowded(self) -> bool:
        """Whether half the memory is taken, or half the spool while that is in use: what can be read later waits."""
        with self._lock:
            if not self.spooling:
                return self._bytes > self._limit // 2
            try:
                return self._spool.nbytes > self._spool_limit // 2
            except OSError:  # said by whatever is written next
                return True

    @property
    def waiting(self) -> int:
        """Records that are not on the brokers, on disk or in memory; -1 for an unknown number on disk."""
        with self._lock:
            return -1 if self.spooling else len(self._queue) + len(self._sent)

    def metrics(self) -> dict[str, int]:
        """Counters, and what waits."""
        with self._lock:
            spool_bytes = 0
            with self._disk():
                spool_bytes = self._spool.nbytes if self.spooling else 0
            return {
                **self.counts,
                "memory_bytes": self._bytes,
                "spool_bytes": spool_bytes,
                "dropped.spool_full": self._spool.dropped,
                "dropped.spool_failed": self._spool.lost,
            }

    # the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = RETRY_S
            try:
                with self._disk():
                    wait_s = self._round()
            except Exception as error:  # nobody would see that the thread has ended
                self.error = repr(error)
                self.counts["failed_rounds"] += 1
            self._stop.wait(wait_s)

    def _round(self) -> float:
        """Do the next thing; returns how long to wait behind it."""
        if self._failed:
            self._send_again()
        if self._producer is None and not self._connect():
            self._sync()
            return RETRY_S
        self._refill()
        self._look()
        if self._send():
            return 0.0
        self._sync()
        return IDLE_S

    def _connect(self) -> bool:
        self._made = time.monotonic()
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
        self.error = self._lack
        return True

    def _look(self) -> None:
        """Where records wait although brokers answer: which of their topics there are not."""
        now = time.monotonic()
        with self._lock:
            oldest = self._oldest()
            waits = oldest is not None and now - oldest.since > MISSING_S
            if not (waits or self._missing) or now - self._looked < MISSING_S:
                return
            topics = {waiting.kept.topic for waiting in (*self._sent.values(), *self._queue)} | self._missing
        self._looked, self._lack = now, ""
        try:
            found = missing(self._settings, topics)
        except (KafkaError, OSError):
            self._unseen = frozenset()
            return  # an outage, in which nothing is given up
        if found and not self._make_topics():
            found = frozenset()
        before, self._missing, self._unseen = self._missing, found & self._unseen, found
        for topic in sorted(self._missing - before):
            log.error("kafka has no topic %s: its records are not sent (`stethos topics create` makes it)", topic)
        with self._lock:  # what the producer has of them it would send for ever
            self._failed |= any(waiting.kept.topic in self._missing for waiting in self._sent.values())

    def _make_topics(self) -> bool:
        """Make the topics that should be there, where that is known; False while it could not be done."""
        return True

    def _refill(self) -> None:
        """When memory is empty, bring the oldest segment in; when none is left, publish directly again.

        What is in memory is thus either older than all segments, or one segment; never a part of both.
        """
        with self._lock:
            if self._left == 0:
                self._drop_segment()
            if not self.spooling or self._queue or self._sent or self._segment is not None:
                return
            found = self._spool.first()
            if found is None:
                self.spooling = False
                return
            self._segment, segment = found
            self._left = len(segment.records)
            if segment.damage:
                self.error = f"spool: {self._segment} is damaged, what lies behind that is lost: {segment.damage}"
                self.counts["damaged.segment"] += 1
                self.counts["dropped.spool_damaged"] += segment.lost
            now = time.monotonic()
            for record in segment.records:
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
            if self._sent and self._accused in (record.seq, next(reversed(self._sent))):
                return False
            if record.topic in self._missing:
                self._lack = f"kafka has no topic {record.topic}: run `stethos topics create`"
                self._refuse(self._queue.popleft().kept, "no_topic", self._lack)
                return True
        timestamp_ms = min(record.timestamp_ms, int(time.time() * 1000) + AHEAD_MS)  # the exact time is in the headers
        try:
            future = self._producer.send(
                record.topic, record.value, key=record.key, headers=list(record.headers), timestamp_ms=timestamp_ms
            )
        except MessageSizeTooLargeError as error:
            with self._lock:
                self._refuse(self._queue.popleft().kept, refusal(error), repr(error))
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

    def _refuse(self, record: Kept, reason: str, error: str) -> None:
        """A record that no broker will ever take must not hold up those behind it."""
        self.error = error
        self.counts["refused." + reason] += 1
        self._used(record)

    def _used(self, record: Kept) -> None:
        """Memory and segment of a record that needs no more sending."""
        self._bytes -= record.nbytes
        if self._segment is not None:
            self._left -= 1

    def _done(self, seq: int, outcome: object) -> None:
        """The producer's thread: a record is on the brokers, or never will be through this producer."""
        with self._lock:
            if seq not in self._sent:
                return
            if isinstance(outcome, BaseException):
                self.error = repr(outcome)
                self.counts["failed"] += 1
                self._failed = True
                if refusal(outcome):
                    self._judge(seq, outcome)
                return
            self.error = self._lack
            self.counts["published"] += 1
            self._used(self._sent.pop(seq).kept)
            if seq == self._accused:
                self._accused = None

    def _judge(self, seq: int, error: BaseException) -> None:
        """Brokers refuse a whole batch for one record, and then kafka-python gives up all it has, with the same error.

        So only the first record that a producer brings back refused is accused. The next producer sends it alone; if it
        is refused again, it is passed over. (Brokers before 2.4 name no record: the batch's first one is accused, and
        found innocent, until it is the right one's turn.)
        """
        if seq == self._accused:
            self._refuse(self._sent.pop(seq).kept, refusal(error), repr(error))
            self._accused = None
        elif not self._blamed:
            self._accused = seq
        self._blamed = True

    def _send_again(self) -> None:
        """A producer has given records up: send all that is not acknowledged once more, in order, by another one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            end(producer, 2.0)
        self._stop.wait(self._made + RETRY_S - time.monotonic())  # one that failed at once would make the next do so
        with self._lock:
            again = list(self._sent.values())
            self._sent.clear()
            self._queue.extendleft(reversed(again))
            self.counts["sent_again"] += len(again)
            self._failed = self._blamed = False

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
            end(self._producer, min(timeout_s, 5.0))
        with self._lock:
            with self._disk():
                if self._left == 0:
                    self._drop_segment()
            with self._disk():
                self._spool.roll()
            if self._segment is None:  # else all that memory holds is in that file
                for waiting in (*self._sent.values(), *self._queue):  # older than all segments: theirs sorts first
                    self._keep(waiting.kept)
            with self._disk():
                self._spool.close()
