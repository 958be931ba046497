"""From Kafka into a recording: everything that the topics still hold since a time."""

from __future__ import annotations

import asyncio
import heapq
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError as LogError
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline import app, codec
from pipeline.app import Plan
from pipeline.clock import Clock
from pipeline.errors import BadInput, DecodeError, StethosError
from pipeline.kafka import admin, checks, fetched
from pipeline.kafka.admin import unreachable
from pipeline.kafka.client import Client
from pipeline.kafka.logs import LogReader
from pipeline.kafka.ownership import Found, take_decision
from pipeline.kafka.topics import COMMAND, DECISION, INPUTS
from pipeline.messages import Chunk, Context, Decision, Image, Input, Mark
from pipeline.recording.recorder import Recorder, Start
from pipeline.state import Store

SYNC_S = 1.0
STUCK_S = 30.0
"""Brokers from which nothing has come for so long are given up."""


def record_since(
    plan: Plan, out: Path, since_ns: int, clock: Clock, every: Callable[[int], None] | None = None
) -> Counter[str]:
    """Write the inputs since a time, up to what is the end now, into one recording.

    Each partition's messages, and so each sensor's, keep their order; what lanes learned before `since_ns` is not in
    it, so their stateful operators start empty at its replay. After an error what was recorded stays as ``.part``.

    Args:
        plan: configuration and artefacts, which the recording takes along.
        out: the file.
        since_ns: event time of the first messages.
        clock: for log times.
        every: called with the number of messages now and then.

    Returns:
        Counts: ``messages``, and by reason what could not be read, and baselines that could not be taken along.

    Raises:
        BrokerError: the brokers cannot be read.
        ConfigError: the topics are not there: to ask Kafka for their ends would make them, with one partition each.
    """
    client = Client(plan.settings.kafka)
    checks.topics(client, admin.partitions(client))
    try:
        start, missing = _start(plan, asyncio.run(_decisions(client)))
        recorder = Recorder(out, start, clock.now_ns(), rotate_bytes=0, rotate_s=0)
        return missing + _record(client, recorder, since_ns, clock, every)
    except (KafkaError, LogError) as error:
        raise unreachable(client, error) from None


def _start(plan: Plan, decisions: Sequence[Decision]) -> tuple[Start, Counter[str]]:
    """What the recording begins with: all decisions, as they come from nowhere else, and the baselines they name."""
    lanes, missing = {lane.machine.name: lane for lane in plan.lanes}, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / app.STATE_FILE)
        for decision in decisions:
            store.decide(decision)
            if decision.kind == "baseline" and decision.machine in lanes:
                try:
                    lanes[decision.machine].fetch(decision.body)
                except StethosError as error:
                    missing[f"baseline of machine '{decision.machine}': {error}"] += 1
        start = app.recording_start(plan, store, carried_ns=None)
        store.close()
    return start, missing


async def _decisions(client: Client) -> list[Decision]:
    found = {number: Found() for number in range(client.kafka.partitions)}
    reader = LogReader(client)
    try:
        async with asyncio.timeout(2 * STUCK_S):
            async for record in reader.read(client.topic(DECISION), dict.fromkeys(found, 0)):
                take_decision(found[record.partition], record)
    except TimeoutError:
        raise unreachable(client, "the decisions could not be read to their end") from None
    finally:
        await reader.close()
    return [decision for logged in found.values() for decision in logged.decisions]


def _record(
    client: Client, recorder: Recorder, since_ns: int, clock: Clock, every: Callable[[int], None] | None
) -> Counter[str]:
    counts: Counter[str] = Counter()
    settings = {**client.settings(), "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    synced = moved = time.monotonic()
    try:
        with closing(KafkaConsumer(**settings, bootstrap_timeout_ms=10_000)) as consumer:
            left = _seek(consumer, client, since_ns)
            places: dict[Any, int] = {}
            while left:
                polled = consumer.poll(timeout_ms=500, max_records=500)
                logs = [_read(records, counts) for records in polled.values()]
                # By event time between partitions, never within one: a device that started anew with an earlier clock
                # would be recorded before what it followed.
                for message in heapq.merge(*logs, key=lambda m: m.t1_ns):
                    try:
                        recorder.write(message, clock.now_ns())
                        counts["messages"] += 1
                    except BadInput as error:
                        counts["unreadable." + error.reason] += 1
                before, places = places, {tp: consumer.position(tp) for tp in left}
                left = {tp: end for tp, end in left.items() if places[tp] < end}
                now = time.monotonic()
                moved = now if places != before else moved
                if now - moved > STUCK_S:
                    raise unreachable(client, f"nothing has come for {STUCK_S:g} s, {len(left)} partitions are unread")
                if now - synced > SYNC_S:
                    recorder.sync()
                    synced = time.monotonic()
                if every is not None:
                    every(counts["messages"])
        recorder.close()
    finally:
        recorder.leave()
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
            fetched.check(record)
            message = codec.decode(record.headers or (), record.value)
            if not isinstance(message, Chunk | Image | Mark | Context):
                raise DecodeError("type", "not an input")
            read.append(message)
        except DecodeError as error:
            counts["unreadable." + error.reason] += 1
    return read
