"""The power of one sensor on a grid of milliseconds of event time, so that sensors of different rates can be compared.

Cell c covers [c, c + 1) ms since 1970. A cell is there only if all of its samples are; its sums run over exactly those
samples, however they arrived. Where the clock of a sensor of 1 kHz is corrected, a cell may fall between two samples.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import NS, Anchor, Float32, Gap, Rate, Segment, Span, Stream

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CELL_NS = 1_000_000
LEAST_HZ = 1000.0
_CONTEXT_NS = 2 * CELL_NS  # what is read again before the first cell, so that its first sample is known to be its first


class Run(NamedTuple):
    """Samples, or missing samples, [n0, n1) of a stream under one anchor."""

    stream: Stream
    anchor: Anchor
    n0: int
    n1: int

    def at(self, t_ns: int) -> int:
        """First sample of the run at or after an event time, n1 if there is none."""
        return min(max(first_sample(t_ns, self.anchor, self.stream.rate), self.n0), self.n1)


class Cells(NamedTuple):
    """Moments of consecutive cells from `first` on: samples per cell (k,), sums and sums of squares (channels, k)."""

    first: int
    samples: Int64
    total: Float64
    square: Float64

    @property
    def end(self) -> int:
        """The cell after the last one."""
        return self.first + len(self.samples)


class CellTrack:
    """`Segment` and `Gap` of one sensor, through all its epochs, → moments per millisecond of event time."""

    def __init__(self) -> None:
        self.first_cell: int | None = None
        """The first cell that can be whole and was not let go; None before the first message."""
        self.passed_ns = 0
        """Event time up to which everything is known."""
        self.ended = False
        """Whether the stream has ended, and no later one has begun."""
        self._runs: deque[Run] = deque()
        self._cells: deque[Cells] = deque()
        self._open: Float32 | None = None  # samples so far of the cell that the last run ends in
        self._cell = 0  # the next cell to be filled

    @property
    def cells(self) -> int:
        """How many cells it spans, there or missing."""
        return 0 if self.first_cell is None else self.passed_ns // CELL_NS - self.first_cell

    def segment(self, segment: Segment) -> None:
        """Take samples in.

        Raises:
            ValueError: a rate below 1000 Hz, which would leave cells empty.
        """
        stream, anchor, n0 = segment.stream, segment.anchor, segment.n0
        if stream.rate.hz < LEAST_HZ:
            raise ValueError(f"{stream.sensor}: {stream.rate.hz:g} Hz is too slow for an envelope per millisecond")
        if self._open is None or not self._continues(segment):
            cell = anchor.at(n0 - 1, stream.rate) // CELL_NS + 1  # the one before may have begun earlier
            self._cell = max(self._cell, cell)
            self._open = np.empty((0, stream.channels), np.float32)
        if self.first_cell is None:
            self.first_cell = self._cell
        self._extend(Run(stream, anchor, n0, segment.n1))
        self._fill(segment)

    def gap(self, gap: Gap) -> None:
        """Take note of missing samples."""
        run = Run(gap.stream, gap.anchor, gap.n0, gap.n1)
        if self.first_cell is None:
            self.first_cell = -(-gap.anchor.at(gap.n0, gap.stream.rate) // CELL_NS)
        self._open = None
        self._extend(run)
        self.ended = gap.reason == "end"

    def moments(self, first: int, end: int) -> Cells | None:
        """The cells [first, end), or None if one of them is missing."""
        parts = [part for part in self._cells if part.first < end and part.end > first]
        if not parts or len({part.total.shape[0] for part in parts}) > 1:
            return None
        cut = [(part, slice(max(first - part.first, 0), end - part.first)) for part in parts]
        samples = np.concatenate([part.samples[s] for part, s in cut])
        if len(samples) != end - first:
            return None
        total = np.concatenate([part.total[:, s] for part, s in cut], axis=1)
        return Cells(first, samples, total, np.concatenate([part.square[:, s] for part, s in cut], axis=1))

    def any_cell(self, first: int) -> int | None:
        """The earliest cell at or after `first` that is there, or None."""
        return next((max(part.first, first) for part in self._cells if part.end > first), None)

    def forget(self, cell: int) -> None:
        """Let go of what lies before a cell."""
        if self.first_cell is not None:
            self.first_cell = max(self.first_cell, cell)
        while self._cells and self._cells[0].end <= cell:
            self._cells.popleft()
        t_ns = cell * CELL_NS - _CONTEXT_NS
        while len(self._runs) > 1 and _end_ns(self._runs[0]) <= t_ns:
            self._runs.popleft()

    def needs_from(self, cell: int | None) -> dict[tuple[str, int], int]:
        """First sample of each (sensor, epoch) that the cells from `cell` on depend on."""
        needs: dict[tuple[str, int], int] = {}
        for run in self._runs:
            n = run.n0 if cell is None else run.at(cell * CELL_NS - _CONTEXT_NS)
            needs.setdefault(run.stream.key, n)
        return needs

    def spans(self, t0_ns: int, t1_ns: int) -> list[Span]:
        """The samples, there or missing, within [t0, t1)."""
        spans: list[Span] = []
        for run in self._runs:
            n0, n1 = run.at(t0_ns), run.at(t1_ns)
            if n1 <= n0:
                continue
            if spans and spans[-1][:2] == run.stream.key:
                n0 = spans.pop().n0
            spans.append(Span(*run.stream.key, n0, n1))
        return spans

    def _continues(self, segment: Segment) -> bool:
        """Whether the samples follow the last ones, in index and, within a cell, in time."""
        last = self._runs[-1]
        step = segment.anchor.at(segment.n0, segment.stream.rate) - _end_ns(last)
        return last.stream.key == segment.stream.key and last.n1 == segment.n0 and abs(step) < CELL_NS

    def _extend(self, run: Run) -> None:
        last = self._runs[-1] if self._runs else None
        if last and last.stream == run.stream and last.anchor == run.anchor and last.n1 == run.n0:
            self._runs[-1] = last._replace(n1=run.n1)
        else:
            self._runs.append(run)
        self.passed_ns = max(self.passed_ns, _end_ns(run))
        self.ended = False

    def _fill(self, segment: Segment) -> None:
        """Complete the cells that end within the segment; keep the samples of the one that does not."""
        assert self._open is not None
        rate, kept = segment.stream.rate, len(self._open)
        end = segment.anchor.at(segment.n1, rate) // CELL_NS  # the first cell that is not complete
        starts = first_samples(self._cell, end - self._cell + 1, segment.anchor, rate)
        starts = np.clip(starts - segment.n0, 0, len(segment.x)) + kept
        if kept:
            starts[0:1] = 0
        x = np.concatenate([self._open, segment.x]) if kept else segment.x
        if end < self._cell:  # the segment ends before the next cell begins
            self._open = x[: len(x) if kept else 0].copy()
            return
        self._open = x[starts[-1] :].copy()
        if end > self._cell:
            self._cells.append(moments(x, starts, self._cell))
            self._cell = end


def moments(x: Float32, starts: Int64, first: int) -> Cells:
    """Moments of the cells between consecutive `starts` (k + 1 row indices of x)."""
    wide = np.ascontiguousarray(x[: starts[-1]].T, np.float64)
    count = np.diff(starts)
    there = count > 0
    total = np.zeros((x.shape[1], len(count)))
    square = np.zeros((x.shape[1], len(count)))
    if there.any():
        total[:, there] = np.add.reduceat(wide, starts[:-1][there], axis=1)
        square[:, there] = np.add.reduceat(wide * wide, starts[:-1][there], axis=1)
    return Cells(first, count, total, square)


def power(cells: Cells) -> Float64:
    """Mean power per cell, all channels together, after the mean of each channel over all cells is removed; (k,).

    A cell between two samples takes that of its neighbours.
    """
    mean = cells.total.sum(axis=1, keepdims=True) / cells.samples.sum()
    energy = (cells.square - 2 * mean * cells.total + mean**2 * cells.samples).sum(axis=0)
    there = np.flatnonzero(cells.samples)
    result: Float64 = np.interp(np.arange(len(energy)), there, np.maximum(energy, 0)[there] / cells.samples[there])
    return result


def first_sample(t_ns: int, anchor: Anchor, rate: Rate) -> int:
    """First sample at or after an event time: the inverse of `Anchor.at`."""
    return anchor.n - (anchor.t_ns - t_ns) * rate.num // (NS * rate.den)


def first_samples(cell: int, cells: int, anchor: Anchor, rate: Rate) -> Int64:
    """`first_sample` at the start of each of `cells` consecutive cells from `cell` on."""
    behind, rest = divmod((anchor.t_ns - cell * CELL_NS) * rate.num, NS * rate.den)
    steps = np.arange(max(cells, 0), dtype=np.int64) * (CELL_NS * rate.num)  # divided after reduction: fits 64 bits
    return anchor.n - (behind + (rest - steps) // (NS * rate.den))


def _end_ns(run: Run) -> int:
    return run.anchor.at(run.n1, run.stream.rate)
