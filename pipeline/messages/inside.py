"""What flows between the operators of a lane: segments, gaps and windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.messages.inputs import Anchor, MarkReason, Stream

Float32: TypeAlias = NDArray[np.float32]


class Span(NamedTuple):
    """Lineage: the samples [n0, n1) of one stream."""

    sensor: str
    epoch: int
    n0: int
    n1: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Consecutive samples of a stream in order, without repeats, as float32 in the stream's unit."""

    stream: Stream
    anchor: Anchor
    n0: int
    x: Float32

    @property
    def n1(self) -> int:
        """Index after the last sample."""
        return self.n0 + len(self.x)


@dataclass(frozen=True, slots=True)
class Gap:
    """There will be no samples [n0, n1) of this stream; ``reason="end"`` says that nothing at all follows."""

    stream: Stream
    anchor: Anchor
    n0: int
    n1: int
    reason: MarkReason


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was computed on the samples [n0, n1) of one stream.

    `values` means what its topic says (samples, a log-Mel image). ``complete=False`` and empty values when samples are
    missing: one such window stands for the whole incomplete range. `side` holds scalars that `values` no longer shows.
    """

    stream: Stream
    n0: int
    n1: int
    t_end_ns: int
    values: Float32
    complete: bool = True
    side: Mapping[str, float] = field(default_factory=dict)

    @property
    def span(self) -> Span:
        """The samples behind the window."""
        return Span(self.stream.sensor, self.stream.epoch, self.n0, self.n1)
