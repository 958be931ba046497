"""What good holes of one program are like: how long they last, how loud they are, and how that goes over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, pstdev
from typing import Any

TUBE_SIGMA = 4.0
_LEAST_LEVEL_DB = 1.5
_LEAST_LENGTH = 0.03  # of the mean duration: the smallest standard deviation believed
_KEPT = 20
ANOTHER = 0.15
BINS = 100
"""Bins of 50 ms that a template can have."""


class HoleTemplate:
    """Durations, levels and level envelopes of good holes.

    While the template is taught, a hole whose duration differs by more than 15 % is passed over; a second one like it
    begins the template anew: another program.

    The envelope is the level in dB of each 50 ms from the hole's beginning; the tube around it is mean ± 4 sigma, of
    the part that all good holes have. Levels go on being learned from good holes (the newest 20), slowly following
    wear; the envelope stays as taught.

    Args:
        teach: holes that make a template.
    """

    bin_frames = 10

    def __init__(self, teach: int) -> None:
        self._teach = teach
        self.holes = 0
        self._lengths: list[int] = []
        self._levels: list[float] = []
        self._wears: list[float] = []
        self._mean: list[float] = []
        self._square: list[float] = []
        self._odd = 0

    @property
    def ready(self) -> bool:
        """Whether enough good holes are known."""
        return self.holes >= self._teach

    def learn(self, frames: int, envelope: Sequence[float], level_db: float, wear_db: float) -> None:
        """Take a good hole in.

        Args:
            frames: its duration.
            envelope: level of each whole bin in dB.
            level_db: of the whole hole.
            wear_db: of the bands in which wear shows.
        """
        if self.ready and abs(frames - self._length()[0]) > TUBE_SIGMA * self._length()[1]:
            return
        if not self.ready and self._lengths and not _alike(frames, fmean(self._lengths)):
            again = _alike(frames, self._odd)
            self._odd = frames
            if not again:
                return
            self.holes, self._lengths, self._levels, self._wears = 0, [], [], []
        self._lengths = [*self._lengths[1 - _KEPT :], frames]
        if self.holes < self._teach:
            self._levels.append(level_db)
            self._wears.append(wear_db)
            self._add(envelope[:BINS])
        self.holes += 1

    def _add(self, envelope: Sequence[float]) -> None:
        """Running mean and sum of squares (Welford) of the bins that all holes have."""
        n = self.holes + 1
        if n == 1:
            self._mean, self._square = list(envelope), [0.0] * len(envelope)
            return
        size = min(len(envelope), len(self._mean))
        before = self._mean[:size]
        self._mean = [m + (x - m) / n for m, x in zip(before, envelope, strict=False)]
        self._square = [
            s + (x - b) * (x - m) for s, x, b, m in zip(self._square, envelope, before, self._mean, strict=False)
        ]

    def below_db(self, frames: int, level_db: float) -> float:
        """How far a level at this place of a hole lies below the tube; 0 where there is none."""
        place = frames // self.bin_frames
        if not self.ready or place >= len(self._mean) or not self.still_cuts(frames):
            return 0.0
        sigma = max(sqrt(self._square[place] / self._teach), _LEAST_LEVEL_DB)
        return max(0.0, self._mean[place] - TUBE_SIGMA * sigma - level_db)

    def still_cuts(self, frames: int, margin: float = 0.05) -> bool:
        """Whether all good holes are sure to last longer: mean - 4 sigma of their durations, less a margin."""
        if not self.ready:
            return False
        mean, sigma = self._length()
        return frames < (1.0 - margin) * (mean - TUBE_SIGMA * sigma)

    def unlike(self, frames: int) -> bool:
        """Whether a hole of this duration is outside mean ± 4 sigma and 10 %."""
        mean, sigma = self._length()
        return abs(frames - mean) > TUBE_SIGMA * sigma + 0.1 * mean

    def _length(self) -> tuple[float, float]:
        mean = fmean(self._lengths)
        return mean, max(pstdev(self._lengths), _LEAST_LENGTH * mean)

    def mean_level(self) -> float:
        """Mean level of the good holes in dB."""
        return fmean(self._levels)

    def mean_wear(self) -> float:
        """Mean level of the bands in which wear shows, in dB."""
        return fmean(self._wears)

    def std_wear(self) -> float:
        """Its standard deviation."""
        return pstdev(self._wears)

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "holes": self.holes,
            "odd": self._odd,
            "lengths": list(self._lengths),
            "levels": list(self._levels),
            "wears": list(self._wears),
            "mean": list(self._mean),
            "square": list(self._square),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the template that gave this snapshot."""
        self.holes, self._odd = state["holes"], state["odd"]
        self._lengths, self._levels, self._wears = list(state["lengths"]), list(state["levels"]), list(state["wears"])
        self._mean, self._square = list(state["mean"]), list(state["square"])


def _alike(frames: float, others: float) -> bool:
    return abs(frames - others) <= ANOTHER * others


def trimmed(envelope: Sequence[float]) -> list[float]:
    """The part of a hole from the first to the last bin that lies at most 10 dB below its mean energy."""
    if not envelope:
        return []
    shares = [10.0 ** (db / 10.0) for db in envelope]
    least = 0.1 * fmean(shares)
    loud = [i for i, share in enumerate(shares) if share >= least]
    return list(envelope[loud[0] : loud[-1] + 1])
