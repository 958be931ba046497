"""From what sensors publish to consecutive samples, and from those to windows of samples.

`Sequence` puts a stream's chunks end to end: repeats, overlaps, late and unusable samples leave as `Late`, missing
ones become `Gap`. `Rewindow` cuts windows for stages that look at samples. Latency: none, and one window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from operators.base import Windowed
from operators.grid import Grid
from pipeline.messages import (
    NS,
    Anchor,
    Chunk,
    Float32,
    Gap,
    Late,
    LateReason,
    Mark,
    MarkReason,
    Message,
    Samples,
    Segment,
    Stream,
    Window,
)

_REMEMBERED_GAPS = 64
LONGEST_GAP_S = 86_400
"""A chunk further ahead of its stream than this is refused: one wrong index must not make all that follows late."""
AGREED_S = 1.0
"""Unless so much follows there without a break, in time: then the stream has a long hole, and goes on."""
LONGEST_HOLE_S = 30 * 86_400
"""Further ahead nothing is believed: a stream that went on years ahead would take its machine's time there."""
DRIFT = 200e-6
"""Seconds by which a device's clock may be off after each second of which nothing was heard."""
TELLING_S = 60
"""A refused chunk says that its samples are missing only if it lies this near to where the stream is."""


class Sequence(Windowed):
    """`Chunk` and `Mark` of one stream → `Segment`, `Gap`, `Late`.

    Samples are cut and joined by their index alone. A chunk that starts behind what was already passed on is late
    (its range was given up), a duplicate (its range was there) or an overlap (its head was there). An anchor that
    would let time run backwards, or that moves it by more than a second, is refused with its chunk, as is a chunk a
    day ahead that is alone there: a clock step is a new stream. Infinite and not-a-number samples are missing samples.

    What cannot be used becomes a gap when the next good sample comes, or at each whole second of the stream's index,
    so that a sensor that gives nothing else is told of, and that its gaps do not depend on how it was cut.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._scale = np.float32(stream.scale)
        self._finite = stream.dtype != "<f4"  # integers are
        self._next: int | None = None
        self._anchor: Anchor | None = None
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_GAPS)
        self._ahead: tuple[int, int] | None = None
        """First sample of the chunks far ahead that followed each other, and the one behind their last."""

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """The last sample passed on: re-read after a restart, it tells a gap behind it from a fresh start."""
        return {} if self._next is None else {self.stream.key: self._next - 1}

    def process(self, message: Message) -> Iterable[Message]:
        """Put one chunk or mark in its place."""
        if isinstance(message, Mark):
            return list(self._mark(message))
        if isinstance(message, Chunk):
            if message.n0 == self._next and message.anchor == self._anchor and self._finite and len(message.samples):
                self._next = message.n1
                return (Segment(self.stream, message.anchor, message.n0, self._scaled(message.samples)),)
            return list(self._chunk(message))
        raise TypeError(f"Sequence takes Chunk and Mark, not {type(message).__name__}")

    def _mark(self, mark: Mark) -> Iterator[Message]:
        if self._next is None:
            self._next = mark.n0
        n1 = max(mark.n1, self._next)
        if n1 > self._next or mark.reason == "end":
            yield self._gap(mark.anchor, n1, mark.reason)

    def _chunk(self, chunk: Chunk) -> Iterator[Message]:
        if len(chunk.samples) == 0:
            yield self._late(chunk, chunk.n0, chunk.n0, "empty")
            return
        if self._next is None:
            self._next = chunk.n0
        refused = self._refusal(chunk)
        if refused is None:
            self._ahead = None
        elif self._goes_on(chunk):
            yield from self._beyond(chunk)
            return
        else:
            yield self._late(chunk, chunk.n0, chunk.n1, refused)
            if chunk.n0 - self._next <= TELLING_S * self.stream.rate.hz:  # else its index is as wrong as its clock
                yield from self._unusable(self._anchor or chunk.anchor, chunk.n0, chunk.n1)
            return
        if chunk.n0 < self._next:
            behind = min(chunk.n1, self._next)
            given_up = any(lo < behind and chunk.n0 < hi for lo, hi in self._gaps)
            whole: LateReason = "overlap" if chunk.n1 > self._next else "duplicate"
            yield self._late(chunk, chunk.n0, behind, "late" if given_up else whole)
            if chunk.n1 <= self._next:
                return
        start = max(chunk.n0, self._next)
        samples = chunk.samples[start - chunk.n0 :]
        x = self._scaled(samples)
        if samples.dtype.kind == "f" and not np.isfinite(x).all():
            yield from self._finite_runs(chunk, start, x)
            return
        yield from self._good(chunk.anchor, start, x)

    def _goes_on(self, chunk: Chunk) -> bool:
        """Whether a chunk far ahead ends a second of several there without a break: a long hole, no wrong index."""
        hole_s = (chunk.n0 - (self._next or 0)) / self.stream.rate.hz
        if not LONGEST_GAP_S < hole_s <= LONGEST_HOLE_S or not self._in_time(chunk):
            return False
        begun = self._ahead[0] if self._ahead is not None and self._ahead[1] == chunk.n0 else chunk.n0
        self._ahead = begun, chunk.n1
        return begun < chunk.n0 and chunk.n1 - begun > round(AGREED_S * self.stream.rate.hz)

    def _beyond(self, chunk: Chunk) -> Iterator[Message]:
        """Go on behind a hole: the second that had to agree is lost with it, wherever chunks were cut."""
        assert self._ahead is not None
        start, self._ahead = max(chunk.n0, self._ahead[0] + round(AGREED_S * self.stream.rate.hz)), None
        if start > chunk.n0:
            yield self._late(chunk, chunk.n0, start, "clock_jump")
        self._anchor = chunk.anchor
        yield self._gap(chunk.anchor, start, "gap")
        yield from self._chunk(replace(chunk, n0=start, samples=chunk.samples[start - chunk.n0 :]))

    def _in_time(self, chunk: Chunk) -> bool:
        """Whether a chunk's time is where its index puts it: a second, and what a clock drifts over a hole."""
        if self._anchor is None or self._next is None:
            return True
        hole_s = max(0.0, (chunk.n0 - self._next) / self.stream.rate.hz)
        return abs(chunk.t0_ns - self._anchor.at(chunk.n0, self.stream.rate)) <= (1.0 + DRIFT * hole_s) * NS

    def _scaled(self, samples: Samples) -> Float32:
        x: Float32 = samples.astype(np.float32)
        x *= self._scale
        return x

    def _refusal(self, chunk: Chunk) -> LateReason | None:
        rate = self.stream.rate
        if self._anchor is not None and self._next is not None and chunk.n0 - self._next > LONGEST_GAP_S * rate.hz:
            return "clock_jump"
        if self._anchor is None or self._anchor == chunk.anchor or self._next is None:
            return None
        if chunk.n0 >= self._next and chunk.t0_ns <= self._anchor.at(self._next - 1, rate):
            return "time_backwards"
        return None if self._in_time(chunk) else "clock_jump"

    def _finite_runs(self, chunk: Chunk, start: int, x: Float32) -> Iterator[Message]:
        good: NDArray[np.bool_] = np.all(np.isfinite(x), axis=1)
        edges = [0, *(np.flatnonzero(np.diff(good)) + 1).tolist(), len(good)]
        for lo, hi in pairwise(edges):
            if good[lo]:
                yield from self._good(chunk.anchor, start + lo, x[lo:hi])
            else:
                yield self._late(chunk, start + lo, start + hi, "not_finite")
                yield from self._unusable(chunk.anchor, start + lo, start + hi)

    def _unusable(self, anchor: Anchor, n0: int, n1: int) -> Iterator[Gap]:
        """One gap up to the second of n0, then one a second up to that of n1; what remains waits for a good sample."""
        assert self._next is not None
        second = max(1, round(self.stream.rate.hz))
        first, last = n0 // second * second, n1 // second * second
        if self._next < first:
            yield self._gap(anchor, first, "gap")
        while self._next < last:
            yield self._gap(anchor, (self._next // second + 1) * second, "gap")

    def _good(self, anchor: Anchor, n0: int, x: Float32) -> Iterator[Segment | Gap]:
        assert self._next is not None
        if n0 > self._next:
            yield self._gap(anchor, n0, "gap")
        self._next, self._anchor = n0 + len(x), anchor
        yield Segment(self.stream, anchor, n0, x)

    def _gap(self, anchor: Anchor, n1: int, reason: MarkReason) -> Gap:
        assert self._next is not None
        n0, self._next = self._next, n1
        self._gaps.append((n0, n1))
        return Gap(self.stream, anchor, n0, n1, reason)

    def _late(self, chunk: Chunk, n0: int, n1: int, reason: LateReason) -> Late:
        return Late(self.stream, chunk.anchor, n0, n1, reason)


class Rewindow(Windowed):
    """`Segment` and `Gap` of one stream → `Window` of samples, shape (length, channels), in the stream's unit.

    A window starts at each multiple of `hop` samples from the stream's start. Where samples are missing, one
    incomplete window stands for all that are lost.

    Args:
        stream: the stream to cut.
        length: samples per window.
        hop: samples between window starts.
    """

    memory_s: ClassVar[float] = 1.0

    def __init__(self, stream: Stream, length: int, hop: int) -> None:
        self.stream = stream
        self._grid = Grid(length, hop, stream.channels)

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window."""
        n = self._grid.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Cut what this message completes."""
        if isinstance(message, Segment):
            return [window(message, n0, x.copy()) for n0, x in self._grid.feed(message)]
        if isinstance(message, Gap):
            lost = self._grid.gap(message)
            return [] if lost is None else [missing(message, *lost)]
        raise TypeError(f"Rewindow takes Segment and Gap, not {type(message).__name__}")


def window(segment: Segment, n0: int, values: Float32, length: int | None = None) -> Window:
    """A complete window that this segment has completed; it ends `length` (default: len(values)) samples after n0."""
    n1 = n0 + (len(values) if length is None else length)
    return Window(segment.stream, n0, n1, end_ns(segment.anchor, n1, segment.stream), values)


def missing(gap: Gap, n0: int, n1: int) -> Window:
    """The incomplete window that stands for all that a gap has made impossible."""
    return Window(gap.stream, n0, n1, end_ns(gap.anchor, n1, gap.stream), np.empty((0, 0), np.float32), complete=False)


def end_ns(anchor: Anchor, n1: int, stream: Stream) -> int:
    """End of a window in event time, by the anchor of its last sample."""
    return anchor.at(n1, stream.rate)
