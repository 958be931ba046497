"""Inputs of a lane: chunks, images, marks, contexts and decisions, and the streams that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from numpy.typing import NDArray

Modality: TypeAlias = Literal["acoustic", "stethoscope", "vibration", "frames"]
MarkReason: TypeAlias = Literal["silent", "end", "gap", "abandoned"]
Samples: TypeAlias = NDArray[Any]

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


def whole(told: str) -> str:
    """A state as a manifest writes it: "2" where a control tells the number 2.0; any other text as it is."""
    short = told.removesuffix(".0")
    return short if short.removeprefix("-").isdigit() else told


def axis_names(channels: int) -> tuple[str, ...]:
    """What people call a stream's channels: ``x, y, z`` for three of them, else ``ch0, ch1, ...``."""
    return ("x", "y", "z") if channels == 3 else tuple(f"ch{c}" for c in range(channels))


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

    `kind` is one of ``"baseline"``, ``"model"``, ``"abandon"``, ``"return"``. Where the body says in ``"since"`` how
    far each sensor had come (`Reach.saved`), it takes hold behind that: clocks that were set in between change nothing.
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

    def after_ns(self, sensor: str, epoch: int) -> int:
        """The event time behind which it holds for windows of a stream; -1 where it knew nothing of that stream yet."""
        since: Mapping[str, tuple[int, int, int]] | None = self.body.get("since")
        if since is None:
            return self.t_ns
        newest, t_ns, before_ns = since.get(sensor, (-2, 0, 0))
        return -1 if epoch > newest else t_ns if epoch == newest else before_ns


Input: TypeAlias = Chunk | Image | Mark | Context | Decision
UNPLACED = (Context, Decision)
"""Inputs of a machine that stand in no stream."""


def machine_of(message: Input) -> str:
    """The machine that an input belongs to."""
    return message.machine if isinstance(message, UNPLACED) else message.stream.machine
