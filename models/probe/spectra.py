"""Mean and standard deviation of the spectrum of each state, as in the appendix of the paper (arXiv 2507.06481).

Every segment of 2,048 samples, one after the other without window and overlap, is transformed as it is; the mean and
the standard deviation over a state's segments are taken of the decibels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from models.heads.head import Floats
from pipeline.messages import Float32

SEGMENT = 2048
HIGHEST_HZ = 6000.0
_TINY = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """One state.

    Attributes:
        frequency_hz: of the lines, (lines,).
        mean_db: mean of 20 log10 of the amplitude, relative to a sine of amplitude 1 (lines,).
        std_db: standard deviation of the same.
        segments: how many.
    """

    frequency_hz: Floats
    mean_db: Floats
    std_db: Floats
    segments: int


@dataclass(slots=True)
class SpectrumOf:
    """Collects one state's spectra; memory does not grow with the recordings.

    Args:
        rate_hz: samples per second.
        highest_hz: last line kept.
    """

    rate_hz: float
    highest_hz: float = HIGHEST_HZ
    _count: int = field(default=0, init=False)
    _mean: Floats | float = field(default=0.0, init=False)
    _squares: Floats | float = field(default=0.0, init=False)

    def take(self, blocks: Iterable[Float32]) -> None:
        """Add a recording: blocks of samples (n, channels), which are averaged over the channels."""
        rest = np.empty(0, np.float32)
        for block in blocks:
            x = np.concatenate([rest, block.mean(axis=1, dtype=np.float32)])
            whole = len(x) // SEGMENT * SEGMENT
            rest = x[whole:]
            if whole:
                self._add(decibels(x[:whole].reshape(-1, SEGMENT))[:, : self._lines])

    def spectrum(self) -> Spectrum:
        """What was collected.

        Raises:
            ValueError: no whole segment.
        """
        if self._count == 0:
            raise ValueError(f"no segment of {SEGMENT} samples")
        frequency = np.arange(self._lines) * self.rate_hz / SEGMENT
        std = np.sqrt(np.asarray(self._squares) / self._count)
        return Spectrum(frequency, np.asarray(self._mean), std, self._count)

    @property
    def _lines(self) -> int:
        return min(SEGMENT // 2, int(self.highest_hz * SEGMENT / self.rate_hz)) + 1

    def _add(self, db: Floats) -> None:
        """Chan's update of mean and sum of squares by a block of rows."""
        n, mean = len(db), db.mean(axis=0)
        total = self._count + n
        apart = mean - self._mean
        self._squares = self._squares + ((db - mean) ** 2).sum(axis=0) + apart**2 * (self._count * n / total)
        self._mean = self._mean + apart * (n / total)
        self._count = total


def decibels(segments: Float32) -> Floats:
    """Amplitude spectra of segments (n, 2048) in dB relative to a sine of amplitude 1, (n, 1025)."""
    amplitude = np.abs(np.fft.rfft(segments.astype(np.float64), axis=1)) * (2.0 / segments.shape[1])
    db: Floats = 20.0 * np.log10(np.maximum(amplitude, _TINY))
    return db
