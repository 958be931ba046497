"""The grid: every complete window of [k·hop, k·hop + length), and no other, however the samples come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.grid import Grid
from pipeline.messages import Anchor, Gap, Rate, Segment, Stream

STREAM = Stream("m", "s", 0, "vibration", Rate(1000), 1, "<f4", "m/s2")
ANCHOR = Anchor(0, 0)


def segment(lo: int, hi: int) -> Segment:
    """Samples whose value is their index."""
    return Segment(STREAM, ANCHOR, lo, np.arange(lo, hi, dtype=np.float32)[:, None])


def feed(grid: Grid, lo: int, hi: int) -> list[int]:
    """Starts of the windows that come out, each checked against its own indices."""
    starts = []
    for n0, x in grid.feed(segment(lo, hi)):
        assert np.array_equal(x[:, 0], np.arange(n0, n0 + grid.length))
        starts.append(n0)
    return starts


@settings(max_examples=300, deadline=None)
@given(
    length=st.integers(1, 40),
    hop=st.integers(1, 60),
    first=st.integers(0, 100),
    pieces=st.lists(st.integers(0, 90), max_size=12),
)
def test_windows_are_those_of_the_definition(length: int, hop: int, first: int, pieces: list[int]) -> None:
    """Closed form: starts are the multiples of hop at or behind the first sample whose window is complete."""
    grid, at, got = Grid(length, hop, 1), first, []
    for piece in pieces:
        got += feed(grid, at, at + piece)
        at += piece
    expected = [k for k in range(-(-first // hop) * hop, at, hop) if k + length <= at]
    assert got == (expected if any(pieces) or not pieces else [])
    if any(pieces):
        assert grid.needs_from() == (got[-1] + hop if got else -(-first // hop) * hop)


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(1, 30), hop=st.integers(1, 40), n0=st.integers(0, 80), missing=st.integers(1, 100),
    more=st.integers(0, 120),
)  # fmt: skip
def test_a_gap_loses_exactly_the_windows_that_touch_it(length: int, hop: int, n0: int, missing: int, more: int) -> None:
    """Windows on both sides come, those that overlap the gap are reported as one range."""
    grid = Grid(length, hop, 1)
    got = feed(grid, 0, n0 or 1)
    g0, g1 = n0 or 1, (n0 or 1) + missing
    lost = grid.gap(Gap(STREAM, ANCHOR, g0, g1, "gap"))
    got += feed(grid, g1, g1 + more)
    end = g1 + more
    whole = [k for k in range(0, end, hop) if k + length <= g0 or (k >= g1 and k + length <= end)]
    assert got == whole
    touched = [k for k in range(0, g1, hop) if k + length > g0]
    assert lost == ((touched[0], touched[-1] + length) if touched else None)


def test_nonsense_sizes_are_refused() -> None:
    """A window of nothing has no meaning."""
    with pytest.raises(ValueError, match="positive"):
        Grid(0, 1, 1)
