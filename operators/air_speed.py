"""The speed of a spindle that turns without cutting, from the lines at the multiples of its rotation.

Never to be used on a cut: what chatters has lines that are multiples of nothing, and a comb locks onto them
(`operators.spindle`). In the air a spindle sounds of its rotation, its drive and its bearings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import percentile_filter

from pipeline.messages import Float32

PART_S = 0.5
"""Length of the spectra that are averaged; lines are told apart by its inverse, 2 Hz."""
HIGHEST_HZ = 5000.0
OCTAVE = 2.0
"""A range of speeds must be narrower: half and twice a speed have lines in common with it."""
_FLOOR_HZ = 60.0
_LEAST_DB, _MOST_DB = -5.0, 15.0
_SPREAD_DB = 2.2
"""Standard deviation of the noise of a level, of some three spectra that overlap by half."""
_COMBS = (4, 6, 9, 14, 20, 30)
"""Of so many multiples the best sum is taken: some spindles sound of the first few only."""
_FINE = 0.2
_LINE_DB, _LEAST_LINES = 6.0, 4
_CLEAR, _AHEAD = 8.0, 3.0
_SAME = 0.005
_RATIOS = (0.5, 2.0, 1.5, 2.0 / 3.0, 0.75, 4.0 / 3.0, 3.0, 1.0 / 3.0)

Float64 = NDArray[np.float64]


class AirSpeed(NamedTuple):
    """What the lines say.

    Attributes:
        rpm: revolutions per minute; 0 where no speed is clear.
        lines: how many of the first thirty multiples of the best speed stand out by 6 dB.
        clear: mean level of its multiples, in standard errors of what noise would give.
        rival: the same of the best other speed of the range, or of one in a simple ratio to it in or out of the range.
    """

    rpm: float
    lines: int
    clear: float
    rival: float


def air_speed(x: Float32, rate_hz: float, lowest_rpm: float, highest_rpm: float) -> AirSpeed:
    """Find the one speed of a range whose multiples stand out of a sound's spectrum.

    The spectrum (mean of half-second Hann windows that overlap by half, over all channels) is taken as levels above
    its running median over 60 Hz, between -5 and 15 dB so that no single line decides. A speed is clear where its
    multiples reach 8 standard errors, three more than any other speed of the range does, more than one in a simple
    ratio to it, and where four of them stand out. It is fitted to those by least squares.

    Args:
        x: samples, shape (n, channels), at least `PART_S` of them, in any unit.
        rate_hz: samples per second.
        lowest_rpm: of the range.
        highest_rpm: of the range; less than `OCTAVE` times the lowest.

    Raises:
        ValueError: too few samples, or a range as wide as an octave.
    """
    n = round(PART_S * rate_hz)
    if len(x) < n or not 0.0 < lowest_rpm < highest_rpm < OCTAVE * lowest_rpm:
        raise ValueError(f"{len(x)} samples, {lowest_rpm:g} to {highest_rpm:g} rpm: too few, or no range in an octave")
    if not np.isfinite(x).all():
        return AirSpeed(0.0, 0, 0.0, 0.0)
    power = _spectrum(x, n)[: int(min(HIGHEST_HZ, 0.45 * rate_hz) * n / rate_hz)]
    spacing = rate_hz / n
    size = round(_FLOOR_HZ / spacing) | 1
    floor = np.maximum(percentile_filter(power, 50, size=size), 1e-12 * float(power.max()) + 1e-300)
    over = np.clip(10.0 * np.log10(np.maximum(power, 1e-300) / floor), _LEAST_DB, _MOST_DB)
    f = np.arange(lowest_rpm / 60.0, highest_rpm / 60.0, _FINE * spacing / _COMBS[-1])
    scores, level = _combs(over, f, spacing)
    best = int(np.argmax(scores))
    other = np.abs(f - f[best]) > max(_SAME * float(f[best]), spacing)
    near = f[best] + spacing * np.linspace(-0.125, 0.125, 21)
    related = float(_combs(over, np.outer(near, _RATIOS).ravel(), spacing)[0].max())
    clear, rival = float(scores[best]), float(scores[other].max()) if other.any() else 0.0
    orders = np.flatnonzero(level[best] >= _LINE_DB) + 1
    sure = len(orders) >= _LEAST_LINES and clear >= _CLEAR and clear >= rival + _AHEAD and clear >= related
    rpm = 60.0 * spacing * _fitted(power, float(f[best]) / spacing, orders) if sure else 0.0
    return AirSpeed(rpm, len(orders), clear, max(rival, related))


def _spectrum(x: Float32, n: int) -> Float64:
    """Power of `n` samples, summed over windows and channels."""
    window = np.hanning(n)[:, None]
    power = np.zeros(n // 2 + 1)
    for start in range(0, len(x) - n + 1, n // 2):
        part = x[start : start + n].astype(np.float64)
        power += np.sum(np.abs(np.fft.rfft((part - part.mean(axis=0)) * window, axis=0)) ** 2, axis=1)
    return power


def _combs(over: Float64, f: Float64, spacing: float) -> tuple[Float64, Float64]:
    """For each rotation its best comb's score, and the levels of its multiples, shape (rotations, multiples)."""
    scores = np.full(len(f), -np.inf)
    level = np.zeros((len(f), _COMBS[-1]))
    last = len(over) - 2
    for k in range(1, _COMBS[-1] + 1):
        at = k * f / spacing
        low = np.minimum(at.astype(np.int64), last)
        level[:, k - 1] = np.where(at <= last, over[low] + (at - low) * (over[low + 1] - over[low]), 0.0)
        if k in _COMBS:
            scores = np.maximum(scores, level[:, :k].sum(axis=1) / (_SPREAD_DB * np.sqrt(k)))
    return scores, level


def _fitted(power: Float64, at: float, orders: NDArray[np.int64]) -> float:
    """Rotation, in bins, by least squares of the lines' distances from its multiples; near `at`."""
    peak = np.round(orders * at).astype(np.int64)
    peak = np.clip(peak + np.argmax([power[peak - 1], power[peak], power[peak + 1]], axis=0) - 1, 1, len(power) - 2)
    left, mid, right = (np.log(np.maximum(power[peak + step], 1e-300)) for step in (-1, 0, 1))
    bend = np.minimum(left - 2.0 * mid + right, -1e-9)
    place = peak + np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
    return float(place @ orders / (orders @ orders))
