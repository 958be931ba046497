"""Which lines of a spectrum are multiples of the rotation, which lie between, and where noise is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.spectral import hann
from pipeline.messages import Float32

Float64 = NDArray[np.float64]

LOW_HZ, HIGH_HZ = 100.0, 6000.0
PADDING = 4
REVOLUTIONS = 13
"""A window must hold as many for its lines to be told apart: b = 2/T is then at most 0.15 f_r."""
LEAST_S = 0.1
_FLOOR_SPAN_HZ = 300.0
_WANDER = 0.0015  # relative wander of the speed within a window: harmonic k moves by as much of k f_r


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What depends on rate, speed and teeth alone.

    Attributes:
        samples: per window.
        n_fft: of the padded transform.
        first: line of the transform at or above 100 Hz.
        f: frequencies of the lines used, in Hz, shape (lines,).
        outside: numbers of the lines that lie further than b from every multiple of f_r; for ER.
        between: those of them that a speed wandering by 0.15 % within the window does not reach either, shape (lines,).
        free: their numbers.
        tooth: numbers of the lines within b of a multiple of f_TP.
        half: the same of odd multiples of f_TP/2.
        turn: the same of other multiples of f_r; none for one or two teeth.
        b_hz: half-width of a harmonic's band: max(4 Hz, 2/T), at most 0.4 f_r.
        rotation_hz: f_r.
        passing_hz: f_TP.
        spans: lines between the harmonics of each span of 300 Hz with any, shape (spans, most); the number of lines
            where there are no more. For the noise, as what follows.
        quarters: place of each span's lower quartile.
        span: for each line the span whose centre lies below it, shape (lines,).
        weight: how far the line lies towards the next span's centre, 0 to 1, shape (lines,).
        taper: Hann window, float32, shape (samples, 1).
    """

    samples: int
    n_fft: int
    first: int
    f: Float64
    outside: NDArray[np.int64]
    between: NDArray[np.bool_]
    free: NDArray[np.int64]
    tooth: NDArray[np.int64]
    half: NDArray[np.int64]
    turn: NDArray[np.int64]
    b_hz: float
    rotation_hz: float
    passing_hz: float
    spans: NDArray[np.int64]
    quarters: NDArray[np.int64]
    span: NDArray[np.int64]
    weight: Float64
    taper: Float32

    @property
    def spacing_hz(self) -> float:
        """Distance of the lines of the padded transform."""
        return float(self.f[1] - self.f[0])

    @property
    def noise_ratio(self) -> float:
        """What `energy_ratio` gives for white noise: about 1 - 2b/f_r."""
        return len(self.outside) / len(self.f)


@lru_cache(maxsize=16)
def plan(rate_hz: float, rpm: float, teeth: int, seconds: float) -> Plan:
    """Lines and bands of a window of `seconds` at a speed.

    Args:
        rate_hz: samples per second.
        rpm: spindle speed.
        teeth: of the tool.
        seconds: length of the window.

    Raises:
        ValueError: a rate at which nothing is left above 100 Hz.
    """
    high = min(HIGH_HZ, 0.45 * rate_hz)
    if high < 2.0 * LOW_HZ:
        raise ValueError(f"chatter cannot be seen at {rate_hz:g} Hz")
    samples = round(seconds * rate_hz)
    n_fft: int = fft.next_fast_len(PADDING * samples, real=True)
    every: Float64 = np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate_hz / n_fft)
    first, last = np.searchsorted(every, [LOW_HZ, high])
    f = every[first:last]
    rotation = rpm / 60.0
    b = min(max(4.0, 2.0 / seconds), 0.4 * rotation)
    apart = np.abs(f - np.round(f / rotation) * rotation)
    outside = apart > b
    between = apart > np.maximum(b, np.minimum(_WANDER * f, 0.4 * rotation))
    passing = teeth * rotation
    tooth = np.abs(f - np.round(f / passing) * passing) <= b
    half = np.abs(f - (np.floor(f / passing) + 0.5) * passing) <= b
    turn = (apart <= b) & ~tooth & ~half
    spans, quarters, span, weight = _spans(f, between, high)
    taper = hann(samples).astype(np.float32)[:, None]
    free, tooths, halves, rest = (np.flatnonzero(kind) for kind in (between, tooth, half, turn))
    return Plan(
        samples, n_fft, int(first), f, np.flatnonzero(outside), between, free, tooths, halves, rest, b, rotation,
        passing, spans, quarters, span, weight, taper,
    )  # fmt: skip


def _spans(
    f: Float64, between: NDArray[np.bool_], high: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Float64]:
    """Lines between the harmonics by span of 300 Hz, and where each line lies between the spans' centres."""
    kept, centres = [], []
    for low in np.arange(LOW_HZ, high, _FLOOR_SPAN_HZ).tolist():
        inside = np.flatnonzero(between & (f >= low) & (f < low + _FLOOR_SPAN_HZ))
        if len(inside):
            kept.append(inside)
            centres.append(low + _FLOOR_SPAN_HZ / 2.0)
    spans = np.full((len(kept), max(len(inside) for inside in kept)), len(f))
    for row, inside in zip(spans, kept, strict=True):
        row[: len(inside)] = inside
    place = np.interp(f, centres, np.arange(len(centres), dtype=np.float64))
    span = np.minimum(place.astype(np.int64), max(0, len(centres) - 2))
    return spans, np.array([len(inside) // 4 for inside in kept]), span, place - span


def window_s(rpm: float) -> float:
    """Length of the window in s: thirteen revolutions, at least 100 ms."""
    return max(LEAST_S, REVOLUTIONS * 60.0 / rpm)
