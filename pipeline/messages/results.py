"""What leaves a lane: features, embeddings, scores, states, alarms, health, and what could not be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pipeline.messages.inputs import Anchor, Stream
from pipeline.messages.inside import Float32, Span

HealthState: TypeAlias = Literal["normal", "failure", "check_function", "out_of_specification", "maintenance_required"]
LateReason: TypeAlias = Literal["late", "duplicate", "overlap", "empty", "not_finite", "time_backwards", "clock_jump"]


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """Named numbers about a window of one or several sensors of a machine; the unit is part of the name."""

    machine: str
    sensors: tuple[str, ...]
    name: str
    t_end_ns: int
    values: Mapping[str, float]
    complete: bool = True
    lineage: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What an encoder makes of one window: float32 `values` of shape (k,).

    `detector` is ``"embedding"``, or ``"shadow.embedding"`` under the package that runs beside the active one. `model`
    is the package's name and version, for people; `settings` hashes package, features and pooling.
    """

    machine: str
    sensors: tuple[str, ...]
    detector: str
    t_end_ns: int
    values: Float32
    model: str
    settings: str
    lineage: tuple[Span, ...] = ()

    @property
    def id(self) -> str:
        """Deterministic name of the result: a repeat overwrites."""
        return result_id(self.machine, self.sensors, self.detector, self.t_end_ns, self.settings)


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """One detector's number for one window: high means abnormal, `threshold` is where it becomes so.

    `settings` hashes the detector's effective parameters, model and baseline; `reasons` tells a person why (which
    bands, how far). An incomplete score has no value and moves no counter.
    """

    machine: str
    sensors: tuple[str, ...]
    detector: str
    t_end_ns: int
    value: float
    threshold: float
    settings: str
    complete: bool = True
    reasons: Mapping[str, Any] = field(default_factory=dict)
    lineage: tuple[Span, ...] = ()

    @classmethod
    def of(
        cls, source: Feature | Embedding | Score, detector: str, value: float, threshold: float, settings: str,
        reasons: Mapping[str, Any], *, complete: bool = True,
    ) -> Score:  # fmt: skip
        """A detector's number for the window that `source` stands for: same machine, sensors, time and lineage."""
        return cls(
            source.machine, source.sensors, detector, source.t_end_ns, value, threshold, settings, complete, reasons,
            source.lineage,
        )  # fmt: skip

    @property
    def id(self) -> str:
        """Deterministic name of the result: a repeat overwrites."""
        return result_id(self.machine, self.sensors, self.detector, self.t_end_ns, self.settings)

    @property
    def abnormal(self) -> bool:
        """Whether the value exceeds its threshold."""
        return self.complete and self.value > self.threshold


@dataclass(frozen=True, slots=True, eq=False)
class MachineState:
    """The state that a machine was in up to `t_end_ns`, one transition or confirmation per record.

    `probability` is what the newest window's model gives this state, not-a-number where it gives none.
    """

    machine: str
    sensors: tuple[str, ...]
    detector: str
    t_end_ns: int
    state: str
    settings: str
    lineage: tuple[Span, ...] = ()
    probability: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Alarm:
    """One transition of an alarm; transitions are numbered from 0 within it."""

    machine: str
    sensors: tuple[str, ...]
    detector: str
    t_ns: int
    transition: Literal["raised", "cleared"]
    ordinal: int
    raised_ns: int
    severity: Literal["advisory", "warning", "critical"]
    text: str
    value: float
    threshold: float
    settings: str
    reasons: Mapping[str, Any] = field(default_factory=dict)
    lineage: tuple[Span, ...] = ()

    @property
    def condition(self) -> str:
        """What is watched: machine, sensors, detector."""
        return f"{self.machine}|{'+'.join(self.sensors)}|{self.detector}"

    @property
    def alarm(self) -> str:
        """Name of the alarm that this transition belongs to."""
        return f"{self.condition}|{self.raised_ns}"

    @property
    def id(self) -> str:
        """Deterministic name of the transition."""
        return f"{self.alarm}|{self.ordinal}"


@dataclass(frozen=True, slots=True, eq=False)
class Health:
    """A sensor's NAMUR NE 107 state from `t_ns` on, with the reasons for it."""

    machine: str
    sensor: str
    epoch: int
    t_ns: int
    state: HealthState
    reasons: tuple[str, ...]

    @property
    def id(self) -> str:
        """Deterministic name of the transition."""
        return f"{self.machine}|{self.sensor}|{self.epoch}|{self.t_ns}"


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Samples [n0, n1) that came too late, twice, or unusable; they are counted by reason and not used."""

    stream: Stream
    anchor: Anchor
    n0: int
    n1: int
    reason: LateReason


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """A message that could not be used, as it came, with the reason."""

    topic: str
    machine: str
    reason: str
    error: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A result as the durable `out` log keeps it, at place `seq`; one with an id already there replaces the older."""

    seq: int
    topic: str
    machine: str
    t_ns: int
    id: str
    body: Mapping[str, Any]


Result: TypeAlias = Feature | Embedding | Score | MachineState | Alarm | Health | Late | DeadLetter


def result_id(machine: str, sensors: tuple[str, ...], detector: str, t_end_ns: int, settings: str) -> str:
    """The name of a result, ``machine|sensors|detector|t_end_ns|h``."""
    return f"{machine}|{'+'.join(sensors)}|{detector}|{t_end_ns}|{settings}"
