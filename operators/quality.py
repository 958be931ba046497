"""What a sensor's own samples say about the sensor: clipped, flat, offset, missing; and its NAMUR NE 107 state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from operators.base import Stateful, Windowed
from operators.grid import Grid
from operators.rewindow import end_ns
from pipeline.messages import Feature, Float32, Gap, Health, HealthState, Message, Segment, Span, Stream

CLIPPED_RATIO = 0.001
"""Share of samples at full scale from which a sensor is out of specification."""
OFFSET_RATIO = 0.25
"""Mean over full scale from which a microphone is out of specification."""
FLAT_RATIO = 1e-6
"""Peak-to-peak over full scale below which nothing but a dead input is left."""
CLEAN_WINDOWS = 3
"""So many clean seconds bring a sensor back to normal."""


class Quality(Windowed):
    """`Segment`, `Gap` → one `Feature` "quality" per second of the stream.

    Values: `clipped_ratio` (share of samples at full scale), `offset_ratio` (|mean| over full scale),
    `range_ratio` (peak-to-peak over full scale), `missing_s`, `silent` (1 where a mark told of the silence).
    Full scale is what the integer type can carry; float samples have none and count as clipped never.
    """

    memory_s: ClassVar[float] = 1.0

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        length = max(2, round(stream.rate.hz))
        self._grid = Grid(length, length, stream.channels)
        counts = {"<i2": 2.0**15, "<i4": 2.0**31}.get(stream.dtype)
        self._full = counts * stream.scale if counts else (1.0 if stream.unit == "FS" else 0.0)
        self._clip = np.float32(self._full * (1 - 2.0**-14)) if self._full else np.float32(np.inf)

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the current second."""
        n = self._grid.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Judge each second that this message completes, or say what is missing."""
        if isinstance(message, Segment):
            return [self._judge(message, n0, x) for n0, x in self._grid.feed(message)]
        if isinstance(message, Gap):
            self._grid.gap(message)
            return [self._missing(message)] if message.n1 > message.n0 else []
        raise TypeError(f"Quality takes Segment and Gap, not {type(message).__name__}")

    def _judge(self, segment: Segment, n0: int, x: Float32) -> Feature:
        low, high = x.min(axis=0), x.max(axis=0)
        reference = self._full or max(float(np.abs(x).max()), 1e-30)
        peak = float(max(-low.min(), high.max()))
        clipped = float(np.mean(np.abs(x) >= self._clip)) if peak >= self._clip else 0.0
        values = {
            "clipped_ratio": clipped,
            "offset_ratio": float(np.abs(x.mean(axis=0, dtype=np.float64)).max()) / reference if self._full else 0.0,
            "range_ratio": float((high - low).min()) / reference,
            "missing_s": 0.0,
            "silent": 0.0,
        }
        n1 = n0 + len(x)
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

    Failure: no data, or a flat line. Out of specification: clipping, an offset, or a gap. A worse state holds at
    once, a better one after three clean seconds.
    """

    def __init__(self, sound: frozenset[str] = frozenset()) -> None:
        self._sound = sound
        self._reasons: tuple[str, ...] = ("unknown",)
        self._clean = 0

    def process(self, message: Message) -> Iterable[Message]:
        """Compare one second's quality with the limits."""
        if not isinstance(message, Feature):
            raise TypeError(f"SensorHealth takes Feature, not {type(message).__name__}")
        reasons = self._judge(message)
        if reasons:
            self._clean = 0
        elif self._reasons != ("unknown",):
            self._clean += 1
            if self._reasons and self._clean < CLEAN_WINDOWS:
                return []
        if reasons == self._reasons or (reasons and set(reasons) < set(self._reasons)):
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
        """Current reasons and clean seconds."""
        return {"reasons": list(self._reasons), "clean": self._clean}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over reasons and clean seconds."""
        self._reasons = tuple(state["reasons"])
        self._clean = int(state["clean"])
