"""The numbers behind an evidence picture: spectrogram in decibels, wave outline per pixel, axis ticks, colours."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Float32

Bytes = NDArray[np.uint8]
Doubles = NDArray[np.float64]

_SOUND_FRAME_S = 0.04  # shows single tooth impacts and still parts tones 50 Hz apart
_VIBRATION_FRAME_S = 0.128  # parts shaft speed from its harmonics
_REFERENCES = {"Pa": (20e-6, "dB re 20 µPa"), "FS": (math.sqrt(0.5), "dBFS")}  # dBFS: a full-scale sine is 0 dB
_RANGE_DB = (30.0, 70.0)  # least and most that the colours span

# Polynomials of degree 6 through matplotlib's viridis (Smith and van der Walt, CC0), fitted by least squares.
_VIRIDIS = np.array([
    [0.2777273, 0.0054073, 0.3340998],
    [0.1050930, 1.4046135, 1.3845902],
    [-0.3308618, 0.2148476, 0.0950952],
    [-4.6342305, -5.7991010, -19.3324410],
    [6.2282699, 14.1799334, 56.6905526],
    [4.7763850, -13.7451454, -65.3530326],
    [-5.4354559, 4.6458526, 26.3124352],
])  # fmt: skip


class Spectrogram(NamedTuple):
    """Levels of shape (frames, bins): the RMS of a sine in decibels; `reference` names 0 dB."""

    level_db: Float32
    frame_s: Doubles
    bin_hz: float
    reference: str


def shown(unit: str) -> str:
    """A unit's code as people write it."""
    return "full scale" if unit == "FS" else unit.replace("s2", "s²")


def viridis(x: NDArray[np.floating]) -> Bytes:
    """Colours (…, 3) for values from 0 to 1, dark blue to yellow, readable with any colour vision and in print."""
    t = np.clip(np.asarray(x, np.float64), 0.0, 1.0)[..., None]
    rgb = np.zeros((*t.shape[:-1], 3))
    for coefficients in _VIRIDIS[::-1]:
        rgb = rgb * t + coefficients
    return np.asarray(np.clip(np.rint(rgb * 255), 0, 255), np.uint8)


def spectrogram(samples: Float32, rate_hz: float, unit: str, columns: int) -> Spectrogram:
    """Short-time spectra with a Hann window of about 40 ms of sound or 128 ms of anything else, channels averaged.

    Args:
        samples: (n, channels) in `unit`.
        rate_hz: samples per second.
        unit: decides the reference: 20 µPa for Pa, a full-scale sine for FS, 1 unit for others.
        columns: how many frames a picture can show; the frames overlap as much as that needs.
    """
    frame_s = _SOUND_FRAME_S if unit in _REFERENCES else _VIBRATION_FRAME_S
    length = min(2 ** max(5, round(math.log2(rate_hz * frame_s))), 2 ** max(5, math.ceil(math.log2(len(samples)))))
    hop = int(np.clip((len(samples) - length) // max(1, columns), length // 16, length // 2))
    x = np.where(np.isfinite(samples), samples, np.float32(0.0)).astype(np.float64)
    x = np.pad(x - x.mean(axis=0), ((0, max(0, length - len(x))), (0, 0)))
    window = np.hanning(length + 1)[:-1]
    frames = 1 + (len(x) - length) // hop
    power = np.zeros((frames, length // 2 + 1))
    for channel in x.T:
        views = np.lib.stride_tricks.sliding_window_view(channel, length)[::hop]
        for first in range(0, frames, 256):
            block = slice(first, min(frames, first + 256))
            power[block] += np.abs(np.fft.rfft(views[block] * window)) ** 2
    amplitude = 2.0 / window.sum()
    power *= amplitude**2 / 2.0 / x.shape[1]
    reference, words = _REFERENCES.get(unit, (1.0, f"dB re 1 {shown(unit)}"))
    level = 10.0 * np.log10(np.maximum(power, 1e-30) / reference**2)
    centres = (np.arange(frames) * hop + length / 2) / rate_hz
    return Spectrogram(level.astype(np.float32), centres, rate_hz / length, words)


def colour_range(level_db: Float32) -> tuple[float, float]:
    """Lowest and highest level that the colours tell apart, multiples of 10 dB; the thinnest line is among them."""
    high = math.ceil(float(np.percentile(level_db.max(axis=1), 99.0)) / 10.0) * 10.0
    low = math.floor(float(np.percentile(level_db, 5.0)) / 10.0) * 10.0
    return high - float(np.clip(high - low, *_RANGE_DB)), high


def image(spectrum: Spectrogram, edges_hz: Doubles, edges_s: Doubles) -> Float32:
    """Levels per pixel, (len(edges_hz) - 1, len(edges_s) - 1), lowest frequency first.

    A pixel that covers several bins or frames shows the highest of them, so that no short event and no thin line gets
    lost; one that covers none is interpolated between its neighbours in frequency and takes the nearest in time.
    """
    bins = edges_hz / spectrum.bin_hz
    rows = np.stack([_pixel(spectrum.level_db, low, high) for low, high in pairwise(bins)])
    step = spectrum.frame_s[1] - spectrum.frame_s[0] if len(spectrum.frame_s) > 1 else 1.0
    frames = (edges_s - spectrum.frame_s[0]) / step
    columns = [_pixel_nearest(rows, low, high) for low, high in pairwise(frames)]
    return np.asarray(np.stack(columns, axis=1), np.float32)


def _pixel(level_db: Float32, low: float, high: float) -> Float32:
    first, last = math.ceil(low), min(math.ceil(high), level_db.shape[1])
    if first < last:
        return np.asarray(level_db[:, first:last].max(axis=1))
    place = float(np.clip((low + high) / 2, 0, level_db.shape[1] - 1))
    below = min(int(place), level_db.shape[1] - 2)
    share = np.float32(place - below)
    return np.asarray(level_db[:, below] * (1 - share) + level_db[:, below + 1] * share)


def _pixel_nearest(rows: Float32, low: float, high: float) -> Float32:
    last = rows.shape[1] - 1
    first, end = math.ceil(low), math.ceil(high)
    if first < end and end > 0 and first <= last:
        return np.asarray(rows[:, max(first, 0) : end].max(axis=1))
    return rows[:, int(np.clip(round((low + high) / 2), 0, last))]


def outline(channel: Float32, columns: int) -> tuple[Doubles, Doubles]:
    """Lowest and highest sample per pixel column, each (columns,); neighbours touch, so that steep waves stay whole."""
    x = np.where(np.isfinite(channel), channel, np.float32(0.0)).astype(np.float64)
    edges = np.linspace(0, len(x), columns + 1).astype(np.int64)
    starts = np.minimum(edges[:-1], len(x) - 1)
    low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
    after = x[np.minimum(edges[1:], len(x) - 1)]
    return np.minimum(low, after), np.maximum(high, after)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in [low, high], at most about `count`, in steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= count)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in [low, high]."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
