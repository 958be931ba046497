"""A milling tool with one flexible mode, and how much of it is in the cut."""

from __future__ import annotations

from dataclasses import dataclass
from math import acos, pi
from typing import NamedTuple

import numpy as np

from connectors.simulator.tracks import Float64


@dataclass(frozen=True, slots=True)
class Tool:
    """One bending mode in feed direction and a linear cutting force.

    Attributes:
        mass_kg: modal mass.
        f0_hz: natural frequency of the mode.
        zeta: its damping ratio.
        teeth: number of teeth, evenly spaced.
        kt: tangential cutting coefficient in N/m².
        kn: normal cutting coefficient in N/m².
    """

    mass_kg: float
    f0_hz: float
    zeta: float
    teeth: int
    kt: float
    kn: float

    @property
    def omega(self) -> float:
        """Natural angular frequency in rad/s."""
        return 2.0 * pi * self.f0_hz

    def tooth_period(self, rpm: float) -> float:
        """Time between two teeth in s."""
        return 60.0 / (self.teeth * rpm)


BENCHMARK = Tool(mass_kg=0.03993, f0_hz=922.0, zeta=0.011, teeth=2, kt=6e8, kn=2e8)
"""The one-mode milling benchmark of Insperger and Stepan (Int. J. Numer. Meth. Engng 61, 2004)."""


class Engagement(NamedTuple):
    """Angles in rad between which a tooth cuts; 0 is normal to the feed on the up-milling side."""

    start: float
    exit: float

    @classmethod
    def slot(cls) -> Engagement:
        """The full width."""
        return cls(0.0, pi)

    @classmethod
    def down(cls, width: float) -> Engagement:
        """Down-milling with radial immersion `width` (fraction of the diameter)."""
        return cls(acos(2.0 * width - 1.0), pi)

    @classmethod
    def up(cls, width: float) -> Engagement:
        """Up-milling with radial immersion `width`."""
        return cls(0.0, acos(1.0 - 2.0 * width))

    def gate(self, phi: Float64, width: float) -> Float64:
        """Share of the angles within `width` about `phi` (rad, any revolution) at which a tooth cuts, 0 to 1."""
        turned = np.mod(phi, 2.0 * pi)
        covered = np.zeros_like(turned)
        for shift in (0.0, -2.0 * pi):  # a cell about 0 reaches into the turn before
            low = np.maximum(turned + shift - 0.5 * width, self.start)
            covered += np.maximum(np.minimum(turned + shift + 0.5 * width, self.exit) - low, 0.0)
        share: Float64 = covered / width
        return share


def directional(tool: Tool, engagement: Engagement, phi: Float64, width: float) -> Float64:
    """Force in feed direction per depth and feed-wise displacement of a tooth within `width` about `phi`, in N/m²."""
    return engagement.gate(phi, width) * (tool.kt * np.cos(phi) + tool.kn * np.sin(phi)) * np.sin(phi)
