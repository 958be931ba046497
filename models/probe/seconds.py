"""Recordings as one-second clips at 48 kHz with their log-Mel, for probes and heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.anomaly.chain import to_sound_rate
from operators.logmel import clip
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.messages import NS, Float32, Segment, Stream

LENGTH = 48_000
SHORTEST_TAIL_S = 0.5
"""A shorter rest of a recording is left out; DINOS keeps any, filled with zeros."""
CLIPPED_SHARE = 0.001
"""Share of samples at full scale from which on a clip counts as clipped."""
_LIMIT = 0.999


class Part(Protocol):
    """An uninterrupted stretch of a recording, whose segments may reach beyond it on both sides."""

    @property
    def stream(self) -> Stream:
        """The sensor's stream."""

    @property
    def samples(self) -> int:
        """Its length; sample 0 is its first."""

    @property
    def t0_ns(self) -> int:
        """Time of its first sample from the beginning of the recording."""

    def segments(self) -> Iterable[Segment]:
        """Its samples and a mirrored margin."""


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """One clip.

    Attributes:
        start_s: where it begins in the recording.
        samples: mono, 48 kHz, float32 (48000,), filled with zeros at the recording's end.
        image: log-Mel of front end `PAPER`, float32 (128, 128).
        silent: whether it holds nothing but digital silence; its image is meaningless.
        clipped: whether more than `CLIPPED_SHARE` of its samples lie at full scale.
    """

    start_s: float
    samples: Float32
    image: Float32
    silent: bool
    clipped: bool


def seconds(part: Part, shortest_tail_s: float = SHORTEST_TAIL_S) -> Iterator[Second]:
    """Cut a part into clips; the last one is filled with zeros, or left out where it is shorter than told.

    Raises:
        BadInput: it is no sound, or of a rate that cannot be resampled.
    """
    if part.stream.modality not in {"acoustic", "stethoscope"}:
        raise BadInput("modality", f"a recording of modality '{part.stream.modality}' is no sound; encoders hear sound")
    rate = part.stream.rate
    total = -(-part.samples * LENGTH * rate.den // rate.num)
    limits = _Limits(part.stream)
    for number, x in enumerate(_blocks(part, limits, total)):
        start_s = part.t0_ns / NS + number
        if len(x) < min(shortest_tail_s * LENGTH, total):
            return
        mono = x.mean(axis=1, dtype=np.float32) if x.shape[1] > 1 else x[:, 0]
        made = clip(mono, float(LENGTH), PAPER)
        padded = np.pad(mono, (0, LENGTH - len(mono)))
        yield Second(start_s, padded, made.values, bool(made.side["silent"]), limits.share(number) > CLIPPED_SHARE)


class _Limits:
    """How many of the sensor's own samples lie at full scale, second by second."""

    def __init__(self, stream: Stream) -> None:
        self._rate = stream.rate
        self._limit = _LIMIT if stream.unit == "FS" else np.inf
        self._counts: dict[int, int] = {}

    def take(self, segment: Segment) -> None:
        hit = np.flatnonzero((np.abs(segment.x) >= self._limit).any(axis=1))
        for number in ((segment.n0 + hit) * self._rate.den // self._rate.num).tolist():
            self._counts[number] = self._counts.get(number, 0) + 1

    def share(self, number: int) -> float:
        return self._counts.get(number, 0) / self._rate.hz


def _blocks(part: Part, limits: _Limits, total: int) -> Iterator[Float32]:
    """Resampled samples [0, total) in blocks of one second; the last may be shorter."""
    resample = to_sound_rate(part.stream)
    held: list[Float32] = []
    have = 0
    for segment in part.segments():
        limits.take(segment)
        for out in resample.process(segment):
            if not isinstance(out, Segment):
                continue
            x = out.x[max(0, -out.n0) : max(0, total - out.n0)]
            held.append(np.asarray(x, np.float32))
            have += len(x)
            if have < LENGTH:
                continue
            whole = np.concatenate(held)
            for at in range(0, have - LENGTH + 1, LENGTH):
                yield whole[at : at + LENGTH]
            held = [whole[have - have % LENGTH :]]
            have %= LENGTH
    if have:
        yield np.concatenate(held)
