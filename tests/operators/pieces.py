"""Arrays cut into segments with gaps, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.base import Windowed
from pipeline.messages import Anchor, Float32, Gap, MarkReason, Message, Modality, Rate, Segment, Stream

ANCHOR = Anchor(0, 1_700_000_000_000_000_000)


def stream(rate: int | Rate, unit: str = "FS", channels: int = 1, sensor: str = "s", epoch: int = 0,
           modality: Modality = "acoustic") -> Stream:  # fmt: skip
    """A stream of machine m."""
    return Stream("m", sensor, epoch, modality, rate if isinstance(rate, Rate) else Rate(rate), channels, "<f4", unit)


def column(x: NDArray[np.floating]) -> Float32:
    """One channel as float32, shape (n, 1)."""
    return x.astype(np.float32)[:, None]


def segments(
    source: Stream, x: Float32, cuts: Iterable[int] = (), n0: int = 0, anchor: Anchor = ANCHOR
) -> list[Segment]:
    """The samples from index n0 on, cut at the given positions of x."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(x)}), len(x)]
    return [Segment(source, anchor, n0 + lo, x[lo:hi]) for lo, hi in pairwise(edges)]


def gap(source: Stream, n0: int, n1: int, reason: MarkReason = "gap", anchor: Anchor = ANCHOR) -> Gap:
    """Missing samples."""
    return Gap(source, anchor, n0, n1, reason)


def run(operator: Windowed, messages: Iterable[Message]) -> list[Message]:
    """All that an operator makes of the messages."""
    return [out for message in messages for out in operator.process(message)]


def samples(messages: Sequence[Message]) -> dict[int, bytes]:
    """Index → bytes of each sample that was emitted; no index may come twice."""
    out: dict[int, bytes] = {}
    for message in messages:
        if isinstance(message, Segment):
            for i, row in enumerate(message.x):
                assert message.n0 + i not in out
                out[message.n0 + i] = row.tobytes()
    return out


def joined(messages: Sequence[Message]) -> tuple[int, Float32]:
    """First index and samples of an output without gaps."""
    parts = [message for message in messages if isinstance(message, Segment)]
    for before, after in pairwise(parts):
        assert before.n1 == after.n0
    return parts[0].n0, np.concatenate([part.x for part in parts])


def contiguous(messages: Sequence[Message]) -> bool:
    """Whether each segment or gap starts where the one before ended."""
    parts = [message for message in messages if isinstance(message, Segment | Gap)]
    return all(before.n1 == after.n0 for before, after in pairwise(parts))


def tail(messages: Iterable[Message], needs: Mapping[tuple[str, int], int]) -> list[Message]:
    """What a rebuild reads again: everything from the first sample needed of each stream on, cut exactly there."""
    out: list[Message] = []
    for message in messages:
        assert isinstance(message, Segment | Gap)
        n = needs.get(message.stream.key, message.n0)
        if message.n1 <= n:
            continue
        if isinstance(message, Gap):
            out.append(Gap(message.stream, message.anchor, max(n, message.n0), message.n1, message.reason))
        else:
            lo = max(0, n - message.n0)
            out.append(Segment(message.stream, message.anchor, message.n0 + lo, message.x[lo:]))
    return out


def cuts(length: int) -> st.SearchStrategy[list[int]]:
    """Random places to cut `length` samples at, single samples and empty cuts among them."""
    return st.lists(st.integers(0, length), max_size=12)
