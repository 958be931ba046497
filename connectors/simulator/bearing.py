"""Vibration of a motor with a rolling bearing and a gear: shaft lines, impulses of a local fault, noise.

x(t) = sum_i A_i s(t - i T_f - d_i) + noise(t), with s a decaying sine of the structure and d_i a random walk, because
rolling elements slip (after McFadden and Smith, J. Sound Vib. 96, 1984; Antoni and Randall, J. Vib. Acoust. 125, 2003).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import generator, uniform
from connectors.simulator.tracks import Float64

BearingFault = Literal["outer_race", "inner_race", "ball", "gear_tooth"]


class Geometry(NamedTuple):
    """A rolling bearing: number of rolling elements, their diameter over the pitch diameter, contact angle in rad."""

    balls: int
    ratio: float
    angle_rad: float = 0.0

    @property
    def bpfo(self) -> float:
        """Ball passes of the outer race per revolution: (z/2) (1 - d/D cos a)."""
        return self.balls / 2.0 * (1.0 - self.ratio * cos(self.angle_rad))

    @property
    def bpfi(self) -> float:
        """Ball passes of the inner race per revolution: (z/2) (1 + d/D cos a)."""
        return self.balls / 2.0 * (1.0 + self.ratio * cos(self.angle_rad))

    @property
    def bsf(self) -> float:
        """Ball spins per revolution: (D/2d) (1 - (d/D cos a)²)."""
        return (1.0 - (self.ratio * cos(self.angle_rad)) ** 2) / (2.0 * self.ratio)

    @property
    def ftf(self) -> float:
        """Turns of the cage per revolution: (1 - d/D cos a) / 2."""
        return 0.5 * (1.0 - self.ratio * cos(self.angle_rad))


SKF_6205 = Geometry(balls=9, ratio=0.2034)
"""Deep-groove ball bearing 6205."""


@dataclass(frozen=True, slots=True, eq=False)
class Motor:
    """A motor on its foundation with a three-axis accelerometer.

    Attributes:
        rotation: the shaft.
        geometry: its bearing.
        teeth: of the gear on the shaft, 0 for none.
        f_res_hz: resonance that impulses excite, 2-6 kHz.
        zeta: its damping ratio, 0.03-0.08.
        slip: standard deviation of the steps of the impulses' random walk relative to their distance, 0.01-0.02.
        axes: share of impulses and lines in each axis, shape (axes,), three as drawn.
        lines: amplitude in m/s² of the multiples 1, 2, … of the shaft's speed, shape (lines,).
        mesh: amplitude of the gear's mesh line in m/s².
        noise: standard deviation of the noise in m/s².
    """

    rotation: Rotation
    geometry: Geometry
    teeth: int
    f_res_hz: float
    zeta: float
    slip: float
    axes: Float64
    lines: Float64
    mesh: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, rpm: float, geometry: Geometry, seed: int, name: str) -> Motor:
        """A motor between ISO 10816 zones A and B, its structure drawn at random."""
        return cls(
            rotation=Rotation(rpm, uniform(rng, 0.0005, 0.003), seed, name),
            geometry=geometry,
            teeth=int(rng.integers(17, 43)) if rng.random() < 0.6 else 0,
            f_res_hz=uniform(rng, 2000.0, 6000.0),
            zeta=uniform(rng, 0.03, 0.08),
            slip=uniform(rng, 0.01, 0.02),
            axes=rng.uniform(0.4, 1.0, 3),
            lines=rng.uniform(0.2, 1.0, 4) / np.array([1.0, 2.0, 4.0, 6.0]),
            mesh=uniform(rng, 0.05, 0.3),
            noise=uniform(rng, 0.15, 0.5),
        )

    def per_revolution(self, fault: BearingFault) -> float:
        """Impulses of a fault per revolution of the shaft."""
        return {
            "outer_race": self.geometry.bpfo,
            "inner_race": self.geometry.bpfi,
            "ball": 2.0 * self.geometry.bsf,
            "gear_tooth": 1.0,
        }[fault]


def impulses(
    motor: Motor, fault: BearingFault, *, t0_s: float, length: int, rate_hz: float, rng: np.random.Generator
) -> Float64:
    """Impulses of a fault that begin within `length` samples from `t0_s`, mean square 1 over them.

    Args:
        motor: shaft, bearing and structure.
        fault: where the fault sits.
        t0_s: time of the first sample, which sets the shaft's angle.
        length: samples.
        rate_hz: samples per second.
        rng: chance of the slip.

    Returns:
        Shape (length + tail,), float64: the last impulses ring on.
    """
    end = t0_s + length / rate_hz
    t = np.linspace(t0_s, end, max(int((end - t0_s) * 50.0), 2))
    turns = motor.rotation.angle(t) / (2.0 * pi)
    per_turn = motor.per_revolution(fault)
    count = np.arange(np.ceil(turns[0] * per_turn), np.ceil(turns[-1] * per_turn))
    at = np.interp(count / per_turn, turns, t)
    if fault != "gear_tooth":  # teeth do not slip
        at = at + np.cumsum(rng.normal(0.0, motor.slip / (per_turn * motor.rotation.f_hz), len(at)))
    at = at[(at >= t0_s) & (at < end)]
    strength = _strength(motor, fault, np.interp(at, t, turns))
    out = _ring(at - t0_s, strength, motor, length, rate_hz)
    power = float(np.sum(out**2)) / length
    return out / sqrt(power) if power > 0.0 else out


def vibration(
    motor: Motor,
    faults: dict[BearingFault, Callable[[Float64], Float64]],
    *,
    t0_s: float,
    length: int,
    rate_hz: float,
    seed: int,
) -> Float64:
    """Acceleration of the motor in each of its axes.

    Args:
        motor: the motor.
        faults: for each fault its severity at given times in s: the impulses' level (rms) over the noise's.
        t0_s: time of the first sample.
        length: samples.
        rate_hz: samples per second.
        seed: of noise and slip; the impulses' times do not depend on the rate.

    Returns:
        m/s², shape (length + tail, axes), float64; in the tail only impulses ring on, all else lasts for `length`.
    """
    t = t0_s + np.arange(length) / rate_hz
    angle = motor.rotation.angle(t)
    common = np.zeros(length)
    for k, amplitude in enumerate(motor.lines, start=1):
        common += amplitude * np.cos(k * angle + k)
    if motor.teeth:
        common += motor.mesh * (1.0 + 0.3 * np.cos(angle)) * np.cos(motor.teeth * angle)
    tail = _ring_samples(motor, rate_hz)
    axes = len(motor.axes)
    out = np.zeros((length + tail, axes))
    out[:length] = generator(seed, "vibration", "noise").standard_normal((length, axes), dtype=np.float32)
    out *= motor.noise
    out[:length] += common[:, None] * motor.axes
    later = t0_s + np.arange(length + tail) / rate_hz
    for fault, severity in faults.items():
        rng = generator(seed, "vibration", fault)
        pulses = impulses(motor, fault, t0_s=t0_s, length=length, rate_hz=rate_hz, rng=rng)
        out += (motor.noise * severity(later) * pulses)[:, None] * (motor.axes / sqrt(float(np.mean(motor.axes**2))))
    return out


def _strength(motor: Motor, fault: BearingFault, turns: Float64) -> Float64:
    """Height of each impulse: constant, or with the load zone that shaft or cage carries the fault through."""
    if fault == "inner_race":
        return np.maximum(0.1, 0.55 + 0.45 * np.cos(2.0 * pi * turns))
    if fault == "ball":
        return np.maximum(0.1, 0.6 + 0.4 * np.cos(2.0 * pi * motor.geometry.ftf * turns))
    return np.ones_like(turns)


def _ring_samples(motor: Motor, rate_hz: float) -> int:
    """Samples after which an impulse has fallen by 80 dB."""
    return int(9.2 / (2.0 * pi * motor.zeta * motor.f_res_hz) * rate_hz) + 1


def _ring(at: Float64, strength: Float64, motor: Motor, length: int, rate_hz: float) -> Float64:
    """Sum of decaying sines that begin between samples."""
    tail = _ring_samples(motor, rate_hz)
    out = np.zeros(length + tail)
    omega = 2.0 * pi * motor.f_res_hz
    damped = omega * sqrt(1.0 - motor.zeta**2)
    first: NDArray[np.int64] = np.ceil(at * rate_hz).astype(np.int64)
    since = (first / rate_hz - at)[:, None] + np.arange(tail - 1)[None] / rate_hz
    waves = strength[:, None] * np.exp(-motor.zeta * omega * since) * np.sin(damped * since)
    for start, wave in zip(first.tolist(), waves, strict=True):
        out[start : start + tail - 1] += wave
    return out


def decibels(db: float) -> Callable[[Float64], Float64]:
    """A severity that stays the same."""
    level = 10.0 ** (db / 20.0)
    return lambda t: np.full_like(t, level)


def growing(onset_s: float, *, from_db: float, to_db: float, over_s: float) -> Callable[[Float64], Float64]:
    """A severity that is nothing before `onset_s`, then rises by equal decibels per second and stays."""

    def severity(t: Float64) -> Float64:
        db = np.interp(t, [onset_s, onset_s + over_s], [from_db, to_db])
        return np.where(t < onset_s, 0.0, np.exp(db * (np.log(10.0) / 20.0)))

    return severity
