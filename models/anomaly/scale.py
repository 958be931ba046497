"""Robust standardisation: every dimension in units of its own normal spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.messages import Float32

CLIP = np.float32(10.0)
MAD_TO_SIGMA = 1.4826022185056018
"""1/Φ⁻¹(3/4): makes the median absolute deviation of normal data equal to its standard deviation."""

_CENTRAL = (0.1, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Median and spread per dimension, both of shape (d,), float32, in the unit of the dimension."""

    median: Float32
    spread: Float32

    def __call__(self, x: Float32) -> Float32:
        """Standardise (..., d) and clip at ±10, so that one broken band cannot outshout all others."""
        z: Float32 = np.subtract(x, self.median, dtype=np.float32)
        z /= self.spread
        np.maximum(z, -CLIP, out=z)
        np.minimum(z, CLIP, out=z)
        return z

    def undo(self, z: Float32) -> Float32:
        """Back to the unit of each dimension; exact where nothing was clipped."""
        x: Float32 = np.add(z * self.spread, self.median, dtype=np.float32)
        return x


def fit_scale(x: Float32, floor: Float32) -> Scale:
    """Median and scaled MAD of normal vectors, wider where their central 80 % exceed half the clip.

    A machine that idles most of the time has the MAD of its idling alone, and its running would be clipped, whatever
    it sounds like. Of one kind of running, the central 80 % lie within two MADs, and the MAD stands; so it does where
    less than a tenth is louder, such as blow-offs and tool changes, so that faults in all the rest stay visible.

    Args:
        x: normal vectors, (n, d).
        floor: the smallest spread that is believed, (d,): how far a dimension moves between two mountings or days
            even if it did not while this was learned.
    """
    median = np.median(x, axis=0).astype(np.float32)
    spread = _mad(x, median)
    reach = np.abs(np.quantile(x, _CENTRAL, axis=0) - median).max(axis=0) / (CLIP / 2)
    return Scale(median, np.maximum.reduce([spread, reach, floor]).astype(np.float32))


def widened(scale: Scale, x: Float32, floor: Float32) -> float:
    """Share of the dimensions whose spread is more than twice what the MAD of `x`, or `floor`, alone would make it."""
    return float(np.mean(scale.spread > 2.0 * np.maximum(_mad(x, scale.median), floor)))


def _mad(x: Float32, median: Float32) -> Float32:
    mad: Float32 = MAD_TO_SIGMA * np.median(np.abs(x - median), axis=0)
    return mad
