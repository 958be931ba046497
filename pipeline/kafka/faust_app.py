"""The Faust app of a worker: one agent over all input topics, and the settings that lose no messages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from pipeline.kafka.client import MAX_REQUEST_BYTES, TAKEN, Client

BUFFER = 64
"""Messages between Faust's fetcher and its agent. A poll may bring a fifth of it: where one topic fills the buffer, the
fetcher waits, and with it every other topic."""
METADATA_MS = 10_000
"""So soon the group learns of a topic that was made anew; aiokafka looks every five minutes."""


def seek(app: Any, tp: TP, offset: int) -> None:
    """Have the consumer go on at an offset; in its own thread, which does not wake for calls from another."""
    thread = app.consumer._thread
    consumer = thread._ensure_consumer()

    def there() -> None:
        with contextlib.suppress(IllegalStateError):  # the partition is no longer ours
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)

    thread.thread_loop.call_soon_threadsafe(there)


def highwater(consumer: Any, tp: TP) -> int | None:
    """Where a partition's log ends, as the last fetch told, 0 before one; None while a rebalance has taken it away."""
    try:
        return int(consumer.highwater(tp) or 0)
    except AssertionError:  # aiokafka's word for it
        return None


def committed(offset: int, taken: int) -> OffsetAndMetadata:
    """An offset to commit, and beside it, for whoever asks about the group, what is done already.

    Args:
        offset: before which neither a window nor a snapshot needs anything.
        taken: before which all results are durable.
    """
    return OffsetAndMetadata(offset, f"{TAKEN}={taken}")


async def commit(app: Any, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Commit exactly these offsets.

    Not through Faust's own acknowledgements: it forgets them at every rebalance, tests for gaps off by one, and takes
    what its consumer left out for acknowledged.

    Raises:
        KafkaError: they were not committed.
    """
    thread = app.consumer._thread
    await thread.call_thread(thread._ensure_consumer().commit, offsets)
    now = time.monotonic()
    thread.tp_last_committed_at.update({TP(*tp): now for tp in offsets})


def make_app(
    client: Client,
    name: str,
    topics: Sequence[str],
    put: Callable[[Any], Awaitable[None]],
    assigned: Callable[[set[Any]], None],
    revoked: Callable[[], None],
) -> tuple[Any, object]:
    """The app, and what its caller must keep: Faust refers to signal handlers weakly.

    Args:
        client: how to reach the brokers.
        name: of the worker; with an `instance_id` in the configuration, of the group's static member too.
        topics: on the brokers.
        put: takes an event; must not raise, for an exception would acknowledge the message.
        assigned: told of the partitions that the group gave us, under a new generation.
        revoked: told when a rebalance begins.
    """
    kafka = client.kafka
    app = faust.App(
        kafka.group, **client.faust(), broker_client_id=name,
        # Waiting for held messages would block a rebalance for ever; not waiting is safe with manual acknowledgement.
        stream_wait_empty=False, stream_buffer_maxsize=BUFFER, broker_max_poll_records=BUFFER // 5,
        consumer_max_fetch_size=2 * 1024 * 1024, consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=None if kafka.instance_id is None else name,
        consumer_metadata_max_age_ms=METADATA_MS, producer_acks=-1, producer_request_timeout=30.0,
        producer_max_request_size=MAX_REQUEST_BYTES, broker_session_timeout=kafka.session_timeout_s,
        broker_rebalance_timeout=kafka.rebalance_timeout_s, broker_heartbeat_interval=kafka.session_timeout_s / 4,
        broker_request_timeout=max(30.0, kafka.session_timeout_s),
        # Offsets are committed by the worker; Faust has no acknowledgement to commit.
        broker_commit_interval=5.0, broker_commit_every=1_000_000, processing_guarantee="at_least_once",
        # Chooses the assignor that keeps a machine's topics together; there are no tables.
        table_standby_replicas=1, topic_partitions=kafka.partitions, topic_allow_declare=False,
        topic_disable_leader=True, key_serializer="raw", value_serializer="raw", store="memory://",
        web_enabled=False, stream_publish_on_commit=False,
    )  # fmt: skip
    # Of tables: there are none. No setting keeps Faust from making them, and a user who may not would get no further.
    app._create_directories = lambda: None  # type: ignore[method-assign]
    topic = app.topic(*topics, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, name="lanes", concurrency=1)
    async def lanes(stream: Any) -> None:
        async for event in stream.noack().events():
            await put(event)

    @app.on_partitions_assigned.connect
    async def on_assigned(*args: Any, **_: Any) -> None:
        assigned(args[-1])

    @app.on_partitions_revoked.connect
    async def on_revoked(*_: Any, **__: Any) -> None:
        revoked()

    return app, (lanes, on_assigned, on_revoked)
