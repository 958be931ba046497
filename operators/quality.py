"""What a sensor's own samples say about the sensor: clipped, flat, offset, missing; and its NAMUR NE 107 state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from operators.base import Stateful, Windowed
from operators.blocks import Blocks
from operators.levels import mean_of
from operators.rewindow import end_ns
from pipeline.messages import Feature, Float32, Gap, Health, HealthState, Message, Segment, Span, Stream

CLIPPED_RATIO = 0.001
"""Share of samples at full scale from which a sensor is out of specification."""
OFFSET_RATIO = 0.25
"""Mean over full scale from which a microphone is out of specification."""
FLAT_RATIO = 1e-6
"""Peak-to-peak over full scale below which nothing but a dead input is left."""
CLEAN_WINDOWS = 3
"""So many seconds without a reason end it: all of them clean, they bring a sensor back to normal."""
REASONS = ("no_data", "gap", "clipping", "flat", "offset")
"""Of a sensor's state, in the order in which they are told."""

_LONG = 8192
_PARTS = (2, 3, 5, 1)
"""A second of many samples is looked at in so many parts, as they come: none of it is kept."""


class Extent(NamedTuple):
    """Smallest, largest and mean sample of one channel, and how many are at full scale."""

    low: float
    high: float
    mean: float
    clipped: int


class Quality(Windowed):
    """`Segment`, `Gap` → one `Feature` "quality" per second of the stream.

    Values: `clipped_ratio` (share of samples at full scale), `offset_ratio` (|mean| over full scale),
    `range_ratio` (peak-to-peak over full scale), `missing_s`, `silent` (1 where a mark told of the silence).
    Full scale is what the integer type can carry; float samples have none and count as clipped never. Where there is
    none, and for 32 bits in another unit than full scale, the largest sample stands for it, and there is no offset.
    """

    memory_s: ClassVar[float] = 1.0

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._length = length = max(2, round(stream.rate.hz))
        parts = next(k for k in _PARTS if length % k == 0) if length >= _LONG else 1
        block = length // parts
        self._blocks = Blocks(
            block, block, per_window=parts, step=parts, channels=stream.channels, analyse=self._measure
        )
        counts = {"<i2": 2.0**15, "<i4": 2.0**31}.get(stream.dtype)
        full = counts * stream.scale if counts else (1.0 if stream.unit == "FS" else 0.0)
        self._clip = np.float32(full * (1 - 2.0**-14)) if full else np.float32(np.inf)
        # 32 bits also carry the counts of a 12-bit converter, which would look flat beside 2^31
        self._full = 0.0 if stream.dtype == "<i4" and stream.unit != "FS" else full

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the current second."""
        n = self._blocks.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Judge each second that this message completes, or say what is missing."""
        if isinstance(message, Segment):
            complete = self._blocks.feed(message)
            return [self._judge(message, n0, parts) for n0, parts in complete] if complete else ()
        if isinstance(message, Gap):
            self._blocks.gap(message)
            return [self._missing(message)] if message.n1 > message.n0 else []
        raise TypeError(f"Quality takes Segment and Gap, not {type(message).__name__}")

    def _measure(self, x: Float32) -> list[Extent]:
        columns = x.T if x.shape[1] == 1 else np.ascontiguousarray(x.T)  # side by side they take thirty times as long
        return [self._extent(column) for column in columns]

    def _extent(self, x: Float32) -> Extent:
        low, high = float(np.minimum.reduce(x)), float(np.maximum.reduce(x))
        clipped = int(np.count_nonzero(np.abs(x) >= self._clip)) if max(-low, high) >= self._clip else 0
        return Extent(low, high, mean_of(x), clipped)

    def _judge(self, segment: Segment, n0: int, parts: list[list[Extent]]) -> Feature:
        channels = list(zip(*parts, strict=True))
        low = [min(part.low for part in channel) for channel in channels]
        high = [max(part.high for part in channel) for channel in channels]
        reference = self._full or max(-min(low), *high, 1e-30)
        offsets = [abs(sum(part.mean for part in channel)) / len(parts) for channel in channels]
        clipped = sum(part.clipped for channel in channels for part in channel)
        values = {
            "clipped_ratio": clipped / (self._length * len(channels)),
            "offset_ratio": max(offsets) / reference if self._full else 0.0,
            "range_ratio": min(b - a for a, b in zip(low, high, strict=True)) / reference,
            "missing_s": 0.0,
            "silent": 0.0,
        }
        n1 = n0 + self._length
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        return Feature(
            self.stream.machine, (self.stream.sensor,), "quality", end_ns(segment.anchor, n1, self.stream), values,
            lineage=(span,),
        )  # fmt: skip

    def _missing(self, gap: Gap) -> Feature:
        told = gap.reason in {"silent", "abandoned"}
        values = {"missing_s": (gap.n1 - gap.n0) / self.stream.rate.hz, "silent": float(told)}
        span = Span(self.stream.sensor, self.stream.epoch, gap.n0, gap.n1)
        return Feature(
            self.stream.machine, (self.stream.sensor,), "quality", end_ns(gap.anchor, gap.n1, self.stream), values,
            complete=False, lineage=(span,),
        )  # fmt: skip


class SensorHealth(Stateful):
    """`Feature` "quality" of one sensor → `Health` when its NE 107 state or the reasons for it change.

    Failure: no data, or a flat line. Out of specification: clipping, an offset, or a gap. A reason holds at once, and
    until three seconds have passed without it, whatever else they show.
    """

    def __init__(self, sound: frozenset[str] = frozenset()) -> None:
        self._sound = sound
        self._reasons: tuple[str, ...] = ("unknown",)
        self._since: dict[str, int] = {}

    def process(self, message: Message) -> Iterable[Message]:
        """Compare one second's quality with the limits."""
        if not isinstance(message, Feature):
            raise TypeError(f"SensorHealth takes Feature, not {type(message).__name__}")
        now = self._judge(message)
        since = {reason: 0 if reason in now else self._since.get(reason, CLEAN_WINDOWS) + 1 for reason in REASONS}
        self._since = {reason: seconds for reason, seconds in since.items() if seconds < CLEAN_WINDOWS}
        reasons = tuple(self._since)
        if reasons == self._reasons:
            return []
        self._reasons = reasons
        span = message.lineage[0]
        state: HealthState = "out_of_specification" if reasons else "normal"
        if {"no_data", "flat"} & set(reasons):
            state = "failure"
        return [Health(message.machine, span.sensor, span.epoch, message.t_end_ns, state, reasons)]

    def _judge(self, quality: Feature) -> tuple[str, ...]:
        v = quality.values
        if not quality.complete:
            return ("no_data",) if v["silent"] else ("gap",)
        reasons = []
        if v["clipped_ratio"] > CLIPPED_RATIO:
            reasons.append("clipping")
        if v["range_ratio"] < FLAT_RATIO:
            reasons.append("flat")
        if v["offset_ratio"] > OFFSET_RATIO and quality.sensors[0] in self._sound:
            reasons.append("offset")
        return tuple(reasons)

    def snapshot(self) -> dict[str, Any]:
        """Current reasons, and the seconds since each was seen."""
        return {"reasons": list(self._reasons), "since": dict(self._since)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the reasons; an earlier version did not say when each was seen."""
        self._reasons = tuple(state["reasons"])
        known = state.get("since", {})
        self._since = {reason: int(known.get(reason, 0)) for reason in REASONS if reason in self._reasons}
