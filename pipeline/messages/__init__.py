"""What flows: frozen messages, all times in integer nanoseconds since 1970, all quantities in SI units unless named.

Time is a sample index. A stream's sample n lies at ``anchor.t_ns + floor((n - anchor.n) * 1e9 * den / num)`` for the
rational rate num/den (samples per second). Intervals are half-open: [n0, n1). Arrays of samples have the shape
(samples, channels).
Inputs: `Chunk` to `Decision`. Inside a lane: `Segment`, `Gap`, `Window`. Results: `Feature` to `DeadLetter`.
"""

from __future__ import annotations

from typing import TypeAlias

from pipeline.messages.inputs import (
    NS,
    Anchor,
    Chunk,
    Context,
    Decision,
    Image,
    Input,
    Mark,
    MarkReason,
    Modality,
    Rate,
    Samples,
    Stream,
    axis_names,
    machine_of,
    whole,
)
from pipeline.messages.inside import Float32, Gap, Segment, Span, Window
from pipeline.messages.results import (
    Alarm,
    DeadLetter,
    Embedding,
    Feature,
    Health,
    HealthState,
    Late,
    LateReason,
    MachineState,
    Record,
    Result,
    Score,
    result_id,
)

Message: TypeAlias = Input | Segment | Gap | Window | Result

__all__ = [
    "NS",
    "Alarm",
    "Anchor",
    "Chunk",
    "Context",
    "DeadLetter",
    "Decision",
    "Embedding",
    "Feature",
    "Float32",
    "Gap",
    "Health",
    "HealthState",
    "Image",
    "Input",
    "Late",
    "LateReason",
    "MachineState",
    "Mark",
    "MarkReason",
    "Message",
    "Modality",
    "Rate",
    "Record",
    "Result",
    "Samples",
    "Score",
    "Segment",
    "Span",
    "Stream",
    "Window",
    "axis_names",
    "machine_of",
    "result_id",
    "whole",
]
