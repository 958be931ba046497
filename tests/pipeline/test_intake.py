"""Where inputs wait: order, bounds, who is paused, and whose silence is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Resume, SourceMessage
from pipeline.intake import OVERHEAD_BYTES, Intake
from pipeline.messages import NS, Anchor, Chunk, Context, Input, Mark, Rate, Stream, machine_of
from pipeline.stages import LaneSettings
from tests.engines.scenarios import machine
from tests.memory import END, PAUSE, Cue, ScriptedDevice, ScriptedSource

T0 = 1_700_000_000 * NS
RATE = 1000


def stream(machine: str, epoch: int = 0) -> Stream:
    """A sensor of 1 kHz."""
    return Stream(machine, "s", epoch, "vibration", Rate(RATE), 1, "<i2", "m/s2")


def chunk(machine: str, n0: int, n: int = 100, epoch: int = 0) -> Chunk:
    """A tenth of a second."""
    return Chunk(stream(machine, epoch), Anchor(0, T0), n0, n0 // n, np.zeros((n, 1), "<i2"))


SIZE = chunk("a", 0).nbytes + OVERHEAD_BYTES


def of(message: Input | None) -> str:
    """Whose it is."""
    return "" if message is None else machine_of(message)


class Tap:
    """A recording that gives a chunk whenever it is asked, and counts."""

    rereadable = True

    def __init__(self, machine: str, start: int = 0) -> None:
        self.machine, self.n, self.asked = machine, start, 0

    def open(self, resume: object, now_ns: int) -> Sequence[Stream]:
        """Nothing to do."""
        return []

    def poll(self, now_ns: int) -> list[Chunk]:
        """The next tenth of a second."""
        self.asked += 1
        self.n += 100
        return [chunk(self.machine, self.n - 100)]

    def wake_ns(self, now_ns: int) -> int:
        """At once."""
        return now_ns

    exhausted = False

    def close(self) -> None:
        """Nothing to close."""


def test_the_furthest_behind_comes_first() -> None:
    """Sources are merged by event time, each in its own order."""
    a = ScriptedSource([], [chunk("a", n) for n in (0, 100, 200, 300)])
    b = ScriptedSource([], [Context("b", "tool", T0 + 150_000_000, "7"), chunk("b", 100)])
    intake = Intake([a, b], 10**6)
    intake.open({}, T0)
    intake.poll(T0)
    assert intake.waiting_bytes == 5 * SIZE + OVERHEAD_BYTES
    assert [of(intake.take()) for _ in range(7)] == ["a", "b", "a", "b", "a", "a", ""]
    assert intake.waiting_bytes == 0
    assert intake.exhausted


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=5),
    st.integers(1, 20),
    st.lists(st.booleans(), min_size=1, max_size=200),
)
def test_what_waits_is_bounded_and_the_furthest_behind_is_never_starved(
    starts: list[int], room: int, takes: list[bool]
) -> None:
    """Whatever the others have waiting: what comes next is always what lies furthest back over all sources."""
    taps = [Tap(str(k), 100 * start) for k, start in enumerate(starts)]
    due = {tap.machine: tap.n for tap in taps}
    intake = Intake(taps, room * SIZE)
    intake.open({}, T0)
    for k, take in enumerate(takes, 1):
        intake.poll(T0 + k)
        assert intake.waiting_bytes <= (room + len(taps)) * SIZE
        if take:
            message = intake.take()
            assert isinstance(message, Chunk)
            assert message.n0 == due[of(message)] == min(due.values())
            due[of(message)] += 100


def test_a_source_far_ahead_pauses_and_the_one_behind_goes_on() -> None:
    """With the limit reached, only the one that has nothing waiting is asked."""
    ahead, behind = Tap("ahead", 1_000_000), Tap("behind", 0)
    intake = Intake([ahead, behind], 10 * SIZE)
    intake.open({}, T0)
    order = []
    for k in range(1, 200):
        intake.poll(T0 + k)
        order.append(of(intake.take()))
    assert set(order) == {"behind"}
    assert behind.asked == pytest.approx(199, abs=12)
    assert ahead.asked <= 12
    assert intake.counts["source.paused"] > 0
    assert intake.waiting_bytes <= 12 * SIZE


def test_small_messages_are_bounded_too() -> None:
    """A chunk of one sample takes far more memory than two bytes."""
    source = ScriptedSource([], [m for n in range(1000) for m in (chunk("a", n, 1), PAUSE)])
    intake = Intake([source], 100_000)
    intake.open({}, T0)
    for k in range(1000):
        intake.poll(T0 + k)
    assert 100_000 <= intake.waiting_bytes < 102_000


def live(script: Sequence[SourceMessage | Cue], **more: object) -> tuple[ScriptedDevice, Intake]:
    """A device and its intake, open."""
    device = ScriptedDevice([], script)
    intake = Intake([device], **{"queue_bytes": 10**6, **more})  # type: ignore[arg-type]
    intake.open({}, T0)
    return device, intake


def drained(intake: Intake) -> list[Input]:
    """Everything that waits."""
    out = []
    while (message := intake.take()) is not None:
        out.append(message)
    return out


def test_a_silent_device_gets_a_mark_after_two_seconds_and_then_every_second() -> None:
    """Each begins where the one before ended, and stays a second behind the clock."""
    _, intake = live([chunk("a", 0), *[PAUSE] * 1000])
    spans = []
    for tenth in range(1, 61):
        intake.poll(T0 + tenth * NS // 10)
        spans += [(m.n0, m.n1, tenth) for m in drained(intake) if isinstance(m, Mark)]
    assert spans[0][0] == 100
    assert 2.0 <= spans[0][2] / 10 <= 2.4
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert all(tenth * 100 - n1 == pytest.approx(1000, abs=1) for _, n1, tenth in spans)
    assert len(spans) == 4
    assert intake.counts["mark.silent"] == 4


def test_a_stream_that_has_ended_is_not_silent() -> None:
    """Nothing is expected of it."""
    ended = Mark(stream("a"), Anchor(0, T0), 100, 100, "end")
    _, intake = live([chunk("a", 0), ended, *[PAUSE] * 1000])
    for tenth in range(100):
        intake.poll(T0 + tenth * NS // 10)
    assert [type(m).__name__ for m in drained(intake)] == ["Chunk", "Mark"]


def test_a_device_that_is_paused_is_not_silent() -> None:
    """What it has waits to be asked for: a mark would make it late."""
    device, intake = live([chunk("a", 0), PAUSE, *[m for n in range(1, 100) for m in (chunk("a", 100 * n), PAUSE)]],
                          queue_bytes=3 * SIZE)  # fmt: skip
    for tenth in range(100):
        intake.poll(T0 + tenth * NS // 10)
    assert {type(m) for m in drained(intake)} == {Chunk}
    assert intake.counts["mark.silent"] == 0
    assert not device.exhausted


def test_a_recording_is_never_silent() -> None:
    """Its time is not the clock's."""
    source = ScriptedSource([], [chunk("a", 0), *[PAUSE] * 1000])
    intake = Intake([source], 10**6)
    intake.open({}, T0)
    for tenth in range(100):
        intake.poll(T0 + tenth * NS // 10)
    assert len(drained(intake)) == 1


def test_two_machines_on_one_device_are_watched_apart() -> None:
    """Sensors of the same name on different machines."""
    script = [chunk("a", 0), chunk("b", 0), *[m for n in range(1, 60) for m in (PAUSE, chunk("b", 100 * n))]]
    _, intake = live(script)
    out = []
    for tenth in range(1, 50):
        intake.poll(T0 + tenth * NS // 10)
        out += drained(intake)
    assert {of(m) for m in out if isinstance(m, Mark)} == {"a"}


def test_read_again_from_where_a_shard_had_come() -> None:
    """The machines of a dead shard only; those that share the source keep what waits and go on behind it."""
    script = [m for n in range(0, 1000, 100) for m in (chunk("a", n), chunk("b", n))]
    source = ScriptedSource([], [*script[:10], PAUSE, *script[10:], END])
    device = ScriptedDevice([], [chunk("c", n) for n in range(0, 500, 100)])
    intake = Intake([source, device], 10**7)
    intake.open({}, T0)
    intake.poll(T0)
    first = [m for m in (intake.take() for _ in range(6)) if isinstance(m, Chunk)]
    assert [(m.stream.machine, m.n0) for m in first] == [
        ("a", 0), ("c", 0), ("b", 0), ("c", 100), ("a", 100), ("b", 100),
    ]  # fmt: skip
    places = {("a", "s"): Resume(0, Anchor(0, T0), 50), ("b", "s"): Resume(0, Anchor(0, T0), 100)}
    intake.reopen({"a"}, places, T0)
    for k in range(5):
        intake.poll(T0 + k)
    rest = [m for m in drained(intake) if isinstance(m, Chunk)]
    by = {name: [(m.n0, m.n1) for m in rest if m.stream.machine == name] for name in "abc"}
    assert by["a"] == [(50, 100), *((n, n + 100) for n in range(100, 1000, 100))]
    assert by["b"] == [(n, n + 100) for n in range(200, 1000, 100)]
    assert by["c"] == [(n, n + 100) for n in range(200, 500, 100)]
    assert intake.waiting_bytes == 0


def test_after_a_shard_died_what_waits_still_comes_by_event_time() -> None:
    """What of a source is forgotten no longer says when its turn is; who is named nowhere is read from its start."""
    shared = ScriptedSource([], [chunk("a", 0), chunk("b", 600), END])
    taps = [Tap(name, 100 * number) for number, name in enumerate("fedc", 1)]  # at 100 to 400
    device = ScriptedDevice([], [chunk("a", 500)])
    intake = Intake([shared, *taps, device], 10**7)
    intake.open({}, T0)
    intake.poll(T0)
    intake.reopen({"a"}, {}, T0)
    assert [of(intake.take()) for _ in range(6)] == [*"fedc", "a", "b"]
    assert (len(device.opened), len(shared.opened)) == (1, 2)  # a device just goes on
    intake.poll(T0 + 1)
    again = [m for m in drained(intake) if of(m) == "a"]
    assert [(m.n0, m.n1) for m in again if isinstance(m, Chunk)] == [(0, 100)]


def test_a_device_that_was_opened_again_is_told_its_newest_stream() -> None:
    """Not the one that the engine had found at its start."""
    script: list[SourceMessage | Cue] = [chunk("a", 0, epoch=4), PAUSE]
    device = ScriptedDevice([], script)
    intake = Intake([device], 10**6)
    intake.open({("a", "s"): Resume(3, Anchor(0, T0), 50)}, T0)
    intake.poll(T0)
    device.close()  # now `poll` raises
    intake.poll(T0 + NS)
    assert intake.errors() == ["the scripted source is not open"]
    intake.poll(T0 + 7 * NS)
    assert [{k: r.epoch for k, r in opened.items()} for opened in device.opened] == [
        {("a", "s"): epoch} for epoch in (3, 4)
    ]
    assert intake.errors() == []
    assert replace(stream("a"), epoch=4) == stream("a", 4)


def test_a_trouble_that_sources_share_is_told_once() -> None:
    """Such as that of the broker of their fast lanes."""

    class Sharing(ScriptedSource):
        trouble = "the broker is away"

    intake = Intake([Sharing([], []), Sharing([], [])], 10**6)
    intake.open({}, T0)
    assert intake.errors() == ["the broker is away"]


def test_a_place_before_the_first_stream_is_none() -> None:
    """An older state may know a sensor that was never heard of: its first stream begins at its start."""
    source = ScriptedSource([], [])
    places = {("a", "s"): Resume(-1, Anchor(0, T0), 50), ("b", "s"): Resume(0, Anchor(0, T0), 7)}
    Intake([source], 10**6).open(places, T0)
    assert [list(opened) for opened in source.opened] == [[("b", "s")]]


class Stubborn(ScriptedDevice):
    """Cannot even be closed; says how often it was asked to."""

    def __init__(self) -> None:
        super().__init__([], [chunk("a", 0), PAUSE])
        self.closed = 0

    def close(self) -> None:
        """Never."""
        self.closed += 1
        raise ValueError("it is stuck")


def test_a_source_that_fails_is_closed_whatever_that_leads_to() -> None:
    """Its device may be held by what is left of it; the others go on."""
    stuck, other = Stubborn(), ScriptedDevice([], [chunk("b", 0), chunk("b", 100), *[PAUSE] * 9])
    intake = Intake([stuck, other], 10**6)
    intake.open({}, T0)
    intake.poll(T0)
    stuck.is_open = False  # now `poll` raises
    intake.poll(T0 + NS)
    assert stuck.closed == 1 and intake.counts["source.failed"] == 1
    intake.close()
    assert stuck.closed == 2 and not other.is_open
    assert [of(message) for message in drained(intake)] == ["a", "b", "b"]


def test_a_source_that_has_ended_is_closed_and_not_asked_again() -> None:
    """It holds its file or its device no longer."""
    source = ScriptedSource([], [chunk("a", 0)])
    intake = Intake([source], 10**6)
    assert not intake.exhausted
    intake.open({}, T0)
    intake.poll(T0)
    assert not source.is_open and not intake.exhausted
    intake.poll(T0 + 60 * NS)
    assert len(source.opened) == 1
    drained(intake)
    assert intake.exhausted


def test_what_cannot_be_read_again_is_taken_while_the_rest_waits() -> None:
    """At the end of a run: what devices said, and of whom nothing was heard; by event time."""
    tape = ScriptedSource([], [chunk("tape", 0)])
    devices = [ScriptedDevice([], [chunk(name, n) for n in starts]) for name, starts in
               (("b", (300, 700)), ("c", (200, 600)), ("d", (100, 500)), ("e", (50, 400)))]  # fmt: skip
    absent = LaneSettings(machine(Stream("m", "acc", 0, "vibration", Rate(RATE), 1, "<f4", "m/s2")))
    intake = Intake([tape, *devices], 10**6, [absent])
    intake.open({}, T0)
    intake.poll(T0)
    intake.poll(T0 + 60 * NS)
    taken = []
    while (message := intake.take(live=True)) is not None:
        taken.append(message)
    assert [of(message) for message in taken if isinstance(message, Chunk)] == [*"edcbedcb"]
    assert [of(message) for message in taken if isinstance(message, Mark) and message.reason == "abandoned"] == ["m"]
    assert intake.counts["mark.abandoned"] == 1
    assert [of(message) for message in drained(intake)] == ["tape"]
