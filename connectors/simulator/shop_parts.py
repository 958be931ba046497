"""What the machines of the simulated shop have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from connectors.simulator.tracks import Track
from pipeline.messages import Modality, Rate, Samples


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """A sensor of the shop.

    Attributes:
        machine: whose it is.
        name: its own.
        modality: what it hears.
        rate_hz: samples per second.
        chunk: samples per message.
        dtype: numpy's code of the samples.
        unit: of samples × scale.
        scale: unit per step.
        track: the samples, before they take the type.
    """

    machine: str
    name: str
    modality: Modality
    rate_hz: int
    chunk: int
    dtype: str
    unit: str
    scale: float
    track: Track

    @property
    def channels(self) -> int:
        """Columns of the samples."""
        return int(np.atleast_2d(self.track.read(0, 1)).shape[1])

    @property
    def rate(self) -> Rate:
        """Samples per second."""
        return Rate(self.rate_hz)

    def read(self, n0: int, n1: int) -> Samples:
        """Samples [n0, n1) in the type of the wire, shape (n, channels)."""
        x = self.track.read(n0, n1)
        return np.ascontiguousarray(x.reshape(n1 - n0, -1).astype(self.dtype))


@dataclass(frozen=True, slots=True)
class Truth:
    """Something that happened, in s from the start of the shop.

    Attributes:
        machine: where.
        event: ``"chatter"``, ``"drill_break"`` or ``"bearing_fault"``.
        onset_s: when it began.
        end_s: when it was over (part done, bit changed); infinite for what lasts.
        more: numbers that belong to it.
    """

    machine: str
    event: str
    onset_s: float
    end_s: float
    more: dict[str, float | str] = field(default_factory=dict)


class Fact(NamedTuple):
    """A slow fact at a time in s: its name and value."""

    t_s: float
    name: str
    value: float | str
