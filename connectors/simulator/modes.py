"""Structural modes: how a force or an acceleration becomes sound or vibration elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, pi

import numpy as np
from scipy.signal import lfilter

from connectors.simulator.tracks import Float64


@dataclass(frozen=True, slots=True)
class Modes:
    """Resonances in parallel.

    Attributes:
        f_hz: natural frequencies.
        zeta: damping ratios.
        gain: amplitude of each at its resonance.
        direct: gain of the path that no mode colours.
    """

    f_hz: tuple[float, ...]
    zeta: tuple[float, ...]
    gain: tuple[float, ...]
    direct: float = 0.0

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        count: int,
        f_hz: tuple[float, float],
        zeta: tuple[float, float],
        direct: float = 0.0,
    ) -> Modes:
        """Modes with frequencies log-uniform in a range, damping uniform, gains from 0.3 to 1 with random sign."""
        f = np.sort(np.exp(rng.uniform(np.log(f_hz[0]), np.log(f_hz[1]), count)))
        gains = rng.uniform(0.3, 1.0, count) * rng.choice([-1.0, 1.0], count)
        return cls(
            tuple(f.tolist()),
            tuple(rng.uniform(*zeta, count).tolist()),
            tuple(gains.tolist()),
            direct,
        )

    def apply(self, x: Float64, rate_hz: float) -> Float64:
        """Response to `x`, shape (n,), that starts at rest.

        Each mode is the resonator g (1 - r²)/2 (1 - z⁻²)/(1 - 2 r cos(theta) z⁻¹ + r² z⁻²), of gain g at its peak.
        Modes above 0.45 of the rate are left out.
        """
        out = self.direct * x
        for f, zeta, gain in zip(self.f_hz, self.zeta, self.gain, strict=True):
            if f > 0.45 * rate_hz:
                continue
            w = 2.0 * pi * f / rate_hz
            r = exp(-zeta * w)
            theta = w * np.sqrt(1.0 - zeta**2)
            g = gain * (1.0 - r * r) / 2.0
            out = out + lfilter([g, 0.0, -g], [1.0, -2.0 * r * float(np.cos(theta)), r * r], x)
        return out

    def ring_s(self) -> float:
        """Time in s after which every mode has fallen by 60 dB."""
        return max(6.91 / (2.0 * pi * f * zeta) for f, zeta in zip(self.f_hz, self.zeta, strict=True))
