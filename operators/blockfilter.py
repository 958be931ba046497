"""Filters of finite memory on fixed blocks: what `Resample`, `Fir` and `Sos` have in common.

The input is cut into windows on the stream's sample grid (see `Grid`), and each window yields one block of outputs for
which it holds the full memory. Nothing is ever computed on a shape that depends on how the samples arrived.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from operators.base import Windowed
from operators.grid import Grid
from pipeline.messages import Anchor, Float32, Gap, Message, Rate, Segment, Stream


class BlockFilter(Windowed):
    """`Segment` and `Gap` of one stream → `Segment` and `Gap` of the same stream at the rate ``rate · ratio``.

    Output sample m lies at input position ``m / ratio``: at the same event time, whatever the filter's delay. Outputs
    whose memory reaches before the first sample, or into a gap, are never emitted. A `Gap` stands for those between
    two outputs; nothing stands for those before the first, or a rebuild would give something else.

    Args:
        stream: the input stream.
        ratio: output rate by input rate.
        before: input samples that an output depends on before its block.
        block: input samples that a block of outputs stands for.
        after: input samples that an output depends on after its block.

    Raises:
        ValueError: the memory is longer than the class's `memory_s`.
    """

    def __init__(self, stream: Stream, ratio: Fraction, before: int, block: int, after: int) -> None:
        length_s = (before + block + after) / stream.rate.hz
        if length_s > self.memory_s:
            raise ValueError(
                f"{type(self).__name__} at {stream.rate.hz:g} Hz needs {length_s:.3g} s of samples, "
                f"more than its {self.memory_s:g} s"
            )
        self.stream = stream
        self.output = stream if ratio == 1 else replace(stream, rate=scaled(stream.rate, ratio))
        self.before = before
        self.block = block
        self.after = after
        self._up, self._down = ratio.as_integer_ratio()
        self._grid = Grid(before + block + after, block, stream.channels)
        self._anchors: deque[tuple[int, Anchor]] = deque()  # (first input sample, anchor), oldest first
        self._next: int | None = None  # next output sample; None before the first message

    @abstractmethod
    def apply(self, x: Float32, n0: int, m0: int, m1: int) -> Float32:
        """Outputs [m0, m1), shape (m1 - m0, channels), of one window; a fresh array.

        Args:
            x: the samples from `n0` on, shape (before + block + after, channels); valid during the call.
            n0: index of the first of them.
            m0: first output at or after ``n0 + before``.
            m1: first output at or after ``n0 + before + block``.
        """

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """First input sample of the next block's window."""
        n = self._grid.needs_from()
        return {} if n is None else {self.stream.key: n}

    def needed_for(self, m: int) -> int:
        """First input sample that must be read again for output sample `m` to be emitted."""
        return (m * self._down // self._up - self.before) // self.block * self.block

    def process(self, message: Message) -> Iterable[Message]:
        """Filter what this message completes."""
        if not isinstance(message, (Segment, Gap)):
            raise TypeError(f"{type(self).__name__} takes Segment and Gap, not {type(message).__name__}")
        if not self._anchors or self._anchors[-1][1] != message.anchor:
            self._anchors.append((message.n0, message.anchor))
        if self._next is None:
            self._next = self._first_output(message.n0)
        return self._segments(message, self._next) if isinstance(message, Segment) else self._gap(message, self._next)

    def _first_output(self, n: int) -> int:
        """First output that is determined when the samples from `n` on are there."""
        return self._output_at(-(-n // self.block) * self.block + self.before)

    def _output_at(self, n: int) -> int:
        """First output at or after the input sample `n`."""
        return -(-n * self._up // self._down)

    def _segments(self, segment: Segment, start: int) -> list[Message]:
        blocks: list[Float32] = []
        m = start
        for n0, x in self._grid.feed(segment):
            end = self._output_at(n0 + self.before + self.block)
            blocks.append(self.apply(x, n0, m, end))
            m = end
        self._next = m
        if m == start:
            return []
        y = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        pieces = self._by_anchor(start, m)
        return [Segment(self.output, anchor, m0, y[m0 - start : m1 - start]) for m0, m1, anchor in pieces]

    def _by_anchor(self, m0: int, m1: int) -> Iterator[tuple[int, int, Anchor]]:
        """The pieces of [m0, m1) that lie under one anchor each; anchors that are no longer needed are let go."""
        while m0 < m1:
            while len(self._anchors) > 1 and self._output_at(self._anchors[1][0]) <= m0:
                self._anchors.popleft()
            end = m1 if len(self._anchors) == 1 else min(m1, self._output_at(self._anchors[1][0]))
            yield m0, end, self._translated(self._anchors[0][1])
            m0 = end

    def _gap(self, gap: Gap, m0: int) -> list[Message]:
        self._grid.gap(gap)
        ended = gap.reason == "end"
        m1 = max(m0, self._output_at(gap.n1) if ended else self._first_output(gap.n1))
        self._next = m1
        if m1 == m0 and not ended:
            return []
        return [Gap(self.output, self._translated(gap.anchor), m0, m1, gap.reason)]

    def _translated(self, anchor: Anchor) -> Anchor:
        return translated(anchor, self.stream.rate, self._up, self._down)


def scaled(rate: Rate, ratio: Fraction) -> Rate:
    """The rate times a ratio, in lowest terms."""
    return Rate(*(Fraction(rate.num, rate.den) * ratio).as_integer_ratio())


def translated(anchor: Anchor, rate: Rate, up: int, down: int) -> Anchor:
    """The anchor of the stream at ``rate · up / down``: the same times, to the nanosecond where `down` divides its n.

    Else the anchor is the nearest earlier sample that both streams share, its time rounded down.
    """
    n = anchor.n // down * down
    return Anchor(n // down * up, anchor.at(n, rate))
