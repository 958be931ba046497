"""Sequence and Rewindow: bad streams in, consecutive samples and honest gaps out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.rewindow import Rewindow, Sequence
from pipeline.messages import NS, Anchor, Chunk, Gap, Late, Mark, Message, Rate, Segment, Stream, Window

STREAM = Stream("m", "s", 0, "vibration", Rate(1000), 1, "<i2", "m/s2", 0.5)
ANCHOR = Anchor(0, 1_000)


def chunk(n0: int, n1: int, anchor: Anchor = ANCHOR) -> Chunk:
    """Samples whose count is their index."""
    return Chunk(STREAM, anchor, n0, 0, np.arange(n0, n1, dtype="<i2")[:, None])


def run(*messages: Message) -> list[Message]:
    """What a fresh sequence makes of the messages."""
    sequence = Sequence(STREAM)
    return [out for message in messages for out in sequence.process(message)]


def describe(messages: list[Message]) -> list[tuple[object, ...]]:
    """Type, range and reason of each message, segments checked against their indices."""
    rows: list[tuple[object, ...]] = []
    for m in messages:
        if isinstance(m, Segment):
            assert np.array_equal(m.x[:, 0], np.arange(m.n0, m.n1) * np.float32(0.5))
            rows.append(("segment", m.n0, m.n1))
        elif isinstance(m, Gap | Late):
            rows.append((type(m).__name__.lower(), m.n0, m.n1, m.reason))
    return rows


def test_gap_duplicate_overlap_and_late() -> None:
    """Each fault of a stream has its own name."""
    got = describe(run(chunk(0, 10), chunk(20, 30), chunk(20, 30), chunk(25, 35), chunk(10, 20), chunk(35, 36)))
    assert got == [
        ("segment", 0, 10),
        ("gap", 10, 20, "gap"),
        ("segment", 20, 30),
        ("late", 20, 30, "duplicate"),
        ("late", 25, 30, "overlap"),
        ("segment", 30, 35),
        ("late", 10, 20, "late"),
        ("segment", 35, 36),
    ]


def test_samples_behind_their_mark_are_late() -> None:
    """What a mark has given up stays given up."""
    got = describe(run(chunk(0, 10), Mark(STREAM, ANCHOR, 10, 50, "silent"), chunk(10, 60)))
    assert got == [
        ("segment", 0, 10), ("gap", 10, 50, "silent"), ("late", 10, 50, "late"), ("segment", 50, 60),
    ]  # fmt: skip


def test_an_empty_chunk_is_counted() -> None:
    """Nothing is a message too."""
    assert describe(run(chunk(5, 5))) == [("late", 5, 5, "empty")]


@pytest.mark.parametrize(
    ("anchor", "reason"),
    [(Anchor(10, 1_000), "time_backwards"), (Anchor(10, 1_000 + 10 * 10**6 + 2 * NS), "clock_jump")],
)
def test_an_anchor_that_bends_time_is_refused(anchor: Anchor, reason: str) -> None:
    """Time never runs backwards, and a step of the clock is a new stream."""
    got = describe(run(chunk(0, 10), chunk(10, 20, anchor), chunk(20, 30)))
    assert got == [("segment", 0, 10), ("late", 10, 20, reason), ("gap", 10, 20, "gap"), ("segment", 20, 30)]


def test_a_new_anchor_within_drift_is_taken() -> None:
    """100 µs in ten samples of a millisecond is drift."""
    got = run(chunk(0, 10), chunk(10, 20, Anchor(10, 1_000 + 10 * 10**6 + 100_000)))
    assert describe(got) == [("segment", 0, 10), ("segment", 10, 20)]


def test_not_a_number_is_a_missing_sample() -> None:
    """Infinite and undefined samples become a gap of their own length."""
    stream = Stream("m", "s", 0, "vibration", Rate(1000), 1, "<f4", "m/s2")
    x = np.arange(10, dtype=np.float32)[:, None]
    x[3:5] = np.nan
    x[9] = np.inf
    got = list(Sequence(stream).process(Chunk(stream, ANCHOR, 0, 0, x)))
    rows = [(type(m).__name__, m.n0, m.n1) for m in got if isinstance(m, Segment | Gap | Late)]
    assert rows == [
        ("Segment", 0, 3), ("Late", 3, 5), ("Gap", 3, 5), ("Segment", 5, 9), ("Late", 9, 10),
    ]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12), st.lists(st.integers(0, 399), max_size=6))
def test_gaps_of_unusable_samples_do_not_depend_on_the_cut(cuts: list[int], bad: list[int]) -> None:
    """However the chunks were cut, segments and gaps cover the same samples; a second without any good one is told."""
    stream = Stream("m", "s", 0, "vibration", Rate(100), 1, "<f4", "m/s2")
    x = np.arange(400, dtype=np.float32)[:, None]
    for k in bad:
        x[k : k + 60] = np.nan
    gaps = []
    for places in ([0, 400], sorted({0, 400, *cuts})):
        sequence = Sequence(stream)
        got = [m for lo, hi in pairwise(places) for m in sequence.process(Chunk(stream, ANCHOR, lo, 0, x[lo:hi]))]
        gaps.append([(m.n0, m.n1) for m in got if isinstance(m, Gap)])
    assert gaps[0] == gaps[1]
    told = {n for lo, hi in gaps[0] for n in range(lo, hi)}
    unusable = set(np.flatnonzero(np.isnan(x[:, 0])).tolist())
    assert told <= unusable
    assert len(unusable - told) < 100


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 40), st.booleans()), max_size=25))
def test_any_stream_comes_out_in_order_and_accounted_for(pieces: list[tuple[int, int, bool]]) -> None:
    """Segments and gaps tile the time line; every sample that came is in a segment or in a Late."""
    messages = [Mark(STREAM, ANCHOR, lo, lo + n, "silent") if mark else chunk(lo, lo + n) for lo, n, mark in pieces]
    out = run(*messages)
    at: int | None = None
    for m in out:
        if isinstance(m, Segment | Gap):
            assert at is None or m.n0 == at
            assert m.n1 > m.n0
            at = m.n1
    came = sum(n for _, n, mark in pieces if not mark)
    used = sum(m.n1 - m.n0 for m in out if isinstance(m, Segment | Late))
    assert came == used


@pytest.mark.parametrize("count", [1000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_fuzz(count: int) -> None:
    """Random chunks, marks, anchors and restarts: never an exception, always a tiling."""
    rng = np.random.default_rng(1)
    sequence, at = Sequence(STREAM), None
    for _ in range(count):
        n0, n = int(rng.integers(0, 5000)), int(rng.integers(0, 300))
        anchor = ANCHOR if rng.random() < 0.9 else Anchor(int(rng.integers(0, 5000)), int(rng.integers(0, 10**10)))
        message: Message = chunk(n0, n0 + n, anchor)
        if rng.random() < 0.1:
            message = Mark(STREAM, anchor, n0, n0 + n, "end" if rng.random() < 0.1 else "silent")
        if rng.random() < 0.01:
            sequence, at = Sequence(STREAM), None
        for m in sequence.process(message):
            if isinstance(m, Segment | Gap):
                assert at is None or m.n0 == at
                at = m.n1


def test_windows_end_where_their_last_sample_ends() -> None:
    """Window end = event time of the sample after the last one."""
    stream = Stream("m", "s", 0, "vibration", Rate(1000), 1, "<f4", "m/s2")
    window = Rewindow(stream, 10, 5)
    x = np.arange(23, dtype=np.float32)[:, None]
    out = list(window.process(Segment(stream, Anchor(0, 7), 0, x)))
    assert [(w.n0, w.n1, w.t_end_ns) for w in out if isinstance(w, Window)] == [
        (0, 10, 7 + 10 * 10**6), (5, 15, 7 + 15 * 10**6), (10, 20, 7 + 20 * 10**6),
    ]  # fmt: skip
    lost = list(window.process(Gap(stream, Anchor(0, 7), 23, 31, "gap")))
    assert [(w.n0, w.n1, w.complete) for w in lost if isinstance(w, Window)] == [(15, 40, False)]


def test_one_wrong_index_does_not_end_the_stream() -> None:
    """A chunk weeks ahead, with the right clock or a wrong one, is refused and what follows is used."""
    far = 10**12
    got = describe(run(chunk(0, 10), chunk_at(far), chunk_at(far, Anchor(0, 5 * NS)), chunk(10, 20)))
    assert got == [
        ("segment", 0, 10), ("late", far, far + 5, "clock_jump"), ("late", far, far + 5, "clock_jump"),
        ("segment", 10, 20),
    ]  # fmt: skip


def chunk_at(n0: int, anchor: Anchor = ANCHOR) -> Chunk:
    """Five samples anywhere."""
    return Chunk(STREAM, anchor, n0, 0, np.zeros((5, 1), "<i2"))


@given(st.lists(st.integers(1, 700), min_size=6, max_size=12).filter(lambda cuts: sum(cuts) > 2100))
def test_a_stream_goes_on_behind_a_hole_of_days(cuts: list[int]) -> None:
    """A second of it must agree, which is lost with the hole, wherever the chunks were cut."""
    far, sequence = 200_000_000, Sequence(STREAM)  # 55 h
    list(sequence.process(chunk(0, 10)))
    out, n0 = list[Message](), far
    for length in cuts:
        out += sequence.process(Chunk(STREAM, ANCHOR, n0, 0, np.zeros((length, 1), "<i2")))
        n0 += length
    late = [(m.n0, m.n1) for m in out if isinstance(m, Late)]
    assert late[0][0] == far and late[-1][1] == far + 1000
    assert all(one[1] == other[0] for one, other in pairwise(late))
    assert [(m.n0, m.n1) for m in out if isinstance(m, Gap)] == [(10, far + 1000)]
    segments = [(m.n0, m.n1) for m in out if isinstance(m, Segment)]
    assert segments[0][0] == far + 1000 and segments[-1][1] == n0
    assert all(one[1] == other[0] for one, other in pairwise(segments))


def test_one_long_chunk_far_ahead_is_not_enough() -> None:
    """A wrong index moves a whole chunk, however long; the next one behind it would have to be wrong as well."""
    far = 200_000_000
    long = [Chunk(STREAM, ANCHOR, far + 3000 * k, 0, np.zeros((3000, 1), "<i2")) for k in range(2)]
    alone = describe(run(chunk(0, 10), long[0], chunk(10, 20)))
    assert alone == [("segment", 0, 10), ("late", far, far + 3000, "clock_jump"), ("segment", 10, 20)]
    both = run(chunk(0, 10), *long)
    assert [(type(m).__name__, m.n0, m.n1) for m in both[1:] if isinstance(m, Late | Gap | Segment)] == [
        ("Late", far, far + 3000), ("Gap", 10, far + 3000), ("Segment", far + 3000, far + 6000)
    ]  # fmt: skip


def test_what_lies_far_ahead_with_another_clock_or_with_holes_is_refused() -> None:
    """An index that jumps about, or a time that does not go with it, is no long hole."""
    far, beyond = 200_000_000, 31 * 86_400_000
    jumps = [Chunk(STREAM, ANCHOR, far + 2000 * k, 0, np.zeros((900, 1), "<i2")) for k in range(5)]
    wrong = [Chunk(STREAM, Anchor(0, 90 * NS), far + 900 * k, 0, np.zeros((900, 1), "<i2")) for k in range(5)]
    years = [Chunk(STREAM, ANCHOR, beyond + 900 * k, 0, np.zeros((900, 1), "<i2")) for k in range(5)]
    got = describe(run(chunk(0, 10), *jumps, *wrong, *years, chunk(10, 20)))
    assert [row[0] for row in got] == ["segment", *["late"] * 15, "segment"]
    assert {row[3] for row in got if row[0] == "late"} == {"clock_jump"}


@pytest.mark.parametrize(("off_s", "taken"), [(0.9, True), (5.0, True), (20.0, False)])
def test_a_clock_may_drift_over_a_hole(off_s: float, taken: bool) -> None:
    """Ten hours at 100 ppm are 3.6 s; a clock that is 20 s off was set anew."""
    n0 = 36_000_000
    after = Chunk(STREAM, Anchor(0, ANCHOR.t_ns + round(off_s * NS)), n0, 0, np.zeros((5, 1), "<i2"))
    got = describe([m for m in run(chunk(0, 10), after) if not isinstance(m, Segment)])
    assert got == [("gap", 10, n0, "gap") if taken else ("late", n0, n0 + 5, "clock_jump")]
