"""What good strokes of a head are like: each bit's share, how far it scatters, how long a stroke is, its bursts.

A stroke's share of a bit is the mean over the stroke's frames. It scatters with the frames' own scatter over the root
of their number, times a factor that is pooled over all bits: bits do not cut alike from stroke to stroke.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

KEPT = 40
"""Strokes that the running means reach back over."""
LENGTH_OFF = 0.25
_HEARD, _HEARD_OF_USUAL = 0.06, 0.2
"""Mean share of the bits, and its ratio to the template's, below which a stroke's noise is not that of the bits."""
_AS_BEFORE = 0.9
_GONE = 3.0
"""Standard deviations below the template from which a bit does not count for what is common to all."""
_TINY = 1e-12


@dataclass(slots=True, eq=False)
class Sums:
    """Shares of a stroke's frames: their number, sum and sum of squares, shape (bits,)."""

    frames: int
    total: Float64
    squares: Float64

    @classmethod
    def none(cls, bits: int) -> Sums:
        """Of no frame."""
        return cls(0, np.zeros(bits), np.zeros(bits))

    def add(self, shares: Float64) -> None:
        """Take one frame in."""
        self.frames += 1
        self.total = self.total + shares
        self.squares = self.squares + np.square(shares)

    def mean(self) -> Float64:
        """Mean share of each bit."""
        return np.asarray(self.total / self.frames, np.float64)

    def variance(self) -> Float64:
        """Variance of each bit's share from frame to frame."""
        spread = self.squares - np.square(self.total) / self.frames
        return np.maximum(spread, 0.0) / (self.frames - 1)


def differs(frames: float, usual: float) -> bool:
    """Whether a stroke of so many frames is of another program than one of `usual`: 25 % and three frames off."""
    return abs(frames - usual) > LENGTH_OFF * usual + 3.0


class HeadTemplate:
    """Shares of good strokes.

    Args:
        teach: strokes that make a template.
    """

    def __init__(self, teach: int) -> None:
        self._teach = teach
        self.strokes = 0
        self._frames = 0.0
        self._burst = 0.0
        self._mean = np.zeros(0)
        self._within = np.zeros(0)
        self._between = np.zeros(0)
        self._factor = 1.0

    @property
    def ready(self) -> bool:
        """Whether enough good strokes are known."""
        return self.strokes >= self._teach

    @property
    def frames(self) -> float:
        """Mean number of frames of a stroke."""
        return self._frames

    @property
    def burst(self) -> float:
        """The largest burst of the strokes that taught."""
        return self._burst

    @property
    def bits(self) -> int:
        """Number of bits; 0 before the first stroke."""
        return len(self._mean)

    def hears(self, stroke: Sums) -> bool:
        """Whether the noise of a stroke comes from where the bits are.

        Simulated heads (10 to 90 bits, four or eight microphones) have a mean share of 0.3 to 1.2 at 10 dB and of 0.13
        to 0.4 at -5 dB; coolant and the hall alone, and microphones in another order, up to 0.03 (0.1 with ten bits).
        """
        usual = float(np.mean(self._mean)) if self.strokes else 0.0
        return float(np.mean(stroke.mean())) > max(_HEARD, _HEARD_OF_USUAL * usual)

    def hears_as_before(self, stroke: Sums) -> bool:
        """Whether nothing is missing: one of eight microphones that hears no bit takes a fifth of the mean share.

        With more gain than before the air is louder than the idle machine was, and counted to the stroke: its frames
        beyond the usual number need no share.
        """
        usual = float(np.mean(self._mean)) * min(stroke.frames, self._frames)
        return self.hears(stroke) and float(np.mean(stroke.total)) > _AS_BEFORE * usual

    def unlike(self, frames: int) -> bool:
        """Whether a stroke of so many frames is of another program than those that taught."""
        return bool(self.strokes) and differs(frames, self._frames)

    def teach(self, stroke: Sums, burst: float) -> None:
        """Take one of the first good strokes in.

        Args:
            stroke: its shares; two frames at least.
            burst: its largest burst.
        """
        mean, n = stroke.mean(), self.strokes + 1
        if n == 1:
            self._mean, self._within, self._between = mean, np.zeros(len(mean)), np.zeros(len(mean))
        before = self._mean
        self._mean = before + (mean - before) / n
        self._between = self._between + (mean - before) * (mean - self._mean)
        self._within = self._within + (stroke.variance() - self._within) / n
        self._frames += (stroke.frames - self._frames) / n
        self._burst = max(self._burst, burst)
        self.strokes = n
        if self.ready:
            wide = float(np.sum(self._between)) / (n - 1)
            self._factor = max(1.0, wide * self._frames / max(float(np.sum(self._within)), _TINY))
            self._between = np.zeros(0)

    def judge(self, stroke: Sums, silent: float) -> tuple[Float64, Float64, Float64]:
        """A stroke against the template, up to a common factor: louder background lowers all shares alike.

        What steering at a bit gives holds some of its neighbours' and of the reflections' sound, more or less of it
        than of its own. What a silent bit takes away is therefore put at the mean share of all bits.

        Args:
            stroke: its shares.
            silent: the loss to look for, as a share of the mean one.

        Returns:
            Shape (bits,) each: loss as a share of the mean one; by how many standard deviations it lies below; and
            how many it would with that loss.
        """
        n = min(self.strokes, KEPT)
        sigma = np.sqrt(self._within * (self._factor / stroke.frames * (1.0 + 1.0 / n)) + _TINY)
        scale = self._scale(stroke.mean(), np.square(1.0 / sigma))
        gone = (scale * self._mean - stroke.mean()) / sigma > _GONE
        scale = self._scale(stroke.mean(), np.where(gone, 0.0, np.square(1.0 / sigma))) if not gone.all() else scale
        missing = scale * self._mean - stroke.mean()
        usual = max(scale * float(np.mean(self._mean)), _TINY)
        return missing / usual, missing / sigma, silent * usual / sigma

    def _scale(self, mean: Float64, weight: Float64) -> float:
        """The common factor of a stroke's shares, by least squares."""
        usual = float(np.sum(weight * np.square(self._mean)))
        if not usual > 0.0:  # dead microphones taught the template: a stroke that has any share is unlike it
            return 1.0
        return max(float(np.sum(weight * mean * self._mean)) / usual, _TINY)

    def follow(self, stroke: Sums, good: NDArray[np.bool_]) -> None:
        """Learn slowly from a later stroke, of the bits that are not under suspicion."""
        self.strokes += 1
        n = min(self.strokes, KEPT)
        self._mean = np.where(good, self._mean + (stroke.mean() - self._mean) / n, self._mean)
        self._frames += (stroke.frames - self._frames) / n

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "strokes": self.strokes, "frames": self._frames, "burst": self._burst, "mean": self._mean.tolist(),
            "within": self._within.tolist(), "between": self._between.tolist(), "factor": self._factor,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the template that gave this snapshot."""
        self.strokes, self._frames, self._burst = int(state["strokes"]), state["frames"], state["burst"]
        self._mean, self._within, self._between = (np.array(state[name]) for name in ("mean", "within", "between"))
        self._factor = state["factor"]
