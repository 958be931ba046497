"""Alignment where a sensor's clock was ahead: its next stream begins before the last one ended, and is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.align import AlignEstimate, AlignTrack
from pipeline.messages import NS, Anchor, Feature, Message, Span, Stream
from tests.operators.pieces import cuts, gap, segments, stream, tail
from tests.operators.test_align import PAIR, START, Scene, facts, features

DAY, HOUR = 86_400, 3600
MIC, ACC = stream(2000, sensor="mic"), stream(1000, "m/s2", sensor="acc", modality="vibration")
X = Scene(40, seed=3)
HEARD = {"mic": X.heard(2000, 40, 0, 20), "acc": X.heard(1000, 40, 0.012, 20)}
"""What both hear of one scene of 40 s."""


def said(source: Stream, epoch: int, at_s: float, to_s: float, ahead_s: float, at: list[int]) -> list[Message]:
    """A stream of some seconds of the scene, by a clock that is ahead, cut at these samples."""
    hz = round(source.rate.hz)
    first, last = round(at_s * hz), round(to_s * hz)
    anchor = Anchor(0, START + first * NS // hz + round(ahead_s * NS))
    return [*segments(replace(source, epoch=epoch), HEARD[source.sensor][first:last], at, anchor=anchor)]


def mixed(first: list[Message], second: list[Message], order: list[bool]) -> list[Message]:
    """Two sensors' messages, each one's in order."""
    a, b = list(first), list(second)
    taken = [source.pop(0) for take_first in order if (source := a if take_first and a else b or a)]
    return [*taken, *a, *b]


BOX = (((0.0, 7.3), (9.2, 15.0)), ((0.3, 8.1), (8.7, 15.0)))
"""When the streams of two sensors of one box, whose clock was ahead, begin and end."""


def box(first: list[int], second: list[int], order: list[bool], ahead_s: float) -> list[Message]:
    """Two streams of both sensors; the first ones by a clock that was ahead."""
    sensors = []
    for source, streams, at in ((MIC, BOX[0], first), (ACC, BOX[1], second)):
        sensors.append(
            [m for e, (t0, t1) in enumerate(streams) for m in said(source, e, t0, t1, (1 - e) * ahead_s, at)]
        )
    return mixed(sensors[0], sensors[1], order)


def alone(first: list[int], second: list[int], order: list[bool], ahead_s: float) -> list[Message]:
    """The microphone's clock alone was ahead."""
    mic = [*said(MIC, 0, 0.0, 7.3, ahead_s, first), *said(MIC, 1, 9.2, 15.0, 0.0, first)]
    return mixed(mic, said(ACC, 0, 0.3, 15.0, 0.0, second), order)


def ends(estimates: list[Feature], complete: bool = True) -> list[float]:
    """When windows ended, in seconds of the scene."""
    return [(f.t_end_ns - START) / NS for f in estimates if f.complete is complete]


@pytest.mark.parametrize("ahead_s", [300, HOUR, DAY, 70 * 365 * DAY])
def test_new_streams_are_compared_from_their_first_windows(ahead_s: int) -> None:
    """However far the box was ahead: first all windows of then, after them all of now."""
    found = features(AlignEstimate("m", PAIR), box([], [], [], ahead_s))
    then = [ahead_s + t for t in (3, 4, 5, 6, 7)]
    assert ends(found) == [*then, 12, 13, 14, 15]
    assert all(abs(f.values["offset_ms"] - 12) < 3 for f in found if f.complete)
    tracked = features(AlignTrack(), found)
    assert ends(tracked) == ends(found)
    assert tracked[-1].values["estimates"] == 4


@pytest.mark.parametrize("ahead_s", [HOUR, DAY])
def test_one_clock_that_was_ahead(ahead_s: int) -> None:
    """Nothing can be compared until it is set back; then all can, as far as two minutes have it."""
    found = features(AlignEstimate("m", PAIR), alone([], [], [], ahead_s))
    assert ends(found) == [12, 13, 14, 15]
    assert min(ends(found, complete=False)) > ahead_s
    assert ends(features(AlignTrack(), found)) == [12, 13, 14, 15]


@settings(max_examples=15, deadline=None)
@given(
    cuts(14_000), cuts(7000), st.lists(st.booleans(), max_size=50), st.integers(0, 30), st.sampled_from([box, alone])
)
def test_interleaving_chunking_and_a_rebuild_change_no_bit(
    first: list[int], second: list[int], order: list[bool], after: int, made: Callable[..., list[Message]]
) -> None:
    """The sensors' new streams come before, among or behind the other's old one."""
    plain = features(AlignEstimate("m", PAIR), made([], [], [], DAY))
    messages = made(first, second, order, DAY)
    operator = AlignEstimate("m", PAIR)
    done, needs = features(operator, messages[:after]), operator.needs_from()
    rest = features(operator, messages[after:])
    assert facts([*done, *rest]) == facts(plain)
    known = {m.stream.key for m in messages[:after]}
    over = dict.fromkeys(known - needs.keys(), 1 << 60)  # a stream of which nothing is needed is not read again
    assert facts(features(AlignEstimate("m", PAIR), tail(messages, {**over, **needs}))) == facts(rest)


def silent(epoch: int, from_s: int, to_s: int) -> list[Message]:
    """Marks of the microphone, by the right clock."""
    mic, anchor = replace(MIC, epoch=epoch), Anchor(0, START)
    return [gap(mic, 2000 * n, 2000 * (n + 1), "silent", anchor) for n in range(from_s, to_s)]


END = gap(ACC, 5000, 5000, "end", Anchor(0, START + DAY * NS))


@pytest.mark.parametrize(
    ("other", "compared", "told"),
    [
        ([], [], {0, 1}),
        ([*said(ACC, 0, 0, 5, DAY, []), END], [2, 3, 4, 5], {0, 1}),
        (said(ACC, 0, 0, 15, 2 * DAY, []), [], set()),
    ],
)
def test_two_minutes_bound_what_is_kept(other: list[Message], compared: list[int], told: set[int]) -> None:
    """A sensor begins anew while nobody speaks for the other one: not begun, ended, or a day further ahead."""
    operator = AlignEstimate("m", PAIR)
    found = features(operator, [*other, *said(MIC, 0, 0, 10, DAY, []), *said(MIC, 1, 0, 9, 0, []), *silent(1, 9, 400)])
    assert ends(found) == [DAY + t for t in compared]
    assert {span.epoch for f in found for span in f.lineage if span.sensor == "mic"} == told
    assert operator.needs_from()["mic", 1] >= 2000 * (400 - 123)


def test_what_is_needed_never_lies_further_back() -> None:
    """What was let go is not asked for again, when a sensor falls behind for good."""
    operator, needed = AlignEstimate("m", PAIR), [0]
    for message in [*said(ACC, 0, 0, 5, 0.0, []), *said(MIC, 0, 0, 5, 0.0, []), *silent(0, 5, 300)]:
        features(operator, [message])
        needed.append(operator.needs_from()["acc", 0])
    assert needed == sorted(needed) and needed[-1] == 5000


def test_the_tracker_goes_on_where_a_new_stream_begins_incomplete() -> None:
    """What is compared first of a stream that begins earlier may lack samples; what follows is not taken for old."""

    def estimate(t_s: float, epoch: int, complete: bool) -> Feature:
        values = {"offset_ms": 4.0, "peak": 0.9, "accepted": 1.0, "ambiguous": 0.0} if complete else {}
        lineage = (Span("mic", epoch, 0, 1), Span("acc", epoch, 0, 1))
        return Feature("m", PAIR, "align_estimate", START + round(t_s * NS), values, complete, lineage)

    for complete in (True, False):
        tracker = AlignTrack()
        features(tracker, [estimate(DAY + t, 0, complete) for t in range(3)])
        told = features(tracker, [estimate(t, 1, t > 1) for t in range(4)])
        assert [f.complete for f in told] == [False, False, True, True]
        assert told[-1].values["estimates"] == 2
        assert features(tracker, [estimate(DAY + 9, 0, True)]) == []
