"""The angle of a shaft whose speed wanders a little, in closed form and so readable at any time."""

from __future__ import annotations

import numpy as np

from connectors.simulator.seeds import generator
from connectors.simulator.tracks import BLOCK, Float64, Track

_LINES = 5
_COARSE = 128


class Rotation:
    """Speed f(t) = f_r (1 + sum_i a_i cos(2 pi nu_i t + theta_i)), nu_i 0.05 to 0.8 Hz, sum a_i = `wander`.

    Args:
        rpm: mean speed in revolutions per minute.
        wander: largest relative deviation from it (0.002 = 0.2 %).
        seed: of the wander and of the angle at t = 0.
        name: tells one shaft from another.
    """

    def __init__(self, rpm: float, wander: float, seed: int, name: str) -> None:
        rng = generator(seed, "rotation", name)
        self.f_hz = rpm / 60.0
        self._start = float(rng.uniform(0.0, 2.0 * np.pi))
        shares = rng.dirichlet(np.ones(_LINES))
        self._a = wander * shares
        self._nu = rng.uniform(0.05, 0.8, _LINES)
        self._theta = rng.uniform(0.0, 2.0 * np.pi, _LINES)

    def angle(self, t: Float64) -> Float64:
        """Angle in rad at times `t` in s, any shape."""
        turns = self.f_hz * t
        for a, nu, theta in zip(self._a, self._nu, self._theta, strict=True):
            w = 2.0 * np.pi * nu
            turns = turns + self.f_hz * a * (np.sin(w * t + theta) - np.sin(theta)) / w
        angle: Float64 = self._start + 2.0 * np.pi * turns
        return angle

    def block(self, b: int, rate_hz: float) -> Float64:
        """Angle at the samples of block `b`; the wander is taken as linear over 128 samples."""
        t = np.arange(b * BLOCK, (b + 1) * BLOCK + 1, _COARSE) / rate_hz
        slow = self.angle(t) - 2.0 * np.pi * self.f_hz * t
        n = np.arange(b * BLOCK, (b + 1) * BLOCK)
        angle: Float64 = 2.0 * np.pi * self.f_hz / rate_hz * n + np.interp(
            n - b * BLOCK, np.arange(len(t)) * _COARSE, slow
        )
        return angle

    def frequency(self, t: Float64) -> Float64:
        """Speed in revolutions per second at times `t`."""
        f = np.full_like(t, self.f_hz)
        for a, nu, theta in zip(self._a, self._nu, self._theta, strict=True):
            f = f + self.f_hz * a * np.cos(2.0 * np.pi * nu * t + theta)
        return f


class Harmonics(Track):
    """Lines at the multiples 1, 2, … of a shaft's speed: sum_k amplitude_k cos(k angle + phase_k).

    Args:
        rate_hz: samples per second; lines above 0.45 of it are left out.
        rotation: the shaft.
        amplitudes: of the multiples 1, 2, …
        phases: in rad, as many.
    """

    def __init__(self, rate_hz: float, rotation: Rotation, amplitudes: Float64, phases: Float64) -> None:
        super().__init__(rate_hz)
        audible = int(min(len(amplitudes), 0.45 * rate_hz / rotation.f_hz))
        self._rotation = rotation
        self._weights = amplitudes[:audible] * np.exp(1j * phases[:audible])

    def block(self, b: int) -> Float64:
        """Powers of one rotating pointer instead of a cosine per line."""
        pointer = np.exp(1j * self._rotation.block(b, self.rate_hz)).astype(np.complex64)
        power = pointer.copy()
        out = np.zeros(BLOCK, np.float32)
        for k, weight in enumerate(self._weights):
            if k:
                power *= pointer
            out += np.float32(weight.real) * power.real - np.float32(weight.imag) * power.imag
        return out.astype(np.float64)
