"""Overlapping windows from complete blocks: what one block gives is computed once, however many windows share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from operators.grid import Grid
from pipeline.messages import Float32, Gap, Segment

T = TypeVar("T")


class Blocks(Generic[T]):
    """Analyses a stream in blocks on its sample grid and hands out the blocks of each window.

    Block b covers the samples [b·hop, b·hop + length). Window k consists of `per_window` blocks from block k·step on.
    Nothing is analysed that no window needs, and every call to `analyse` has the same shape.

    Args:
        length: samples per block, including what reaches into the next ones.
        hop: samples between block starts.
        per_window: blocks per window.
        step: blocks between window starts.
        channels: columns of the samples.
        analyse: takes a view of shape (length, channels), valid during the call, and returns a block's result.
    """

    def __init__(
        self, length: int, hop: int, *, per_window: int, step: int, channels: int, analyse: Callable[[Float32], T]
    ) -> None:
        self.length = (per_window - 1) * hop + length
        self._grid = Grid(length, hop, channels)
        self._hop = step * hop
        self._per_window = per_window
        self._step = step
        self._analyse = analyse
        self._blocks: list[T] = []
        self._start: int | None = None

    def needs_from(self) -> int | None:
        """First sample that a window still to come depends on; None before the first sample."""
        return self._start

    def feed(self, segment: Segment) -> Iterable[tuple[int, list[T]]]:
        """Take the next samples in; gives (n0, blocks) per completed window. The iterator must be exhausted."""
        if self._start is None:
            self._start = self._at_or_after(segment.n0)
        complete = self._grid.feed(segment)
        return self._windows(complete) if complete else ()

    def _windows(self, complete: Iterable[tuple[int, Float32]]) -> Iterator[tuple[int, list[T]]]:
        assert self._start is not None
        for n0, x in complete:
            if n0 < self._start:
                continue
            self._blocks.append(self._analyse(x))
            if len(self._blocks) == self._per_window:
                yield self._start, self._blocks[:]
                del self._blocks[: self._step]
                self._start += self._hop

    def gap(self, gap: Gap) -> tuple[int, int] | None:
        """Skip missing samples; return [n0, n1) of the windows that are thereby lost, or None if there are none."""
        self._grid.gap(gap)
        lost, self._start = self._start, self._at_or_after(gap.n1)
        self._blocks.clear()
        if lost is None:
            return None
        if self._start <= lost:
            self._start = lost  # the gap lies between two windows
            return None
        return lost, self._start - self._hop + self.length

    def _at_or_after(self, n: int) -> int:
        return -(-n // self._hop) * self._hop
