"""One drill in one hole: entry, steady cutting, exit; wear, chipping, fracture with what follows it.

The excitation is noise whose level both lips modulate, e(t) = [1 + a cos(4 pi f_r t)] noise(t), through the modes of
bit and holder. Level follows thrust K d f^0.8 and torque K d^1.8 f^0.8 of twist drills. A fracture is an impulse that
rises within a millisecond and rings for a few, after which that bit no longer cuts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from typing import Literal

import numpy as np

from connectors.simulator.modes import Modes
from connectors.simulator.seeds import generator, uniform
from connectors.simulator.tracks import Float64

Fault = Literal["none", "worn", "chipped", "fracture", "broken"]

_REFERENCE_DIAMETER_M = 6e-3
_REFERENCE_FEED_M = 0.1e-3


@dataclass(frozen=True, slots=True)
class Bit:
    """A drill bit and its work.

    Attributes:
        diameter_m: of the bit in m.
        feed_m: per revolution in m.
        rpm: spindle speed.
        lips: depth a of the modulation by the two lips, 0.2-0.6.
        modes: bit (2-12 kHz) and holder (0.5-2 kHz).
        jams_per_s: mean rate of chip-jam bursts, 2-10 /s.
        worn_db: level rise between 2 and 8 kHz by wear, 0-3.
    """

    diameter_m: float
    feed_m: float
    rpm: float
    lips: float
    modes: Modes
    jams_per_s: float
    worn_db: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Bit:
        """A bit of 2-10 mm at a usual cutting speed."""
        diameter = uniform(rng, 2e-3, 10e-3)
        bit = Modes.draw(rng, 4, (2000.0, 12_000.0), (0.008, 0.03), direct=0.1)
        holder = Modes.draw(rng, 2, (500.0, 2000.0), (0.01, 0.03))
        modes = Modes(bit.f_hz + holder.f_hz, bit.zeta + holder.zeta, bit.gain + holder.gain, bit.direct)
        speed = uniform(rng, 0.8, 1.5)  # m/s at the circumference
        return cls(
            diameter_m=diameter,
            feed_m=diameter * uniform(rng, 0.012, 0.025),
            rpm=60.0 * speed / (pi * diameter),
            lips=uniform(rng, 0.2, 0.6),
            modes=modes,
            jams_per_s=uniform(rng, 2.0, 10.0),
        )

    @property
    def level(self) -> float:
        """Level of steady cutting against a 6 mm bit at 0.1 mm per revolution."""
        return float((self.diameter_m / _REFERENCE_DIAMETER_M) * (self.feed_m / _REFERENCE_FEED_M) ** 0.8)


@dataclass(frozen=True, slots=True)
class Hole:
    """Times of one hole in s from the start of its recording: the bit touches, is fully in, breaks through, is out."""

    touch_s: float
    full_s: float
    through_s: float
    out_s: float

    @classmethod
    def draw(cls, rng: np.random.Generator, length_s: float, bit: Bit) -> Hole:
        """A hole that fills most of `length_s`, with the entry lasting for the length of the bit's point."""
        touch = length_s * uniform(rng, 0.08, 0.2)
        entry = 0.3 * bit.diameter_m / (bit.feed_m * bit.rpm / 60.0)
        full = touch + min(max(entry, 0.05), 0.15 * length_s)
        through = length_s * uniform(rng, 0.7, 0.82)
        return cls(touch, full, through, through + length_s * uniform(rng, 0.03, 0.08))

    def envelope(self, t: Float64) -> Float64:
        """Share of the full cutting level at times `t`."""
        corners = [self.touch_s, self.full_s, self.through_s, self.out_s]
        share: Float64 = np.interp(t, corners, [0.0, 1.0, 1.0, 0.0])
        return share


@dataclass(frozen=True, slots=True)
class Damage:
    """What happens to the bit at `t_s`.

    Attributes:
        fault: ``"chipped"`` or ``"fracture"``; ``"broken"`` for a bit that comes broken already.
        t_s: when, in s from the start of the recording.
        drop_db: change of the cutting noise from then on, -1..-6 for a chip and -10..-30 for a fracture.
        peak: height of the impulse against the level of steady cutting (rms), 5-20.
        rise_s: its rise, 0.2-1 ms.
        decay_s: its decay, 1-4 ms.
        rub_db: line at f_r and friction noise (2-6 kHz) of a stump that rubs, against steady cutting; None if clear.
        fragments_per_s: impacts of fragments that turn with the stump.
    """

    fault: Fault
    t_s: float
    drop_db: float
    peak: float
    rise_s: float
    decay_s: float
    rub_db: float | None
    fragments_per_s: float

    @classmethod
    def draw(cls, rng: np.random.Generator, fault: Fault, hole: Hole) -> Damage:
        """A damage at some time of full cutting (at 0 for a bit that comes broken)."""
        at = hole.full_s + (hole.through_s - hole.full_s) * uniform(rng, 0.1, 0.85)
        drop = uniform(rng, -6.0, -1.0) if fault == "chipped" else uniform(rng, -30.0, -10.0)
        rubs = fault != "chipped" and rng.random() < 0.5
        return cls(
            fault=fault,
            t_s=0.0 if fault == "broken" else at,
            drop_db=drop,
            peak=0.0 if fault == "broken" else uniform(rng, 5.0, 20.0) * (0.3 if fault == "chipped" else 1.0),
            rise_s=uniform(rng, 0.2e-3, 1e-3),
            decay_s=uniform(rng, 1e-3, 4e-3),
            rub_db=uniform(rng, -26.0, -14.0) if rubs else None,
            fragments_per_s=uniform(rng, 1.0, 8.0) if rubs else 0.0,
        )


def drill(bit: Bit, hole: Hole, damage: Damage | None, *, rate_hz: float, length: int, seed: int) -> Float64:
    """Dry sound of one hole.

    Args:
        bit: the bit.
        hole: when it cuts.
        damage: what happens to it, or None.
        rate_hz: samples per second; 96 kHz holds all modes.
        length: samples.
        seed: of all noise.

    Returns:
        Shape (length,), float64; steady cutting of a 6 mm bit at 0.1 mm per revolution has a standard deviation of 1.
    """
    t = np.arange(length) / rate_hz
    lost = np.ones(length)
    rng = generator(seed, "drill", "cutting")
    if damage is not None:
        lost[t >= damage.t_s] = 10.0 ** (damage.drop_db / 20.0)
    excitation = _cutting(bit, hole, t, rng, chipped=damage if damage and damage.fault == "chipped" else None) * lost
    excitation += _jams(bit, hole, t, rate_hz, generator(seed, "drill", "jams")) * lost
    unit = _unit(bit.modes, rate_hz)
    out = bit.modes.apply(excitation, rate_hz) * (bit.level / unit)
    if bit.worn_db > 0.0:
        band = Modes((3000.0, 5500.0), (0.3, 0.3), (1.0, 1.0))
        out += (10.0 ** (bit.worn_db / 20.0) - 1.0) * band.apply(out, rate_hz)
    if damage is not None and damage.peak > 0.0:
        burst = _burst(t - damage.t_s, damage, generator(seed, "drill", "burst"))
        ringing = bit.modes.apply(burst, rate_hz)
        out += ringing * (damage.peak * bit.level / max(float(np.max(np.abs(ringing))), 1e-12))
    if damage is not None and damage.rub_db is not None:
        out += _rubbing(bit, hole, damage, t, rate_hz, generator(seed, "drill", "rubbing"))
    return out


def worn(bit: Bit, share: float) -> Bit:
    """The bit after `share` (0-1) of its life: up to 3 dB more between 2 and 8 kHz, and some more level."""
    return replace(bit, worn_db=3.0 * share, feed_m=bit.feed_m * (1.0 + 0.1 * share))


def _cutting(bit: Bit, hole: Hole, t: Float64, rng: np.random.Generator, chipped: Damage | None) -> Float64:
    turn = 2.0 * pi * bit.rpm / 60.0 * t + rng.uniform(0.0, 2.0 * pi)
    modulation = 1.0 + bit.lips * np.cos(2.0 * turn)
    entering = (t >= hole.touch_s) & (t < hole.full_s)
    modulation += np.where(entering, 0.5 * np.cos(3.0 * turn), 0.0)
    if chipped is not None:  # one lip works more than the other
        modulation += np.where(t >= chipped.t_s, 0.6 * bit.lips * np.cos(turn), 0.0)
    noise = rng.standard_normal(len(t), dtype=np.float32)
    exiting = 1.0 + 1.5 * np.exp(-(((t - hole.through_s) / 0.015) ** 2))
    cutting: Float64 = hole.envelope(t) * modulation * exiting * noise
    return cutting


def _jams(bit: Bit, hole: Hole, t: Float64, rate_hz: float, rng: np.random.Generator) -> Float64:
    """Bursts of noise of 1-3 ms at random times of the cut."""
    out = np.zeros(len(t))
    count = int(rng.poisson(bit.jams_per_s * (hole.through_s - hole.touch_s)))
    for start in rng.uniform(hole.touch_s, hole.through_s, count):
        n = int(rng.uniform(1e-3, 3e-3) * rate_hz)
        first = int(start * rate_hz)
        piece = out[first : first + n]
        piece += (rng.uniform(0.5, 2.5) * np.hanning(n) * rng.standard_normal(n))[: len(piece)]
    return out


def _burst(since: Float64, damage: Damage, rng: np.random.Generator) -> Float64:
    """Impulse of broad spectrum: linear rise, exponential decay."""
    near = (since >= 0.0) & (since < damage.rise_s + 8.0 * damage.decay_s)
    out = np.zeros(len(since))
    s = since[near]
    shape = np.where(s < damage.rise_s, s / damage.rise_s, np.exp(-(s - damage.rise_s) / damage.decay_s))
    out[near] = shape * (1.0 + rng.standard_normal(len(s)))
    return out


def _rubbing(bit: Bit, hole: Hole, damage: Damage, t: Float64, rate_hz: float, rng: np.random.Generator) -> Float64:
    """Friction of the stump, once per turn, and fragments that knock."""
    assert damage.rub_db is not None
    on = ((t >= damage.t_s) & (t >= hole.touch_s) & (t < hole.out_s)).astype(np.float64)
    turn = 2.0 * pi * bit.rpm / 60.0 * t + rng.uniform(0.0, 2.0 * pi)
    friction = Modes((2800.0, 4500.0), (0.2, 0.2), (1.0, 1.0)).apply(rng.standard_normal(len(t)), rate_hz)
    friction /= float(np.std(friction))
    level = bit.level * 10.0 ** (damage.rub_db / 20.0)
    out: Float64 = level * on * ((1.0 + 0.7 * np.cos(turn)) * friction + 2.0 * np.cos(turn))
    knocks = np.zeros(len(t))
    first, last = max(damage.t_s, hole.touch_s), hole.out_s
    for at in rng.uniform(first, last, int(rng.poisson(damage.fragments_per_s * (last - first)))):
        knocks[min(int(at * rate_hz), len(t) - 1)] = rng.uniform(0.5, 1.0)
    ringing = bit.modes.apply(knocks, rate_hz)
    return out + ringing * (2.0 * bit.level / max(float(np.max(np.abs(ringing))), 1e-12))


def _unit(modes: Modes, rate_hz: float) -> float:
    """Standard deviation of the modes' response to white noise of standard deviation 1."""
    impulse = np.zeros(8192)
    impulse[0] = 1.0
    return float(np.sqrt(np.sum(modes.apply(impulse, rate_hz) ** 2)))
