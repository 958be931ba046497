"""From Kafka into a recording: everything that the topics still hold since a time."""

from __future__ import annotations

import heapq
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline import app, codec
from pipeline.app import Plan
from pipeline.clock import Clock
from pipeline.errors import DecodeError
from pipeline.kafka import admin, checks
from pipeline.kafka.admin import unreachable
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.topics import COMMAND, INPUTS
from pipeline.messages import Chunk, Context, Image, Input, Mark
from pipeline.recording.recorder import Recorder
from pipeline.state import Store

SYNC_S = 1.0


def record_since(
    plan: Plan, out: Path, since_ns: int, clock: Clock, every: Callable[[int], None] | None = None
) -> Counter[str]:
    """Write the inputs since a time, up to what is the end now, into one recording.

    Each partition's messages, and so each sensor's, keep their order; what lanes learned before `since_ns` is not in
    it, so their stateful operators start empty at its replay.

    Args:
        plan: configuration and artefacts, which the recording takes along.
        out: the file.
        since_ns: event time of the first messages.
        clock: for log times.
        every: called with the number of messages now and then.

    Returns:
        Counts: ``messages``, and what could not be read by reason.

    Raises:
        BrokerError: the brokers cannot be read.
        ConfigError: the topics are not there: to ask Kafka for their ends would make them, with one partition each.
    """
    client = Client(plan.settings.kafka)
    checks.topics(client, admin.partitions(client))
    try:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / app.STATE_FILE)
            _decisions(client, store)
            start = app.recording_start(plan, store)
            store.close()
        return _record(client, Recorder(out, start, clock.now_ns(), rotate_bytes=0, rotate_s=0), since_ns, clock, every)
    except KafkaError as error:
        raise unreachable(client, error) from None


def _decisions(client: Client, store: Store) -> None:
    collector = Collector(client, store.path)
    collector.drain(store, 60.0)
    collector.close()


def _record(
    client: Client, recorder: Recorder, since_ns: int, clock: Clock, every: Callable[[int], None] | None
) -> Counter[str]:
    counts: Counter[str] = Counter()
    consumer = KafkaConsumer(
        **client.settings(), enable_auto_commit=False, auto_offset_reset="earliest", bootstrap_timeout_ms=10_000
    )
    synced = time.monotonic()
    try:
        left = _seek(consumer, client, since_ns)
        while left:
            polled = consumer.poll(timeout_ms=500, max_records=500)
            logs = [_read(records, counts) for records in polled.values()]
            # By event time between partitions, never within one: a device that started anew with an earlier clock would
            # be recorded before what it followed.
            for message in heapq.merge(*logs, key=lambda m: m.t1_ns):
                recorder.write(message, clock.now_ns())
                counts["messages"] += 1
            left = {tp: end for tp, end in left.items() if consumer.position(tp) < end}
            if time.monotonic() - synced > SYNC_S:
                recorder.sync()
                synced = time.monotonic()
            if every is not None:
                every(counts["messages"])
    finally:
        recorder.close()
        consumer.close()
    return counts


def _seek(consumer: Any, client: Client, since_ns: int) -> dict[Any, int]:
    rows = [name for name in INPUTS if name != COMMAND]
    tps = [TopicPartition(client.topic(name), n) for name in rows for n in range(client.kafka.partitions)]
    consumer.assign(tps)
    found = consumer.offsets_for_times(dict.fromkeys(tps, max(0, since_ns // 1_000_000)))
    ends = consumer.end_offsets(tps)
    for tp in tps:
        at = found.get(tp)
        consumer.seek(tp, at.offset if at is not None else ends[tp])
    return {tp: end for tp, end in ends.items() if consumer.position(tp) < end}


def _read(records: list[Any], counts: Counter[str]) -> list[Input]:
    read: list[Input] = []
    for record in records:
        try:
            message = codec.decode(record.headers or (), record.value)
            if not isinstance(message, Chunk | Image | Mark | Context):
                raise DecodeError("type", "not an input")
            read.append(message)
        except DecodeError as error:
            counts["unreadable." + error.reason] += 1
    return read
