"""What flows: frozen messages, all times in integer nanoseconds since 1970, all quantities in SI units unless named.

Time is a sample index. A stream's sample n lies at ``anchor.t_ns + floor((n - anchor.n) * 1e9 * den / num)`` for the
rational rate num/den (samples per second). Intervals are half-open: [n0, n1). Arrays of samples have the shape
(samples, channels).
Inputs: `Chunk` to `Decision`. Inside a lane: `Segment`, `Gap`, `Window`. Results: `Feature` to `DeadLetter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Modality: TypeAlias = Literal["acoustic", "stethoscope", "vibration", "frames"]
MarkReason: TypeAlias = Literal["silent", "end", "gap", "abandoned"]
HealthState: TypeAlias = Literal["normal", "failure", "check_function", "out_of_specification", "maintenance_required"]
LateReason: TypeAlias = Literal["late", "duplicate", "overlap", "empty", "not_finite", "time_backwards", "clock_jump"]
Samples: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]

NS = 1_000_000_000


class Rate(NamedTuple):
    """Samples per second as an exact ratio."""

    num: int
    den: int = 1

    @property
    def hz(self) -> float:
        """The rate in hertz."""
        return self.num / self.den


class Anchor(NamedTuple):
    """A fixed point of a stream: its sample `n` was taken at `t_ns`."""

    n: int
    t_ns: int

    def at(self, n: int, rate: Rate) -> int:
        """Event time of sample `n` in nanoseconds, rounded down."""
        return self.t_ns + (n - self.n) * NS * rate.den // rate.num


@dataclass(frozen=True, slots=True)
class Stream:
    """What does not change in one sensor's data between its start and its restart.

    `epoch` numbers the restarts. `unit` is that of ``samples * scale`` (``"Pa"``, ``"FS"`` for full scale, ``"m/s2"``,
    ``"image"``); `dtype` numpy's code of the samples (``"<i2"``, ``"<i4"``, ``"<f4"``) or an image's media type.
    """

    machine: str
    sensor: str
    epoch: int
    modality: Modality
    rate: Rate
    channels: int
    dtype: str
    unit: str
    scale: float = 1.0

    @property
    def key(self) -> tuple[str, int]:
        """(sensor, epoch): the stream within its machine."""
        return (self.sensor, self.epoch)


class _Placed:
    """Times of what stands at [n0, n1) of a stream."""

    __slots__ = ()

    stream: Stream
    anchor: Anchor
    n0: int
    n1: Any

    @property
    def t0_ns(self) -> int:
        """Event time of the first sample."""
        return self.anchor.at(self.n0, self.stream.rate)

    @property
    def t1_ns(self) -> int:
        """Event time of the sample after the last one."""
        return self.anchor.at(self.n1, self.stream.rate)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk(_Placed):
    """A run of samples as a sensor published it; `samples` has the stream's dtype and shape (n, channels)."""

    stream: Stream
    anchor: Anchor
    n0: int
    seq: int
    samples: Samples

    @property
    def n1(self) -> int:
        """Index after the last sample."""
        return self.n0 + len(self.samples)

    @property
    def nbytes(self) -> int:
        """Size of the payload in bytes."""
        return int(self.samples.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Image(_Placed):
    """One encoded frame of a camera; frames are counted like samples, at the camera's nominal rate."""

    stream: Stream
    anchor: Anchor
    n0: int
    seq: int
    data: bytes

    @property
    def n1(self) -> int:
        """Index of the next frame."""
        return self.n0 + 1

    @property
    def nbytes(self) -> int:
        """Size of the payload in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Mark(_Placed):
    """A statement in the stream that there is nothing in [n0, n1); ``reason="end"`` ends the stream at n1."""

    stream: Stream
    anchor: Anchor
    n0: int
    n1: int
    reason: MarkReason

    nbytes = 0


@dataclass(frozen=True, slots=True)
class Context:
    """A slowly changing fact about a machine: spindle speed, tool, program, operating state."""

    machine: str
    name: str
    t_ns: int
    value: float | str

    nbytes = 0

    @property
    def t1_ns(self) -> int:
        """Event time of the statement."""
        return self.t_ns


@dataclass(frozen=True, slots=True)
class Decision:
    """A durable record of a choice that the data do not determine; it takes hold for windows that end after `t_ns`.

    `kind` is one of ``"baseline"``, ``"configuration"``, ``"abandon"``, ``"return"``, ``"shed"``, ``"model"``.
    """

    machine: str
    id: str
    t_ns: int
    kind: str
    body: Mapping[str, Any]

    nbytes = 0

    @property
    def t1_ns(self) -> int:
        """Event time after which the decision holds."""
        return self.t_ns


Input: TypeAlias = Chunk | Image | Mark | Context | Decision


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
    """The state that a machine was in up to `t_end_ns`, one transition or confirmation per record."""

    machine: str
    sensors: tuple[str, ...]
    detector: str
    t_end_ns: int
    state: str
    settings: str
    lineage: tuple[Span, ...] = ()


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


Result: TypeAlias = Feature | Score | MachineState | Alarm | Health | Late | DeadLetter
Message: TypeAlias = Input | Segment | Gap | Window | Result


def result_id(machine: str, sensors: tuple[str, ...], detector: str, t_end_ns: int, settings: str) -> str:
    """The name of a result, ``machine|sensors|detector|t_end_ns|h``."""
    return f"{machine}|{'+'.join(sensors)}|{detector}|{t_end_ns}|{settings}"
