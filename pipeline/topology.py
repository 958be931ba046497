"""The graph of stages as data: which operator reads and writes which topics. Importing it runs nothing.

`stethos graph` draws it, `check` proves it sound at start-up, and both engines run it through the same lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from operators.base import Stateful, Windowed
from pipeline import stages, stages_drift, stages_head, stages_models, stages_physics, stages_spindle
from pipeline.messages import Stream
from pipeline.stages import LaneSettings
from pipeline.topics import BY_NAME

Make = Callable[[LaneSettings, Stream | None], Windowed | Stateful | None]
"""Builds a stage's operator for a stream (`scope="stream"`) or a machine (None), or None where it does not apply."""

SOUND = frozenset({"acoustic", "stethoscope"})
VIBRATION = frozenset({"vibration"})
SAMPLES = SOUND | VIBRATION


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the graph.

    Attributes:
        name: of the stage, in metrics and dead letters.
        kind: `windowed` operators are rebuilt from the log, `stateful` ones resume from their snapshot.
        scope: one operator per `stream`, per `machine`, or per `condition` (sensors and detector of its input).
        reads: topics whose messages the operator takes.
        writes: topics that its results go to, by their type.
        make: builds the operator.
        modalities: of the streams that the stage looks at.
        text: what it does, for people.
        learns: whether its operators learn levels, so that under another rate, unit or number of channels of the sensor
            they must begin anew.
    """

    name: str
    kind: Literal["windowed", "stateful"]
    scope: Literal["stream", "machine", "condition"]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    make: Make
    modalities: frozenset[str]
    text: str
    learns: bool = False


STAGES: tuple[Stage, ...] = (
    Stage(
        "sequence", "windowed", "stream", ("raw.acoustic", "raw.stethoscope", "raw.vibration"),
        ("wire.samples", "late"), stages.sequence, SAMPLES, "puts chunks end to end, states gaps",
    ),
    Stage(
        "resample", "windowed", "stream", ("wire.samples",), ("wire.resampled",), stages.resample, SOUND,
        "brings sound to 48 kHz",
    ),
    Stage(
        "quality", "windowed", "stream", ("wire.samples",), ("wire.quality",), stages.quality, SAMPLES,
        "asks the samples about the sensor: clipped, flat, silent, offset, missing",
    ),
    Stage(
        "sensor_health", "stateful", "condition", ("wire.quality",), ("health",), stages.sensor_health, SAMPLES,
        "NAMUR NE 107 state of a sensor",
    ),
    Stage(
        "logmel", "windowed", "stream", ("wire.resampled",), ("wire.logmel",), stages.logmel, SOUND,
        "128 × 128 log-Mel image of about a second, twice a second",
    ),
    Stage(
        "logmel_vibration", "windowed", "stream", ("wire.samples",), ("wire.logmel",), stages.logmel_vibration,
        VIBRATION, "64-band log-Mel image of a second, per axis",
    ),
    Stage(
        "window", "windowed", "stream", ("wire.samples",), ("wire.window",), stages.window, VIBRATION,
        "one-second windows of samples",
    ),
    Stage(
        "vibration", "windowed", "stream", ("wire.window",), ("feature",), stages.vibration, VIBRATION,
        "RMS, peak, crest, spectral kurtosis and TKEO per axis",
    ),
    Stage(
        "severity", "windowed", "stream", ("wire.window",), ("wire.severity",), stages.severity, VIBRATION,
        "RMS velocity and ISO 10816-3 zone",
    ),
    Stage(
        "severity_alarm", "stateful", "condition", ("wire.severity",), ("feature", "score"),
        stages_physics.severity_alarm, VIBRATION, "RMS velocity against the baseline and a quarter of the B/C limit",
    ),
    Stage(
        "level", "windowed", "stream", ("wire.logmel",), ("feature",), stages.level, SOUND,
        "level, crest, kurtosis and octave bands of sound",
    ),
    Stage(
        "anomaly", "windowed", "stream", ("wire.logmel",), ("score",), stages.anomaly, SAMPLES,
        "distance from the commissioned normal",
    ),
    Stage(
        "anomaly_slow", "windowed", "stream", ("wire.window",), ("score",), stages.anomaly_slow, VIBRATION,
        "the same for sensors too slow for a log-Mel",
    ),
    Stage(
        "embedding", "windowed", "stream", ("wire.logmel",), ("wire.embedding", "embedding", "dlq"),
        stages_models.embedding, SOUND, "what an encoder makes of every n-th image, micro-batched across machines",
    ),
    Stage(
        "embedding_vibration", "windowed", "stream", ("wire.logmel",), ("embedding", "dlq"),
        stages_models.embedding_vibration, VIBRATION, "what heads on vibration read of every n-th window",
    ),
    Stage(
        "embedding_slow", "windowed", "stream", ("wire.window",), ("embedding", "dlq"), stages_models.embedding_slow,
        VIBRATION, "the same for sensors too slow for a log-Mel",
    ),
    Stage(
        "anomaly_embedding", "windowed", "stream", ("wire.embedding",), ("score",), stages_models.anomaly_embedding,
        SOUND, "distance of the embedding from the commissioned normal, where commissioning found it worth",
    ),
    Stage(
        "states", "stateful", "condition", ("embedding",), ("machine_state", "score", "feature"), stages_models.states,
        SAMPLES, "state of the machine and class scores from the embedding, a shadow beside them",
    ),
    Stage(
        "air_run", "windowed", "stream", ("wire.samples",), ("feature",), stages_spindle.air_run, SAMPLES,
        "speed of the spindle while it turns without cutting, stated for the stages behind",
    ),
    Stage(
        "chatter", "windowed", "stream", ("wire.samples",), ("wire.chatter",), stages_physics.chatter, SAMPLES,
        "chatter indicators of thirteen revolutions, every 10 ms",
    ),
    Stage(
        "chatter_detector", "stateful", "condition", ("wire.chatter",), ("score",), stages_physics.chatter_detector,
        SAMPLES, "chatter against the baseline of its operating point, with advice", learns=True,
    ),
    Stage(
        "drill", "windowed", "stream", ("wire.samples",), ("wire.drill",), stages_physics.drill, SAMPLES,
        "band levels and bursts of every 5 ms",
    ),
    Stage(
        "drill_detector", "stateful", "condition", ("wire.drill",), ("score",), stages_physics.drill_detector, SAMPLES,
        "drill break, missing tool and wear against the template of good holes", learns=True,
    ),
    Stage(
        "head", "windowed", "stream", ("wire.samples",), ("wire.head",), stages_head.head, SOUND,
        "bursts and shares of each bit of a drilling head, by several microphones, every 50 ms",
    ),
    Stage(
        "head_detector", "stateful", "condition", ("wire.head",), ("score",), stages_head.head_detector, SOUND,
        "which bit of a head broke, and which one is silent stroke after stroke", learns=True,
    ),
    Stage(
        "bearing", "windowed", "stream", ("wire.samples",), ("score",), stages_physics.bearing, SAMPLES,
        "fault lines in the squared-envelope spectrum of the most impulsive band",
    ),
    Stage(
        "drift", "stateful", "condition", ("score",), ("score",), stages_drift.drift, SAMPLES,
        "cumulative sum of minutes above the commissioned normal",
    ),
    Stage(
        "persistence", "stateful", "condition", ("score",), ("alarm",), stages_physics.persistence, SAMPLES,
        "k of n scores raise an alarm, hysteresis clears it",
    ),
    Stage(
        "align", "windowed", "machine", ("wire.samples",), ("wire.alignment",), stages.align, SAMPLES,
        "delay between sensors by envelope cross-correlation",
    ),
    Stage(
        "alignment", "stateful", "machine", ("wire.alignment",), ("feature",), stages.alignment, SAMPLES,
        "median delay, drift and alignment error",
    ),
)  # fmt: skip


def check() -> list[str]:
    """Everything that is wrong with the graph; empty when it is sound."""
    wrong: list[str] = []
    written = {topic for stage in STAGES for topic in stage.writes}
    seen: set[str] = set()
    for stage in STAGES:
        wrong += [f"{stage.name}: unknown topic {t}" for t in (*stage.reads, *stage.writes) if t not in BY_NAME]
        wrong += [
            f"{stage.name}: reads {t}, which nothing writes"
            for t in stage.reads
            if BY_NAME[t].kind == "wire" and t not in written
        ]
        wrong += [
            f"{stage.name}: reads result topic {t}"
            for t in stage.reads
            if stage.kind == "windowed" and BY_NAME[t].kind == "out"
        ]
        wrong += [
            f"{stage.name}: reads {t} before it is written" for t in stage.reads if t in written and t not in seen
        ]
        seen |= set(stage.writes)
    names = [stage.name for stage in STAGES]
    wrong += [f"stage name {name} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return wrong


def mermaid() -> str:
    """The graph as a Mermaid diagram."""
    lines = ["flowchart LR"]
    topics = {topic for stage in STAGES for topic in (*stage.reads, *stage.writes)}
    for name in sorted(topics):
        shape = {"log": ("[(", ")]"), "out": ("([", "])"), "wire": ("[", "]")}[BY_NAME[name].kind]
        lines.append(f'  {_id(name)}{shape[0]}"{name}"{shape[1]}')
    for stage in STAGES:
        frame = ("[[", "]]") if stage.kind == "stateful" else ("{{", "}}")
        lines.append(f'  s_{stage.name}{frame[0]}"{stage.name}"{frame[1]}')
        lines += [f"  {_id(topic)} --> s_{stage.name}" for topic in stage.reads]
        lines += [f"  s_{stage.name} --> {_id(topic)}" for topic in stage.writes]
    return "\n".join(lines)


def _id(topic: str) -> str:
    return "t_" + topic.replace(".", "_")
