"""How a message comes from Faust's fetcher to the agent: as Faust would have it, without four tasks around the call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mode import Service

from pipeline.kafka import faust_flow
from pipeline.kafka.faust_flow import PILE, TURNS


class App(SimpleNamespace):
    """What of an app the flow touches; the consumer is a service, whose `wait_first` is Faust's own."""

    def __init__(self) -> None:
        super().__init__(consumer=Service(), topics=[SimpleNamespace(queue=asyncio.Queue())])
        faust_flow.before_start(self)
        self.suspended = asyncio.Event()

    async def hand_on(self, call: Awaitable[None]) -> None:
        """As `Consumer._drain_messages` has it."""
        await self.consumer.wait_first(call, self.suspended.wait())


def running(test: Callable[[App], Awaitable[None]]) -> None:
    """A test in a loop of its own, which must leave no task behind."""

    async def inside() -> None:
        await asyncio.wait_for(test(App()), 10)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(inside())


def test_a_call_that_does_not_wait_needs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has been put when the call returns, and no task was made for it."""

    async def test(app: App) -> None:
        monkeypatch.setattr(asyncio, "ensure_future", lambda *_, **__: pytest.fail("a task"))
        queue = app.topics[0].queue
        for number in range(PILE):
            await app.hand_on(queue.put(number))
        assert [queue.get_nowait() for _ in range(PILE)] == list(range(PILE))
        monkeypatch.undo()

    running(test)


def test_a_call_that_waits_goes_on_where_it_was() -> None:
    """Its first step is taken once; what it waits for, and what that brings, is what it would be in a task."""

    async def test(app: App) -> None:
        steps: list[Any] = []
        first, second = asyncio.get_running_loop().create_future(), asyncio.Event()

        async def call() -> None:
            steps.append("begun")
            steps.append(await first)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await second.wait()
            steps.append("ended")

        handing = asyncio.create_task(app.hand_on(call()))
        await asyncio.sleep(0)
        assert steps == ["begun"] and not handing.done()
        first.set_result(7)
        await asyncio.sleep(0.01)
        assert steps == ["begun", 7]
        second.set()
        await handing
        assert steps == ["begun", 7, "ended"]

    running(test)


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_is_told(waits: bool) -> None:
    """At the first step or later: Faust's consumer must see it."""

    async def test(app: App) -> None:
        async def call() -> None:
            if waits:
                await asyncio.sleep(0.01)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await app.hand_on(call())

    running(test)


def test_a_rebalance_breaks_a_waiting_call_off() -> None:
    """The buffer is full and the flow is suspended: the message is given up, as Faust does it."""

    async def test(app: App) -> None:
        given_up: list[str] = []

        async def call() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                given_up.append("call")
                raise

        handing = asyncio.create_task(app.hand_on(call()))
        await asyncio.sleep(0.01)
        app.suspended.set()
        await handing
        await asyncio.sleep(0)
        assert given_up == ["call"]

    running(test)


def test_whoever_stops_the_fetcher_stops_the_call() -> None:
    """A cancelled fetcher leaves no call behind."""

    async def test(app: App) -> None:
        never: Any = asyncio.Event().wait()
        handing = asyncio.create_task(app.hand_on(never))
        await asyncio.sleep(0.01)
        handing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handing

    running(test)


@pytest.mark.parametrize("takes", [True, False])
def test_the_fetcher_does_not_pass_the_agent(takes: bool) -> None:
    """An agent that takes one message a turn has no more than a few before it; one that stands still stops nobody."""

    async def test(app: App) -> None:
        queue, most = app.topics[0].queue, 0

        async def agent() -> None:
            while True:
                await queue.get()
                await asyncio.sleep(0)

        agents = asyncio.create_task(agent()) if takes else None
        for number in range(200):
            await app.hand_on(queue.put(number))
            most = max(most, queue.qsize())
        assert most <= PILE + 1 if takes else most == 200
        if agents is not None:
            agents.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await agents

    assert TURNS > 1  # else an agent that fell behind would never catch up
    running(test)


def test_other_waits_are_left_to_faust() -> None:
    """With a limit of time, or another number of things to wait for."""

    async def test(app: App) -> None:
        found = await app.consumer.wait_first(asyncio.Event().wait(), asyncio.Event().wait(), timeout=0.01)
        assert not found.done
        event = asyncio.Event()
        event.set()
        assert (await app.consumer.wait_first(event.wait())).results == [True]

    running(test)
