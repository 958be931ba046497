"""What a consumer passes over is noticed and fetched again; what the log does not have is not waited for."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import codec
from pipeline.kafka import continuity
from pipeline.kafka.continuity import AGAIN_S, BACKLOG_S, SILENT_S, Continuity
from pipeline.kafka.faust_flow import Unread
from pipeline.kafka.part import UNKNOWN_BEGIN, Part
from tests.kafka.plant import PATIENCE_S, Running, plant
from tests.servers.kafka import KafkaServer

T = TP("raw.acoustic", 0)


class Log:
    """A partition's log, what a consumer delivers of it, and the check between it and a part.

    Args:
        offsets: at which there are messages.
        end: behind the last offset.
        begin: the oldest that retention has left.
    """

    def __init__(self, offsets: list[int], end: int = 0, begin: int = 0, expect: int = UNKNOWN_BEGIN) -> None:
        self.offsets, self.end, self.begin = offsets, end or offsets[-1] + 1, begin
        self.counts: Counter[str] = Counter()
        self.sought: list[int] = []
        self.asked = 0
        self.error: Exception | None = None
        self.part = Part(0, 1, 0, {})
        self.part.resume(1, {"raw.acoustic": expect})
        self.check = Continuity({"raw.acoustic": "raw.acoustic"}, self, self.counts, self._seek)  # type: ignore[arg-type]

    def _seek(self, tp: TP, offset: int) -> None:
        assert tp == T
        self.sought.append(offset)

    async def beginning(self, topic: str, partition: int) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.begin

    async def first(self, topic: str, partition: int, offset: int) -> int | None:
        return next((o for o in self.offsets if o >= max(offset, self.begin)), None)

    async def close(self) -> None:
        return None

    def holds(self, *offsets: int) -> list[bool]:
        """Deliver messages."""

        async def deliver() -> list[bool]:
            return [
                await self.check.holds(self.part, SimpleNamespace(topic=T.topic, partition=0, offset=o))
                for o in offsets
            ]

        return asyncio.run(deliver())

    def chase(self, *paused: TP) -> None:
        asyncio.run(self.check.chase([self.part], lambda _tp: self.end, paused))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time as the check sees it."""
    made = SimpleNamespace(s=100.0)
    monkeypatch.setattr(continuity, "time", SimpleNamespace(monotonic=lambda: made.s))
    return made


@pytest.mark.parametrize("expect", [UNKNOWN_BEGIN, 0])
def test_messages_in_order_ask_nobody(expect: int) -> None:
    """Neither of a new group nor of one that goes on."""
    log = Log(list(range(5)), expect=expect)
    assert log.holds(0, 1, 1, 0, 2, 3, 4) == [True, True, False, False, True, True, True]
    assert log.asked == 0


@pytest.mark.parametrize("expect", [UNKNOWN_BEGIN, 0])
def test_what_was_left_out_is_fetched_once(expect: int, clock: SimpleNamespace) -> None:
    """The messages that are still on their way neither ask nor seek again, until it takes too long."""
    log = Log(list(range(9)), expect=expect)
    assert log.holds(3, 4, 5, 6) == [False] * 4
    assert log.sought == [0] and log.asked == 1
    clock.s += AGAIN_S
    assert log.holds(7, 8) == [False] * 2
    assert log.sought == [0, 0] and log.counts == {"sought": 2}
    assert log.holds(*range(9)) == [True] * 9


def test_offsets_without_messages_are_passed() -> None:
    """A transaction leaves a mark in the log that no consumer delivers."""
    log = Log([0, 1, 3, 4, 6], end=8, expect=0)
    assert log.holds(0, 1, 3, 4, 6) == [True] * 5
    assert not log.sought and not log.counts
    log.part.expect["raw.acoustic"] = 2
    assert log.holds(4) == [False] and log.sought == [3], "message 3 was left out, beside the mark at 2"


@pytest.mark.parametrize("expect", [5, UNKNOWN_BEGIN])
def test_a_log_that_ends_without_messages_is_read_to_its_end(expect: int, clock: SimpleNamespace) -> None:
    """A transaction's mark at the end, or a log that was emptied: nobody waits for what is not there."""
    log = Log([0] if expect == 5 else [], end=6, begin=0 if expect == 5 else 6, expect=expect)
    log.chase()
    clock.s += SILENT_S + 1
    log.chase()
    assert log.part.upto("raw.acoustic") == 6 and not log.sought
    log.offsets, log.end = [6], 7
    assert log.holds(6) == [True]


def test_what_retention_has_removed_is_counted_once(clock: SimpleNamespace) -> None:
    """And what it has left is not given up with it."""
    log = Log(list(range(20)), begin=7, expect=3)
    assert log.holds(9, 10) == [False, False]
    assert log.counts == {"lost_retention": 4, "sought": 1} and log.sought == [7]
    assert log.holds(*range(7, 20)) == [True] * 13
    all_gone = Log(list(range(20)), begin=20, expect=3)
    for _ in range(5):
        all_gone.chase()
        clock.s += SILENT_S
    assert all_gone.counts == {"lost_retention": 17} and not all_gone.sought


def test_a_new_group_on_an_old_log_has_lost_nothing() -> None:
    """It begins with what is there."""
    log = Log(list(range(20)), begin=7)
    assert log.holds(7, 8) == [True, True] and not log.counts
    log = Log(list(range(20)), begin=7)
    assert log.holds(9) == [False] and log.sought == [7]


def test_the_last_messages_of_a_silent_topic_are_chased(clock: SimpleNamespace) -> None:
    """Nothing comes behind them that would tell; not while the topic is paused, nor for ever where there is nothing."""
    log = Log([0, 1, 2, 3], end=5, expect=2)
    for _ in range(4):
        log.chase(T)
        clock.s += SILENT_S
    assert not log.sought
    log.chase()
    clock.s += SILENT_S
    log.chase()
    assert log.sought == [2]
    assert log.holds(2, 3) == [True, True]
    asked = log.asked
    for _ in range(6):
        log.chase()
        clock.s += SILENT_S
    assert log.sought == [2] and log.asked == asked + 1, "offset 4 is no message"
    log.offsets, log.end = [0, 1, 2, 3, 5], 6
    log.chase()
    clock.s += SILENT_S
    log.chase()
    assert log.sought == [2, 5]


def test_a_topic_that_waits_its_turn_in_a_backlog_is_left_alone(clock: SimpleNamespace) -> None:
    """Until it is half a minute."""
    log = Log(list(range(5000)), expect=0)
    for _ in range(round(BACKLOG_S / SILENT_S)):
        log.chase()
        clock.s += SILENT_S
    assert log.asked == 0
    log.chase()
    assert log.sought == [0]


@pytest.mark.parametrize("error", [KafkaError("away"), OSError("away"), TimeoutError()])
def test_brokers_that_do_not_answer_are_asked_again(error: Exception, clock: SimpleNamespace) -> None:
    """Until then nothing is taken in."""
    log = Log(list(range(5)), expect=1)
    log.error = error
    assert log.holds(3) == [False] and not log.sought
    log.error = None
    assert log.holds(4) == [False] and log.sought == [1]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_whatever_is_passed_over_everything_comes_once_and_in_order(seed: int, fresh: bool) -> None:
    """A consumer that jumps as it likes, and goes back when it is told."""
    rng = random.Random(seed)
    offsets = sorted(rng.sample(range(60), 40))
    start = rng.choice(offsets)
    log = Log(offsets, end=60, begin=start if fresh else 0, expect=UNKNOWN_BEGIN if fresh else start)
    wanted = [offset for offset in offsets if offset >= start]
    taken: list[int] = []
    at, told = start, 0
    while taken != wanted:
        if len(log.sought) > told:
            told, at = len(log.sought), log.sought[-1]
        coming = [o for o in offsets if o >= at]
        if coming and rng.random() < 0.9:
            coming = coming[rng.choice([0, 0, 0, 0, 1, 2]) :]  # some are passed over
        if coming:
            at = coming[0] + 1
            taken += [coming[0]] if log.holds(coming[0])[0] else []
        else:
            log.check._heard[T] = -SILENT_S
            log.check._sought.clear()
            log.chase()
        assert taken == wanted[: len(taken)]


def test_faust_drops_nothing_as_known() -> None:
    """Its newest offset is set behind a delivery, also where that made us go back."""
    offsets: Any = Unread()
    offsets[T] = 7
    offsets.update({T: 9})
    assert offsets[T] is None and offsets.pop(T) == 9 and offsets[T] is None


def test_a_connector_that_writes_in_transactions(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Of one's own, or of another product: every commit takes an offset that no consumer sees."""
    with Running(plant(1, 6.0, False), broker, tmp_path, prefix) as running:

        async def publish() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"{prefix}feed")
            await producer.start()
            messages = running.plant.messages
            for first in range(0, len(messages), 20):
                async with producer.transaction():
                    for message in messages[first : first + 20]:
                        headers, value = codec.encode(message)
                        topic = running.client.topic(codec.topic_of(message))
                        await producer.send(topic, value, key=codec.key_of(message), headers=headers)
            await producer.stop()

        running.start("w0")
        running.wait_ready("w0")
        asyncio.run(publish())
        assert len(running.plant.expected) > 10
        until = time.monotonic() + PATIENCE_S
        while {record.id for record in running.plant.expected} - {record.id for record in running.results()}:
            assert time.monotonic() < until, running.log()
        assert running.journal() == running.expected
