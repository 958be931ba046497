"""The table of topics: what may flow where. Checked by tests, printed into the README by `stethos topics --markdown`.

`log` topics are inputs: durable, replayed, recorded. `out` topics are results: durable, never read back by the lane
that wrote them. `wire` topics stay inside the process. Every topic is keyed by the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline import messages as m

TopicKind = Literal["log", "out", "wire"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table.

    Attributes:
        name: the topic's name, also on Kafka.
        kind: `log`, `out` or `wire`.
        carries: the message types that flow here.
        text: what it is, for people.
        rate_hz: messages a second of one sensor or machine, about; 0 where they come when something happens. For people
            and for `stethos topics --json`: nothing here depends on it.
        max_age_s: silence that would be odd while a machine is watched, likewise; 0 where silence is normal. What marks
            and health go by is `STALE_S` and `ABANDON_S`.
        retention_h: how long the topic's records are kept; 0 for topics that are not kept.
    """

    name: str
    kind: TopicKind
    carries: tuple[type, ...]
    text: str
    rate_hz: float = 0.0
    max_age_s: float = 0.0
    retention_h: int = 0


STALE_S = 2.0
"""A live sensor that has been silent this long is told so by a mark in its stream, and again every second."""

ABANDON_S = 10.0
"""A sensor of the inventory that has not been heard of for this long is abandoned by a recorded mark."""

TOPICS: tuple[Topic, ...] = (
    Topic("raw.acoustic", "log", (m.Chunk, m.Mark), "microphones, as they sampled", 10.0, STALE_S, 72),
    Topic("raw.stethoscope", "log", (m.Chunk, m.Mark), "stethoscope microphones", 10.0, STALE_S, 72),
    Topic("raw.vibration", "log", (m.Chunk, m.Mark), "accelerometers", 10.0, STALE_S, 72),
    Topic("raw.frames", "log", (m.Image, m.Mark), "camera frames, encoded", 5.0, STALE_S, 24),
    Topic("context", "log", (m.Context,), "spindle speed, tool, program, operating state", 1.0, 10.0, 72),
    Topic("decision", "log", (m.Decision,), "choices that the data do not determine", retention_h=8760),
    Topic("wire.samples", "wire", (m.Segment, m.Gap), "consecutive samples in SI units, gaps stated"),
    Topic("wire.resampled", "wire", (m.Segment, m.Gap), "sound at 48 kHz"),
    Topic("wire.window", "wire", (m.Window,), "one-second windows of samples"),
    Topic("wire.logmel", "wire", (m.Window,), "log-Mel images, 128 frames of sound or 1 s of vibration"),
    Topic("wire.embedding", "wire", (m.Window,), "embeddings as vectors, for detectors that read them"),
    Topic("wire.alignment", "wire", (m.Feature,), "single estimates of the delay between two sensors"),
    Topic("wire.chatter", "wire", (m.Feature,), "chatter indicators of every 10 ms"),
    Topic("wire.drill", "wire", (m.Feature,), "band levels and bursts of every 5 ms"),
    Topic("wire.head", "wire", (m.Feature,), "bursts and shares of the bits of a drilling head, every 50 ms"),
    Topic("wire.severity", "wire", (m.Feature,), "RMS velocity and ISO zone of each second"),
    Topic("wire.quality", "wire", (m.Feature,), "what a sensor's samples say about the sensor"),
    Topic("feature", "out", (m.Feature,), "named numbers about a window", 1.0, 10.0, 72),
    Topic("embedding", "out", (m.Embedding,), "what an encoder makes of a window", retention_h=72),
    Topic("score", "out", (m.Score,), "a detector's number for a window, with its threshold", 2.0, 10.0, 720),
    Topic("machine_state", "out", (m.MachineState,), "states of machines as learned heads see them", retention_h=8760),
    Topic("alarm", "out", (m.Alarm,), "transitions of alarms", retention_h=8760),
    Topic("health", "out", (m.Health,), "transitions of sensors' NAMUR NE 107 states", retention_h=8760),
    Topic("late", "out", (m.Late,), "samples that could not be used, with the reason", retention_h=72),
    Topic("dlq", "out", (m.DeadLetter,), "messages that could not be used, as they came", retention_h=720),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}

RAW_OF: dict[str, str] = {
    "acoustic": "raw.acoustic",
    "stethoscope": "raw.stethoscope",
    "vibration": "raw.vibration",
    "frames": "raw.frames",
}
"""The topic that a modality's chunks and marks flow through."""


def markdown() -> str:
    """The table as Markdown, for the README."""
    lines = ["| topic | kind | carries | what |", "|---|---|---|---|"]
    lines += [
        f"| `{topic.name}` | {topic.kind} | {', '.join(kind.__name__ for kind in topic.carries)} | {topic.text} |"
        for topic in TOPICS
    ]
    return "\n".join(lines)
