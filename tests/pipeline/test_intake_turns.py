"""When the intake asks whom, what leaves it before its turn, and of which stream it tells that it is silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.intake import Intake
from pipeline.messages import NS, Chunk, Mark, Stream
from tests.memory import PAUSE, ScriptedDevice
from tests.pipeline.test_intake import SIZE, T0, Tap, chunk, drained, live


@pytest.mark.parametrize("seed", range(10))
def test_what_devices_said_leaves_the_rest_in_its_order(seed: int) -> None:
    """Whatever is taken before its turn, what waits on still comes by event time."""
    rng = np.random.default_rng(seed)
    taps = [Tap(str(k), 100 * int(start)) for k, start in enumerate(rng.permutation(20))]
    for tap in taps[::2]:
        tap.rereadable = False
    intake = Intake(taps, 10**6)
    intake.open({}, T0)
    intake.poll(T0)
    for _ in range(6):
        intake.take(live=True)
    rest = [message.t1_ns for message in drained(intake)]
    assert len(rest) == 14 and rest == sorted(rest)


class Later(Tap):
    """Has more after a while; notes whether it is open."""

    def __init__(self, machine: str, after_ns: int) -> None:
        super().__init__(machine)
        self.after_ns, self.log = after_ns, list[str]()

    def open(self, resume: object, now_ns: int) -> Sequence[Stream]:
        """Note it."""
        self.log.append("open")
        return []

    def wake_ns(self, now_ns: int) -> int:
        """After that while."""
        return now_ns + self.after_ns

    def close(self) -> None:
        """Note it."""
        self.log.append("close")


@pytest.mark.parametrize("after_ns", [0, NS])
def test_a_source_that_is_read_again_is_closed_before_and_asked_once(after_ns: int) -> None:
    """Two handles on one file, or twice as much at each turn, are one too many; it may have been due or paused."""
    source = Later("a", after_ns)
    intake = Intake([source], 10**6)
    intake.open({}, T0)
    intake.poll(T0)
    intake.reopen({"a"}, {}, T0)
    assert source.log == ["open", "close", "open"]
    intake.poll(T0 + 1)
    assert source.asked == 2
    intake.poll(T0 + 1 + NS)
    assert source.asked == 3


def test_the_engine_sleeps_until_the_first_source_has_more() -> None:
    """Not at all while one is paused; a second where nobody says anything."""
    intake = Intake([Later("a", 3 * NS), Later("b", 2 * NS)], 10**6)
    assert intake.wake_ns(T0) == T0 + NS
    intake.open({}, T0)
    intake.poll(T0)
    assert intake.wake_ns(T0) == T0 + 2 * NS
    intake = Intake([Tap("a")], 10**6)
    intake.open({}, T0)
    intake.poll(T0)
    assert intake.wake_ns(T0 + 5) == T0 + 5


def test_a_source_that_is_due_and_has_nothing_is_asked_once_at_a_time() -> None:
    """It must not hold up the others by saying so for ever."""
    _, intake = live([PAUSE, PAUSE, chunk("a", 0), PAUSE])
    found = []
    for k in range(3):
        intake.poll(T0 + k)
        found.append(len(drained(intake)))
    assert found == [0, 0, 1]


def test_a_device_that_was_paused_once_is_told_silent_later() -> None:
    """Once there is room again, it is asked, and says nothing."""
    _, intake = live([chunk("a", 0), PAUSE, *[PAUSE] * 1000], queue_bytes=SIZE - 1)
    intake.poll(T0)
    intake.poll(T0 + NS // 10)
    assert intake.counts["source.paused"] == 1
    drained(intake)
    for tenth in range(2, 40):
        intake.poll(T0 + tenth * NS // 10)
    assert any(isinstance(message, Mark) for message in drained(intake))


def test_marks_are_of_the_newest_stream() -> None:
    """The one before is over: what is told of it would come too late."""
    _, intake = live([chunk("a", 0), chunk("a", 0, epoch=1), *[PAUSE] * 1000])
    for tenth in range(60):
        intake.poll(T0 + tenth * NS // 10)
    assert {message.stream.epoch for message in drained(intake) if isinstance(message, Mark)} == {1}


def test_a_device_whose_clock_is_behind_is_not_silent_while_it_speaks() -> None:
    """Its time is compared with its own; the engine's clock only says how long nothing came."""
    first = chunk("a", 0)
    _, intake = live([m for n in range(0, 6000, 100) for m in (replace(first, n0=n), PAUSE)])
    for tenth in range(50):
        intake.poll(T0 + 3600 * NS + tenth * NS // 10)
    assert {type(message) for message in drained(intake)} == {Chunk}


def test_what_devices_count_is_told_once() -> None:
    """Over all of them, and not anew at each look."""

    class Counting(ScriptedDevice):
        counters = {"overrun": 3}  # noqa: RUF012 - of a test

    intake = Intake([Counting([], [PAUSE] * 100), Counting([], [PAUSE] * 100)], 10**6)
    intake.open({}, T0)
    for second in range(5):
        intake.poll(T0 + second * NS)
    assert intake.counts["device.overrun"] == 6
