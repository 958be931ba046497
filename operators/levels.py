"""Levels of a window: RMS, crest factor, kurtosis and octave bands, all without the mean value.

Decibels are relative to full scale: 0 dB is a mean square of full scale squared, a full-scale sine has −3.01 dB. Where
nothing tells a full scale (`full_scale`), they are relative to one unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.base import Windowed
from operators.grid import Grid
from operators.rewindow import end_ns, missing
from operators.spectral import Frames, aligned, hann, one_sided, pack
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Stream, Window

SILENT = 1e-5
"""Standard deviation, in full scales, below which a window says nothing about the machine."""
_ROUNDING = 1e-5
"""Standard deviation over mean that float32 sums make of a constant (3e-6), with room."""
_NOTHING = 1e-12
"""Standard deviation, in units, near which float32 loses the powers of a spectrum."""
FLOOR_DB = -200.0
"""Level of digital silence."""
OCTAVES = {63: -4, 125: -3, 250: -2, 500: -1, 1000: 0, 2000: 1, 4000: 2, 8000: 3, 16000: 4}
"""Nominal mid-band frequency in hertz → k of the exact one, 1000 · 10^(0.3 k) (IEC 61260-1, base ten)."""
_DOT = 8192  # longest scalar product: short enough that no BLAS splits it among threads
_ONES = np.ones(_DOT, np.float32)


class Moments(NamedTuple):
    """Count, mean and sums of central powers of samples, with their extremes."""

    n: int
    mean: float
    m2: float
    m3: float
    m4: float
    low: float
    high: float

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self.m2 / self.n)

    @property
    def rms(self) -> float:
        """Root mean square, mean value included."""
        return math.hypot(self.std, self.mean)

    @property
    def crest(self) -> float:
        """Largest deviation from the mean over the standard deviation; 0 for a constant."""
        return max(self.high - self.mean, self.mean - self.low) / self.std if self.m2 > 0 else 0.0

    @property
    def kurtosis(self) -> float:
        """Fourth standardised moment, 3 for Gaussian noise, 1.5 for a sine; 0 for a constant."""
        return self.n * self.m4 / self.m2**2 if self.m2 > 0 else 0.0

    def join(self, other: Moments) -> Moments:
        """Moments of both sets of samples together (Pébay, Sandia report SAND2008-6212, eq. 2.1)."""
        na, nb, d = self.n, other.n, other.mean - self.mean
        n = na + nb
        m2 = self.m2 + other.m2 + d**2 * na * nb / n
        m3 = self.m3 + other.m3 + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * other.m2 - nb * self.m2) / n
        m4 = (
            self.m4 + other.m4 + d**4 * na * nb * (na * na - na * nb + nb * nb) / n**3
            + 6 * d**2 * (na * na * other.m2 + nb * nb * self.m2) / n**2 + 4 * d * (na * other.m3 - nb * self.m3) / n
        )  # fmt: skip
        mean = self.mean + d * nb / n
        return Moments(n, mean, m2, m3, m4, min(self.low, other.low), max(self.high, other.high))


def mean_of(x: Float32) -> float:
    """Mean of a contiguous float32 array, rounded to float32."""
    total = 0.0
    for part in _pieces(x):
        total += float(part.dot(_ONES[: len(part)]))
    return float(np.float32(total / len(x)))


def moments(d: Float32, mean: float, square: Float32 | None = None) -> Moments:
    """Moments of samples that were already freed of their mean.

    Args:
        d: samples less `mean`, contiguous float32, shape (n,).
        mean: what was removed.
        square: room for n numbers; given, third and fourth moments and the extremes are computed too.
    """
    pieces = _pieces(d)
    m2 = _dot(pieces, pieces)
    if square is None:
        return Moments(len(d), mean, m2, 0.0, 0.0, mean, mean)
    np.square(d, out=square)
    squares = _pieces(square)
    low, high = float(np.minimum.reduce(d)) + mean, float(np.maximum.reduce(d)) + mean
    return Moments(len(d), mean, m2, _dot(pieces, squares), _dot(squares, squares), low, high)


def _dot(a: list[Float32], b: list[Float32]) -> float:
    total = 0.0
    for p, q in zip(a, b, strict=True):
        total += float(p.dot(q))
    return total


def _pieces(x: Float32) -> list[Float32]:
    return [x[k : k + _DOT] for k in range(0, len(x), _DOT)]


def octave_edges(name: str) -> tuple[float, float]:
    """Limits in hertz of the octave ``octave_63_db`` ... ``octave_16000_db``."""
    k = OCTAVES[int(name.split("_")[1])]
    return 1000.0 * 10.0 ** (0.3 * k - 0.15), 1000.0 * 10.0 ** (0.3 * k + 0.15)


def octave_bank(rate_hz: float, n_fft: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Octave bands over the lines of a Hann-windowed power spectrum.

    Bands are rectangular; a line that a band edge cuts counts in proportion. Left out are bands that reach above half
    the rate or into the lines that a mean value leaks into (0 and 1).

    Returns:
        Names ``octave_63_db`` ... and weights, float64, shape (bands, bins), so that weights @ |X|² is the band's mean
        square.
    """
    spacing = rate_hz / n_fft
    scale = one_sided(n_fft) / (n_fft * np.square(hann(n_fft)).sum())
    lines = np.arange(n_fft // 2 + 1)
    names, rows = [], []
    for nominal in OCTAVES:
        name = f"octave_{nominal}_db"
        low, high = (f / spacing for f in octave_edges(name))
        if low >= 1.5 and high * spacing <= rate_hz / 2:
            names.append(name)
            rows.append(np.clip(np.minimum(lines + 0.5, high) - np.maximum(lines - 0.5, low), 0.0, 1.0) * scale)
    return tuple(names), np.array(rows).reshape(len(rows), len(lines))


def decibels(mean_square: float, full_scale: float) -> float:
    """Level of a mean square relative to full scale, at least −200 dB."""
    ratio = mean_square / full_scale**2
    return max(10.0 * math.log10(ratio), FLOOR_DB) if ratio > 0 else FLOOR_DB


class FullScale(NamedTuple):
    """What levels of a stream are relative to (`full`), and the standard deviation under which it is silent."""

    full: float
    silent: float


def full_scale(stream: Stream) -> FullScale:
    """Full scale in the stream's unit: 1 for ``"FS"``, that of 16-bit codes, and of floats that have a `scale`.

    Other floats are numbers in their unit, whatever its size, and 32-bit codes also carry the counts of a 12-bit
    converter: nothing tells their full scale, so that levels are relative to one unit, and only a constant is silent.
    """
    if stream.unit == "FS":
        return FullScale(1.0, SILENT)
    if stream.dtype == "<i4" or (stream.dtype != "<i2" and stream.scale == 1.0):
        return FullScale(1.0, _NOTHING)
    full = stream.scale * (2.0**15 if stream.dtype == "<i2" else 1.0)
    return FullScale(full, SILENT * full)


def is_silent(std: float, mean: float, limit: float) -> bool:
    """Whether a standard deviation is below the limit of `FullScale`, or nothing but the rounding of a constant."""
    return std < max(limit, _ROUNDING * abs(mean))


def scalars(m: Moments, scale: FullScale, octaves: Mapping[str, float] | None) -> dict[str, float]:
    """What a window's level is, by name.

    Args:
        m: moments of the window's samples.
        scale: of the samples.
        octaves: mean square by name of octave band; None for ``level_db`` and ``silent`` alone.

    Returns:
        ``level_db``, ``silent`` (1.0 or 0.0), and with `octaves` also ``mean``, ``rms`` (of the deviation from the
        mean), ``crest``, ``kurtosis``, ``octave_63_db`` ... ``octave_16000_db``.
    """
    side = {
        "level_db": decibels(m.m2 / m.n, scale.full),
        "silent": float(is_silent(m.std, m.mean, scale.silent)),
    }
    if octaves is not None:
        side |= {"mean": m.mean, "rms": m.std, "crest": m.crest, "kurtosis": m.kurtosis}
        side |= {name: decibels(power, scale.full) for name, power in octaves.items()}
    return side


def merge(channels: list[dict[str, float]]) -> dict[str, float]:
    """Scalars of several channels: each as ``ch0_...``, and of all ``level_db`` (mean power), ``silent`` (any)."""
    if len(channels) == 1:
        return channels[0]
    power = sum(10.0 ** (side["level_db"] / 10.0) for side in channels) / len(channels)
    merged = {"level_db": 10.0 * math.log10(power), "silent": max(side["silent"] for side in channels)}
    for c, side in enumerate(channels):
        merged |= {f"ch{c}_{name}": value for name, value in side.items()}
    return merged


class Levels(Windowed):
    """`Segment` and `Gap` of one stream → `Feature` of levels, see `scalars` and, for several channels, `merge`.

    Where a log-Mel is computed anyway, `WindowLevels` gives the same names at no cost. Octave bands come from
    half-overlapping frames of `n_fft`; samples at the window's end that fill no frame do not enter them.

    Args:
        stream: the stream.
        length: samples per window; default half a second.
        hop: samples between window starts; default `length`.
        n_fft: samples per frame; default the power of two next to 43 ms (2,048 at 48 kHz).
        name: name of the features.

    Raises:
        ValueError: a window is shorter than a frame or longer than `memory_s`.
    """

    memory_s: ClassVar[float] = 2.0

    def __init__(
        self,
        stream: Stream,
        length: int | None = None,
        hop: int | None = None,
        n_fft: int | None = None,
        name: str = "level",
    ) -> None:
        rate = stream.rate.hz
        length = length or round(rate / 2)
        n_fft = n_fft or 2 ** round(math.log2(rate * 2048 / 48_000))
        if not n_fft <= length <= self.memory_s * rate:
            raise ValueError(f"a window of {length} samples must hold {n_fft} and last at most {self.memory_s} s")
        self.stream, self._name, self._scale = stream, name, full_scale(stream)
        self._grid = Grid(length, hop or length, stream.channels)
        half = n_fft - n_fft // 2
        self._frames = Frames(n_fft, half, (length - n_fft) // half + 1)
        self._x, self._square = aligned(length), aligned(length)
        self._names, weights = octave_bank(rate, n_fft)
        self._weights = pack(weights, n_fft)

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window."""
        n = self._grid.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Measure what this message completes."""
        if isinstance(message, Segment):
            return [self._feature(message, n0, x) for n0, x in self._grid.feed(message)]
        if isinstance(message, Gap):
            lost = self._grid.gap(message)
            return [] if lost is None else [feature(missing(message, *lost), self._name)]
        raise TypeError(f"Levels takes Segment and Gap, not {type(message).__name__}")

    def _feature(self, segment: Segment, n0: int, x: Float32) -> Feature:
        n1 = n0 + len(x)
        side = merge([self._measure(x[:, c]) for c in range(x.shape[1])])
        t_end_ns = end_ns(segment.anchor, n1, segment.stream)
        return feature(Window(segment.stream, n0, n1, t_end_ns, np.empty((0, 0), np.float32), side=side), self._name)

    def _measure(self, x: Float32) -> dict[str, float]:
        np.copyto(self._x, x)
        mean = mean_of(self._x)
        np.subtract(self._x, np.float32(mean), out=self._x)
        np.copyto(self._frames.x, self._x[: self._frames.samples])
        powers, _ = self._frames.bands(self._weights)
        means = powers.mean(axis=1, dtype=np.float64)
        octaves = dict(zip(self._names, means.tolist(), strict=True))
        return scalars(moments(self._x, mean, self._square), self._scale, octaves)


class WindowLevels(Windowed):
    """`Window` of a log-Mel (or of any stage that keeps `scalars` in `side`) → `Feature` of what its side holds."""

    def __init__(self, stream: Stream, name: str = "level") -> None:
        self.stream = stream
        self._name = name

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """Turn one window's side values into features."""
        if not isinstance(message, Window):
            raise TypeError(f"WindowLevels takes Window, not {type(message).__name__}")
        return [feature(message, self._name)]


def feature(window: Window, name: str) -> Feature:
    """The side values of a window as a feature of its sensor."""
    stream = window.stream
    return Feature(
        stream.machine, (stream.sensor,), name, window.t_end_ns, dict(window.side), window.complete, (window.span,)
    )
