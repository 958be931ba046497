"""Faust as its guide describes it, and our app, on a real broker: what each processes, and what the group committed.

python -m tests.kafka.plain_faust HOST:PORT PREFIX        prints one line of JSON; see test_faust_live.py
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import faust
import faust.streams
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from config.schema import Kafka
from pipeline.kafka.client import Client
from pipeline.kafka.faust_app import commit, make_app

COUNT = 10
LONG_S = 90.0
STOP_S = 8.0


async def until(true: Callable[[], Any], timeout_s: float = LONG_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        await asyncio.sleep(0.05)


class Case:
    """A topic with ten records, and the apps that read it.

    Args:
        bootstrap: of the broker.
        name: of topic and group.
        folder: for Faust's tables; there are none, but it makes folders for them.
    """

    def __init__(self, bootstrap: str, name: str, folder: str) -> None:
        self.bootstrap = bootstrap
        self.name = name
        self.folder = folder
        self.begun: list[int] = []
        self.done: list[int] = []

    async def fill(self) -> None:
        """Write the records; the broker makes the topic, with one partition."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        for number in range(COUNT):
            await producer.send_and_wait(self.name, b"%d" % number, key=b"m")
        await producer.stop()

    async def committed(self) -> int | None:
        """Where the group would go on after a crash."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.name, enable_auto_commit=False)
        await consumer.start()
        try:
            offset = await consumer.committed(TopicPartition(self.name, 0))
        finally:
            await consumer.stop()
        return None if offset is None else int(offset)

    async def started(
        self, body: Callable[[int], Awaitable[None]], *, concurrency: int = 1, noack: bool = False, **settings: Any
    ) -> Any:
        """A plain app whose agent awaits `body` for each offset."""
        app = faust.App(
            self.name, broker="kafka://" + self.bootstrap, web_enabled=False, topic_disable_leader=True,
            topic_allow_declare=False, value_serializer="raw", key_serializer="raw", datadir=self.folder,
            **{"broker_commit_interval": 0.3, "stream_wait_empty": False, **settings},
        )  # fmt: skip

        @app.agent(app.topic(self.name, key_serializer="raw", value_serializer="raw"), concurrency=concurrency)
        async def agent(stream: Any) -> None:
            async for event in stream.noack().events() if noack else stream.events():
                self.begun.append(event.message.offset)
                await body(event.message.offset)
                self.done.append(event.message.offset)

        app.finalize()
        await app.start()
        return app


async def sleep_at(offset: int, stuck: int) -> None:
    """Stick at one offset."""
    if offset == stuck:
        await asyncio.sleep(LONG_S)


async def nothing(_offset: int) -> None:
    """Take it."""


async def hole_1(case: Case) -> dict[str, Any]:
    """Two coroutines of an agent, one of them stuck at offset 3."""
    app = await case.started(lambda offset: sleep_at(offset, 3), concurrency=2)
    await until(lambda: len(case.done) == COUNT - 1)
    await asyncio.sleep(1.5)
    found = await case.committed()
    await app.stop()
    return {"open": 3, "committed": found}


async def hole_2(case: Case) -> dict[str, Any]:
    """An exception at offset 3."""

    async def body(offset: int) -> None:
        if offset == 3:
            raise RuntimeError("offset 3")

    app = await case.started(body)
    await until(lambda: COUNT - 1 in case.done)
    await asyncio.sleep(1.5)
    found = await case.committed()
    await app.stop()
    return {"failed": 3, "done": case.done, "begun": case.begun, "committed": found}


async def hole_3(case: Case) -> dict[str, Any]:
    """All is processed and acknowledged; then another member joins before the next commit."""
    app = await case.started(nothing, broker_commit_interval=LONG_S)
    await until(lambda: len(case.done) == COUNT)
    other = await case.started(nothing, broker_commit_interval=LONG_S)
    await until(lambda: len(case.done) >= 2 * COUNT)
    await app.stop()
    await other.stop()
    return {"deliveries": len(case.done)}


async def hole_4(case: Case) -> dict[str, Any]:
    """A window holds its messages, and the app is told to stop; the default waits for them."""
    app = await case.started(nothing, noack=True, stream_wait_empty=True)
    await until(lambda: len(case.done) == COUNT)
    stopping = asyncio.create_task(app.stop())
    ended, _ = await asyncio.wait({stopping}, timeout=STOP_S)
    return {"stopped": bool(ended)}


async def hole_5(case: Case) -> dict[str, Any]:
    """Without that wait, but with automatic acknowledgement: stopped in the middle of offset 1.

    Whether the last commit comes before or behind the agent's end is a matter of microseconds: tried until behind.
    """
    for attempt in range(5):
        rig = case if attempt == 0 else Case(case.bootstrap, f"{case.name}-{attempt}", case.folder)
        if rig is not case:
            await rig.fill()
        app = await rig.started(lambda offset: sleep_at(offset, 1))
        await until(partial(rig.begun.count, 1))
        await app.stop()
        told = {"begun": rig.begun, "done": rig.done, "committed": await rig.committed()}
        if told["committed"] == 2:
            break
    return told


async def hole_6(case: Case) -> dict[str, Any]:
    """The iterator in pure Python: what it skips after a rebalance, it acknowledges, even in manual mode."""
    streams: Any = faust.streams
    compiled, streams._CStreamIterator = streams._CStreamIterator, None
    try:
        return await hole_6_compiled(case)
    finally:
        streams._CStreamIterator = compiled


async def hole_6_compiled(case: Case) -> dict[str, Any]:
    """The same with the compiled one."""
    held: list[Any] = []
    app = await case.started(lambda offset: asyncio.sleep(2.0 if offset == 1 and not held else 0), noack=True)
    await until(lambda: 1 in case.begun)
    held.append(1)
    app.consumer_generation_id += 1  # as a rebalance does that leaves the partition here
    await asyncio.sleep(4.0)
    found = await case.committed()
    await app.stop()
    return {"done": case.done, "committed": found}


async def ours(case: Case) -> dict[str, Any]:
    """The same situations at once: stuck at 3 while the rest waits, told to stop; then another member, a commit."""
    client = Client(Kafka(bootstrap=case.bootstrap, group=case.name, partitions=1, session_timeout_s=6))
    apps: list[Any] = []
    seen: list[list[int]] = [[], []]

    async def run(number: int, stuck: int) -> Any:
        async def put(event: Any) -> None:
            seen[number].append(event.message.offset)
            await sleep_at(event.message.offset, stuck)

        app, kept = make_app(client, f"w{number}", [case.name], put, lambda _tps: None, lambda: None)
        apps.append((app, kept))
        app.finalize()
        await app.start()
        return app

    app = await run(0, 3)
    await until(lambda: seen[0] == [0, 1, 2, 3])
    stopping = asyncio.create_task(app.stop())
    ended, _ = await asyncio.wait({stopping}, timeout=STOP_S)
    first = await case.committed()
    app = await run(1, -1)
    await until(lambda: len(seen[1]) == COUNT)
    await commit(app, {TopicPartition(case.name, 0): _offset(4)})
    second = await case.committed()
    await app.stop()
    third = await case.committed()
    return {"stopped": bool(ended), "again": seen[1], "committed": [first, second, third]}


def _offset(offset: int) -> Any:
    from aiokafka.structs import OffsetAndMetadata

    return OffsetAndMetadata(offset, "")


async def main(bootstrap: str, prefix: str, folder: str) -> dict[str, Any]:
    """All cases, some side by side; the last one alone, as it takes the compiled iterator away."""
    cases = {case.__name__: case for case in (hole_1, hole_2, hole_3, hole_4, hole_5, hole_6_compiled, ours, hole_6)}
    rigs = {name: Case(bootstrap, f"{prefix}{name.replace('_', '-')}", folder) for name in cases}
    await asyncio.gather(*(rig.fill() for rig in rigs.values()))
    last = cases.pop("hole_6")
    told: dict[str, Any] = {}

    async def tell(name: str, case: Callable[[Case], Awaitable[dict[str, Any]]]) -> None:
        try:
            told[name] = await asyncio.wait_for(case(rigs[name]), LONG_S)
        except TimeoutError:
            told[name] = {"timeout": True, "begun": rigs[name].begun, "done": rigs[name].done}

    await asyncio.gather(*(tell(name, case) for name, case in cases.items()))
    await tell("hole_6", last)
    return told


async def show(bootstrap: str, prefix: str) -> None:
    """Print, and end the process at once: one of the apps never stops, which is hole 4."""
    with tempfile.TemporaryDirectory() as folder:
        told = await main(bootstrap, prefix, folder)
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(show(*sys.argv[1:]))
