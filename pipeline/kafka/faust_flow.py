"""How messages come through Faust: what is set otherwise in a worker's app, as Faust has no settings for it.

Held against Faust's own code by `tests/kafka/test_faust_flow.py`, as its release is pinned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from faust.types import TP

FETCH_WAIT_MS = 50
PILE, TURNS = 4, 4
"""Messages that may lie between fetcher and agent, and turns of the event loop that the agent gets to take them."""


def before_start(app: Any) -> None:
    """Set what must be there when the first message comes."""
    _deliver_all(app)
    _hand_on_at_once(app)


def after_start(app: Any) -> None:
    """Set what needs Faust's consumer."""
    _fetch_soon(app)


def _fetch_soon(app: Any) -> None:
    """Shorten the brokers' wait for new records, which Faust fixes at 1.5 s.

    aiokafka has one fetch under way per broker, and leaves out of it the partitions whose records are not used up. A
    fetch of quiet partitions alone would hold those up for as long as the broker waits.
    """
    app.consumer._thread._ensure_consumer()._fetcher._fetch_max_wait_ms = FETCH_WAIT_MS


class Unread(dict[TP, Any]):
    """Faust's newest offset per partition, which never says one: what we want again would be dropped as known.

    It is set behind a message's delivery, also if that message made us seek back.
    """

    def __getitem__(self, tp: TP) -> None:
        return None


def _deliver_all(app: Any) -> None:
    """Have Faust hand on whatever its consumer fetches."""
    app.consumer._read_offset = Unread()


def _hand_on_at_once(app: Any) -> None:
    """Have Faust hand a message to its agent without four tasks around the call.

    They are there to break off where the agent's buffer is full and a rebalance begins. Ours is hardly ever full, so
    the call is mostly over at its first step; where it is not, it goes on as Faust would have it.
    """
    consumer = app.consumer
    with_tasks = consumer.wait_first

    async def wait_first(*waited: Any, timeout: Any = None) -> Any:
        if len(waited) != 2 or timeout is not None or not all(map(asyncio.iscoroutine, waited)):
            return await with_tasks(*waited, timeout=timeout)
        call, broken_off = waited
        try:
            waits_for = call.send(None)
        except StopIteration:
            broken_off.close()
            await _agents_turn(app)
            return None
        except BaseException:
            broken_off.close()
            raise
        return await with_tasks(_go_on(call, waits_for), broken_off)

    consumer.wait_first = wait_first


async def _agents_turn(app: Any) -> None:
    """Let the agent empty its buffer: were it passed, the buffer would fill, and the fetcher sleep for a second.

    Not for longer than the four tasks took: where the agent itself is held up, its buffer may fill.
    """
    for _ in range(TURNS):
        if sum(channel.queue.qsize() for channel in app.topics) <= PILE:
            return
        await asyncio.sleep(0)


async def _go_on(call: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """The rest of a call whose first step was taken already."""
    await _steps(call, waits_for)


@coroutine
def _steps(call: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            try:
                value = yield waits_for
            except GeneratorExit:
                call.close()
                raise
            except BaseException as error:
                waits_for = call.throw(error)
            else:
                waits_for = call.send(value)
        except StopIteration:
            return
