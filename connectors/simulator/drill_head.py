"""A head of many drills, heard by four microphones: one silent bit of ninety changes the level by 0.05 dB.

`drill_head` makes the dry clips of the drill paper's layout; whole strokes with jamming chips, reflections and
background are in `head_stroke`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from connectors.simulator.drilling import Bit, Damage, Hole, drill
from connectors.simulator.modes import Modes
from connectors.simulator.seeds import generator
from connectors.simulator.tracks import Float64

_SOUND_SPEED = 343.0
_LOTS = 5
_OFF = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1), (0, -1), (0, 1), (-1, 0), (1, 0)], np.float64)
"""Directions from the middle of the head to its microphones."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Where the bits and the microphones are.

    Attributes:
        positions_m: of the bits, shape (bits, 2).
        microphones_m: shape (microphones, 2).
        speeds: speed of each spindle relative to the head's, within 0.5 %.
        lot: which of a few sets of modes each bit has, 0 to 4.
        bit: what all bits have in common.
        modes: of each lot.
    """

    positions_m: Float64
    microphones_m: Float64
    speeds: Float64
    lot: Float64
    bit: Bit
    modes: tuple[Modes, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator, bits: int = 90, microphones: int = 4) -> Head:
        """A rectangular head, ten bits a row, with microphones off its corners and, from the fifth on, its sides.

        Args:
            rng: chance.
            bits: of the head.
            microphones: 1 to 8; two are off opposite corners.
        """
        index = np.arange(bits)
        positions = np.stack([index % 10, index // 10], axis=1).astype(np.float64) * 0.05
        width, height = positions.max(axis=0)
        off = _OFF[[0, 3]] if microphones == 2 else _OFF[:microphones]
        outwards = off * rng.uniform(0.1, 0.4, (len(off), 2))
        lots = tuple(Modes.draw(rng, 6, (700.0, 12_000.0), (0.008, 0.03), direct=0.1) for _ in range(_LOTS))
        return cls(
            positions_m=positions,
            microphones_m=(off + 1.0) / 2.0 * [width, height] + outwards,
            speeds=1.0 + rng.uniform(-0.005, 0.005, bits),
            lot=rng.integers(0, _LOTS, bits).astype(np.float64),
            bit=Bit.draw(rng),
            modes=lots,
        )

    def paths(self) -> tuple[Float64, Float64]:
        """Gain (1 m / r) and delay in s from each bit to each microphone, both of shape (bits, microphones)."""
        r = np.linalg.norm(self.positions_m[:, None] - self.microphones_m[None], axis=2)
        return 1.0 / r, r / _SOUND_SPEED


@dataclass(frozen=True, slots=True)
class Break:
    """Which bit of a head is damaged, and how."""

    spindle: int
    damage: Damage


def drill_head(head: Head, hole: Hole, broken: Break | None, *, rate_hz: float, length: int, seed: int) -> Float64:
    """Sound of one stroke of a head at its four microphones, without background.

    Args:
        head: bits and microphones.
        hole: times of the stroke; all bits enter within a few milliseconds.
        broken: the bit that breaks in this stroke, or came broken, or None.
        rate_hz: samples per second.
        length: samples.
        seed: of all noise.

    Returns:
        Shape (length, microphones), float64; steady cutting has a standard deviation of about 1 at the mean microphone.
    """
    rng = generator(seed, "head", "phases")
    gains, delays = head.paths()
    scale = 1.0 / np.sqrt(float(np.mean(np.sum(gains**2, axis=0))))
    shifts = np.rint((delays - delays.min()) * rate_hz).astype(int)
    share = np.interp(
        np.arange(length) / rate_hz, [hole.touch_s, hole.full_s, hole.through_s, hole.out_s], [0.0, 1.0, 1.0, 0.0]
    ).astype(np.float32)
    turn = (2.0 * pi * head.bit.rpm / 30.0 / rate_hz) * np.arange(length)
    phases = rng.uniform(0.0, 2.0 * pi, len(gains))
    count = len(head.microphones_m)
    excitation = np.zeros((len(head.modes), count, length))
    for i in range(len(gains)):
        if broken is not None and i == broken.spindle:
            continue
        noise = generator(seed, "head", "cutting", i).standard_normal(length, dtype=np.float32)
        noise *= share * (1.0 + head.bit.lips * np.cos(turn * head.speeds[i] + phases[i])).astype(np.float32)
        for k in range(count):
            s = shifts[i, k]
            excitation[int(head.lot[i]), k, s:] += gains[i, k] * noise[: length - s]
    out = np.zeros((length, count))
    for lot, modes in enumerate(head.modes):
        impulse = modes.apply(np.concatenate([[1.0], np.zeros(8191)]), rate_hz)
        unit = float(np.sqrt(np.sum(impulse**2)))
        for k in range(count):
            out[:, k] += modes.apply(excitation[lot, k], rate_hz) * (scale / unit)
    if broken is not None:
        one = drill(head.bit, hole, broken.damage, rate_hz=rate_hz, length=length, seed=seed) / head.bit.level
        for k in range(count):
            s = shifts[broken.spindle, k]
            out[s:, k] += scale * gains[broken.spindle, k] * one[: length - s]
    return out
