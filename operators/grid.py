"""Windows on a fixed sample grid: [k·hop, k·hop + length), however the stream was cut into segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.messages import Float32, Gap, Segment


class Grid:
    """A small contiguous buffer that hands out grid windows of a stream as soon as their last sample is there.

    The first window is the first grid position at or after the first sample seen, so that a start, a gap and a
    rebuild from the log all give windows of full memory only.

    Args:
        length: samples per window.
        hop: samples between window starts; may be smaller or larger than `length`.
        channels: columns of the samples.
    """

    def __init__(self, length: int, hop: int, channels: int) -> None:
        if length < 1 or hop < 1 or channels < 1:
            raise ValueError(f"length, hop and channels must be positive, not {length}, {hop}, {channels}")
        self.length = length
        self.hop = hop
        # little more than a window where little of it is kept: hundreds of streams share the processor's cache
        room = length // 8 + 1024 if 2 * hop >= length else length + hop
        self._buffer = np.empty((length + room, channels), np.float32)
        self._first = 0  # stream index of _buffer[_lo]
        self._lo = 0
        self._hi = 0
        self._start: int | None = None  # start of the next window; None before the first sample

    def needs_from(self) -> int | None:
        """First sample that a window still to come depends on; None before the first sample."""
        return self._start

    def feed(self, segment: Segment) -> Iterable[tuple[int, Float32]]:
        """Take the next samples in; gives (n0, view of (length, channels)) per completed window.

        A view is valid until the iterator advances. The iterator must be exhausted.
        """
        held, more = self._hi - self._lo, len(segment.x)
        if self._first == self._start and held + more < self.length and self._hi + more <= len(self._buffer):
            self._buffer[self._hi : self._hi + more] = segment.x  # most segments complete nothing
            self._hi += more
            return ()
        return self._feed(segment)

    def _feed(self, segment: Segment) -> Iterator[tuple[int, Float32]]:
        if self._start is None:
            self._restart(segment.n0)
        x, at = segment.x, 0
        while at < len(x):
            take = min(len(x) - at, self._room())
            self._buffer[self._hi : self._hi + take] = x[at : at + take]
            self._hi += take
            at += take
            yield from self._windows()

    def gap(self, gap: Gap) -> tuple[int, int] | None:
        """Skip missing samples; return [n0, n1) of the windows that are thereby lost, or None if there are none."""
        if self._start is None:
            self._restart(gap.n1)
            return None
        lost = self._start
        self._restart(gap.n1)
        if self._start <= lost:
            self._start = lost  # the gap lies between two windows
            return None
        return lost, self._start - self.hop + self.length

    def _restart(self, n: int) -> None:
        self._first, self._lo, self._hi = n, 0, 0
        self._start = -(-n // self.hop) * self.hop

    def _room(self) -> int:
        if self._hi == len(self._buffer):
            kept = self._hi - self._lo
            self._buffer[:kept] = self._buffer[self._lo : self._hi].copy()
            self._lo, self._hi = 0, kept
        return len(self._buffer) - self._hi

    def _windows(self) -> Iterator[tuple[int, Float32]]:
        while True:
            assert self._start is not None
            skip = min(self._start - self._first, self._hi - self._lo)
            if skip > 0:  # samples before the next window's start are no longer needed
                self._lo += skip
                self._first += skip
            if self._first != self._start or self._hi - self._lo < self.length:
                return
            n0 = self._start
            self._start += self.hop
            yield n0, self._buffer[self._lo : self._lo + self.length]
