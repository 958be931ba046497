"""What a block of frames contributes to log-Mel images, and an image from such parts.

Power is computed once per frame. What a window's normalisation takes off — mean, level, maximum — is taken off the
power: the transform of a constant under a periodic Hann window lies in the lines 0 and ±1 alone, so that a window's
own mean changes nothing but line 1 (line 0 belongs to no Mel band), and division by a number is a subtraction of
decibels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.levels import FullScale, Moments, mean_of, moments, octave_bank, scalars
from operators.mel import FrontEnd, bank
from operators.spectral import Frames, aligned, mix, pack
from pipeline.messages import Float32

_EPS = 1e-6  # of the published waveform normalisation
_AMIN_DB = -100.0  # of the published 10 log10(max(p, 1e-10))
_TOP_DB = 80.0
_TINY = np.float32(1e-36)  # keeps the logarithm of raw power finite
_INFINITE = np.float32(np.inf)
_NO_MOMENTS = Moments(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Scale(NamedTuple):
    """value = gain · dB + offset, the maximum subtracted if `relative`, at least the maximum − 80 dB if `top`."""

    gain: float
    offset: float
    relative: bool = False
    top: bool = True


_SCALES = {
    "max80": Scale(1.0 / _TOP_DB, 1.0, relative=True),
    "dinos": Scale(1.0 / (4.569 + _EPS), 4.268 / (4.569 + _EPS)),
    "listen": Scale(0.5 / _TOP_DB, 0.5),
    "db": Scale(1.0, 0.0, top=False),
}


@dataclass(slots=True)
class Part:
    """What a block of frames contributes to the windows that contain it.

    Attributes:
        log: gain · 10 log10 of raw Mel power, shape (bands, frames); the first rows are still without line 1.
        low: power of the rows that contain line 1, without it, shape (rows, frames).
        line: real and imaginary part of line 1, shape (2, frames).
        mean: what was taken off the samples before.
        moments: of the block's samples up to the next block.
        octaves: sum over the frames of the octave bands' mean squares.
    """

    log: Float32
    low: Float32
    line: Float32
    mean: float
    moments: Moments
    octaves: NDArray[np.float64]


class Analysis:
    """Blocks of samples → `Part`; parts and statistics → image. Holds weights and working memory, and no state.

    Args:
        front_end: settings; blocks have its `block_frames`.
        levels: whether third and fourth moments, extremes and octave bands are computed too.
    """

    def __init__(self, front_end: FrontEnd, levels: bool) -> None:
        frames = front_end.block_frames
        self.front_end, self.levels = front_end, levels
        self._frames = Frames(front_end.n_fft, front_end.hop, frames)
        self.samples = self._frames.samples
        self._own = frames * front_end.hop  # samples up to the next block
        self._square = aligned(self._own) if levels else None
        self._scale = _SCALES[front_end.scaling]
        weights = bank(front_end).toarray()
        self._line = np.trim_zeros(weights[:, 1].copy(), "b")[:, None]  # the bands with line 1: the first few, or none
        weights[:, 1] = 0.0
        self.octave_names: tuple[str, ...] = ()
        if levels:
            self.octave_names, octaves = octave_bank(front_end.rate_hz, front_end.n_fft)
            self._inside, rest = _octaves_from_bands(octaves, weights)
            weights = np.concatenate([weights, rest])
        self._weights = pack(weights, front_end.n_fft)

    def part(self, x: Float32, whole: bool = True) -> Part:
        """Analyse one block, shape (samples, channels); channels are averaged. Not `whole`: without moments."""
        buffer, bands, count = self._frames.x, self.front_end.bands, len(self._line)
        mix(x, buffer)
        own = buffer[: self._own]
        mean = mean_of(own)
        buffer -= np.float32(mean)  # a large mean would cost the weak bands their precision
        stats = moments(own, mean, self._square) if whole else _NO_MOMENTS
        rows, line = self._frames.bands(self._weights)
        octaves = self._octaves(rows) if self.octave_names else np.empty(0)
        low = rows[:count].copy()
        log = self._log(rows[:bands])
        return Part(log, low, line, mean, stats, octaves)

    def _octaves(self, rows: Float32) -> NDArray[np.float64]:
        sums = rows.sum(axis=1, dtype=np.float64)
        bands = self.front_end.bands
        result: NDArray[np.float64] = sums[bands:] + (self._inside * sums[:bands]).sum(axis=1)
        return result

    def _log(self, power: Float32) -> Float32:
        power += _TINY
        log = np.log10(power)
        log *= np.float32(self._scale.gain * 10.0)
        return log

    def image(self, parts: Sequence[Part], stats: Moments, out: Float32) -> None:
        """Normalise the parts by the window's statistics into `out`, contiguous, shape (bands, frames)."""
        target, gain_db = self._waveform(stats)
        scale = self._scale
        np.concatenate([part.log for part in parts], axis=1, out=out)
        if len(self._line):
            out[: len(self._line)] = self._first_rows(parts, target)
        amin = scale.gain * (_AMIN_DB - gain_db)  # in the scaled decibels of raw power
        flat = out.reshape(-1)
        peak = max(float(np.maximum.reduce(flat)), amin)
        floor = max(amin, peak - scale.gain * _TOP_DB) if scale.top else amin
        zero = np.float32(peak if scale.relative else -scale.gain * gain_db)
        flat -= zero
        flat += np.float32(scale.offset)
        flat.clip(np.float32(floor - zero + scale.offset), _INFINITE, out=flat)  # twice as fast as np.maximum

    def _first_rows(self, parts: Sequence[Part], target: float) -> Float32:
        line = np.concatenate([part.line for part in parts], axis=1)
        at = 0
        for part in parts:  # mean of the block back on, mean of the window off
            width = part.line.shape[1]
            line[0, at : at + width] += np.float32((target - part.mean) * self.front_end.n_fft / 4.0)
            at += width
        line *= line
        power = np.concatenate([part.low for part in parts], axis=1)
        power += self._line * (line[0] + line[1])
        return self._log(power)

    def _waveform(self, stats: Moments) -> tuple[float, float]:
        """The constant that the published normalisation subtracts from the samples, and its gain in dB."""
        rms = stats.rms + _EPS
        if self.front_end.waveform == "zscore":
            return stats.mean, -20.0 * math.log10(rms * (stats.std / rms + _EPS))
        if self.front_end.waveform == "listen":  # (x/rms − mean(x)) / std(x), std unbiased
            unbiased = math.sqrt(stats.m2 / max(stats.n - 1, 1))
            return stats.mean * rms, -20.0 * math.log10(rms * (unbiased + _EPS))
        return 0.0, 0.0

    def side(self, parts: Sequence[Part], stats: Moments, scale: FullScale) -> dict[str, float]:
        """The level that the image no longer shows."""
        if not self.levels:
            return scalars(stats, scale, None)
        frames = sum(part.log.shape[1] for part in parts)
        means = (sum(part.octaves for part in parts) / frames).tolist()
        return scalars(stats, scale, dict(zip(self.octave_names, means, strict=True)))


def _octaves_from_bands(
    octaves: NDArray[np.float64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split octaves into Mel bands that lie inside and what remains on single lines, which takes fewer products.

    Returns:
        Factors of the bands, (octaves, bands), and weights of the lines, (octaves, bins); none of them negative.
    """
    inside, rest = np.zeros((len(octaves), len(weights))), octaves.copy()
    for o, row in enumerate(octaves):
        unit, room = row.max(), row.max() * 1e-6
        for b, band in enumerate(weights.astype(np.float64)):
            if band.any() and (rest[o] >= unit * band - room).all():
                inside[o, b] = unit
                rest[o] -= unit * band
        rest[o][rest[o] < room] = 0.0
    return inside, rest


_pool: dict[tuple[str, int, bool], list[Analysis]] = {}


def borrow(front_end: FrontEnd, levels: bool) -> Analysis:
    """An analysis that nobody uses now; `give_back` it after the call.

    Hundreds of streams thus need one set of weights and buffers and find it in the processor's cache. Taking from and
    adding to a list are atomic, so that threads never share buffers.
    """
    try:
        return _pool[front_end.hash, front_end.block_frames, levels].pop()
    except (KeyError, IndexError):
        return Analysis(front_end, levels)


def give_back(analysis: Analysis) -> None:
    """Let others use the analysis again."""
    key = (analysis.front_end.hash, analysis.front_end.block_frames, analysis.levels)
    _pool.setdefault(key, []).append(analysis)
