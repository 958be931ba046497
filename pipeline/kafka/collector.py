"""Reads results and decisions from Kafka into the durable log of one box, where sinks, console and journal find them.

What a worker wrote after it had lost its partition is left out: it stands in the log behind the claim of the next
owner. A repeat of a result replaces it under its id.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import codec
from pipeline.bodies import record_from
from pipeline.errors import DecodeError, StateError
from pipeline.headers import TYPE
from pipeline.kafka import fetched
from pipeline.kafka.client import Client
from pipeline.kafka.records import CLAIM_TYPE, Claim, Fence, owner_of, read_claim
from pipeline.kafka.topics import DECISION, OUTPUTS
from pipeline.messages import Decision, Embedding, Record
from pipeline.results import record_of
from pipeline.state import Store

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

log = logging.getLogger(__name__)

BATCH = 2000
RETRY_S = 1.0


class Collector:
    """One reader of all partitions of all result topics.

    Args:
        client: how to reach the brokers.
        state: path of the durable state that takes the results; it also keeps how far the logs were read.
    """

    def __init__(self, client: Client, state: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.error = ""
        self._client = client
        self._path = state
        self._fences: dict[Any, Fence] = {}
        self._consumer: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-collector", daemon=True)

    def start(self) -> None:
        """Begin to read in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        store: Store | None = None
        try:
            while not self._stop.is_set():
                try:
                    store = store or Store(self._path)
                    self.poll(store)
                    self.error = ""
                except (KafkaError, OSError, StateError) as error:  # reading goes on where the state says
                    self.error = str(error) if isinstance(error, StateError) else repr(error)
                    log.warning("results cannot be taken in, trying again: %s", self.error)
                    self._pause()
                except Exception as error:  # nobody would see that the thread has ended
                    self.error = repr(error)
                    self.counts["failed"] += 1
                    log.exception("results cannot be taken in, trying again")
                    self._pause()
        finally:
            self.close()
            if store is not None:
                store.close()

    def _pause(self) -> None:
        self.close()
        self._stop.wait(RETRY_S)

    def open(self, store: Store) -> None:
        """Connect, and go on where the state says that reading stopped."""
        topics = [self._client.topic(name) for name in (*OUTPUTS, DECISION)]
        tps = [TopicPartition(topic, n) for topic in topics for n in range(self._client.kafka.partitions)]
        consumer = KafkaConsumer(
            **self._client.settings(), enable_auto_commit=False, auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024, fetch_max_wait_ms=100, bootstrap_timeout_ms=10_000,
        )  # fmt: skip
        consumer.assign(tps)
        ends: Mapping[Any, int] = consumer.end_offsets(tps)
        places = {tp: _place(store, tp) for tp in tps}
        for tp, place in places.items():
            decision = TopicPartition(topics[-1], tp.partition)
            anew = place[0] > ends[tp] or max(places[decision][0] - 1, place[1]) >= ends[decision]
            if anew:
                log.error("%s/%d has begun anew on the brokers: read from its beginning", tp.topic, tp.partition)
                self.counts["begun_anew"] += 1
            at, epoch = (0, -1) if anew else place
            self._fences[tp] = Fence(epoch)
            if at:
                consumer.seek(tp, at)
        self._consumer = consumer

    def poll(self, store: Store, timeout_ms: int = 200) -> int:
        """Read what is there, at most some thousands, into the state; returns how many records came."""
        if self._consumer is None:
            self.open(store)
        batches: Mapping[Any, list[Any]] = self._consumer.poll(timeout_ms=timeout_ms, max_records=BATCH)
        results = []
        for tp, records in batches.items():
            topic = self._client.row(tp.topic)
            for record in records:
                found = self._read(topic, tp, record)
                if isinstance(found, Decision):
                    store.decide(found)
                elif found is not None:
                    results.append(found)
        if results:
            store.commit(results, urgent=any(r.topic == "alarm" for r in results))
        for tp, records in batches.items():
            store.put_meta(_key(tp), f"{records[-1].offset + 1}|{self._fences[tp].epoch}")
        count = sum(map(len, batches.values()))
        self.counts["read"] += count
        return count

    def _read(self, topic: str, tp: Any, record: Any) -> Record | Decision | None:
        headers = dict(record.headers or ())
        fence = self._fences[tp]
        try:
            fetched.check(record)
            if headers.get(TYPE) == CLAIM_TYPE:
                fence.take(read_claim(record.value, record.offset))
                return None
            if fence.void(owner_of(headers)):
                self.counts["void"] += 1
                return None
            if topic == DECISION:
                message = codec.decode(headers.items(), record.value)
                return message if isinstance(message, Decision) else None
            if topic == "embedding":  # a vector, not JSON
                vector = codec.decode(headers.items(), record.value)
                if not isinstance(vector, Embedding):
                    raise DecodeError("type", f"{type(vector).__name__} among embeddings")
                return record_of(vector, record.offset)
            return record_from(topic, record.value, record.offset)
        except DecodeError as error:
            self.counts["unreadable"] += 1
            log.error("%s/%d at %d: %s", tp.topic, tp.partition, record.offset, error)
            return None

    def drain(self, store: Store, timeout_s: float = 30.0) -> bool:
        """Read up to what is the end now; says whether it got there."""
        if self._consumer is None:
            self.open(store)
        ends = self._consumer.end_offsets(list(self._fences))
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            self.poll(store)
            if all(self._consumer.position(tp) >= end for tp, end in ends.items()):
                return True
        return False

    def finish(self, store: Store) -> bool:
        """Behind `stop`: read what has come since, as far as the brokers answer; says whether that is all."""
        try:
            return self.drain(store)
        except (KafkaError, OSError, StateError) as error:
            log.warning("the last results could not be taken in: %r", error)
            return False
        finally:
            self.close()

    def claims(self) -> dict[int, Claim]:
        """By partition, the claim in force, as far as the log was read."""
        topic = self._client.topic(DECISION)
        fences = [(tp.partition, fence.claim) for tp, fence in self._fences.copy().items() if tp.topic == topic]
        return {number: claim for number, claim in fences if claim is not None}

    def owners(self) -> dict[int, str]:
        """By partition, the worker whose claim is in force."""
        return {number: claim.worker for number, claim in self.claims().items()}

    def close(self) -> None:
        """Let the brokers go. May be called twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def _place(store: Store, tp: Any) -> tuple[int, int]:
    """Where a log is read on, and the owner epoch in force there."""
    at, epoch = (store.meta(_key(tp)) or "0|-1").split("|")
    return int(at), int(epoch)


def _key(tp: Any) -> str:
    return f"kafka|{tp.topic}|{tp.partition}"
