"""Magnitude-squared coherence with what independent noise would show: floor, 95 % point, permutation p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import get_window

from models.drill.data import RATE_HZ, Float64
from operators.spectral import hann

Complex128 = NDArray[np.complex128]

SEGMENT = 256


@dataclass(frozen=True, slots=True, eq=False)
class Coherence:
    """Coherence of two sounds.

    Attributes:
        f_hz: shape (bins,).
        coherence: shape (bins,), 0-1.
        phase_deg: of the cross spectrum; says nothing where the coherence is insignificant.
        segments: overlapping segments that were averaged.
        floor: mean for independent noise, about 1/segments.
        point95: what 95 % of independent segments stay below in one bin, 1 - 0.05^(1/(n-1)).
        p_maximum: permutation p of the largest value over the spectrum.
    """

    f_hz: Float64
    coherence: Float64
    phase_deg: Float64
    segments: int
    floor: float
    point95: float
    p_maximum: float

    @property
    def significant(self) -> bool:
        """Whether the maximum stands out of what chance gives, at 5 %."""
        return self.p_maximum <= 0.05


def point95(segments: int) -> float:
    """95 % point of one bin's coherence for independent noise in independent segments (Carter 1973)."""
    return float(1.0 - 0.05 ** (1.0 / (segments - 1)))


def spectra(x: Float64, segment: int, n_fft: int, window: Float64) -> Complex128:
    """Half-overlapping segments of x (..., n), each less its mean: complex, shape (..., segments, n_fft // 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(x, segment, axis=-1)[..., :: segment // 2, :]
    frames = frames - frames.mean(axis=-1, keepdims=True)
    out: Complex128 = np.fft.rfft(frames * window, n_fft, axis=-1)
    return out


def magnitude_squared(X: Complex128, Y: Complex128) -> tuple[Float64, Float64]:
    """|Pxy|² / (Pxx Pyy) and the phase of Pxy in degrees, (..., bins), from spectra of shape (..., segments, bins)."""
    cross = np.mean(X * np.conj(Y), axis=-2)
    power = np.mean(np.abs(X) ** 2, axis=-2) * np.mean(np.abs(Y) ** 2, axis=-2)
    squared: Float64 = np.abs(cross) ** 2 / np.maximum(power, 1e-300)
    phase: Float64 = np.degrees(np.angle(cross))
    return squared, phase


def coherence(
    a: Float64, b: Float64, *, segment: int = SEGMENT, permutations: int = 199, seed: int = 0, top_hz: float = 22_000.0
) -> Coherence:
    """Coherence of the common part of two sounds, with its significance.

    Chance is measured by turning one sound round by random numbers of samples, at least a segment: that keeps its
    spectrum and destroys what it shares with the other at this alignment. The sounds must not have been aligned by
    their own correlation, which alone makes noise coherent.

    Args:
        a: shape (n,).
        b: shape (m,); both are cut to the shorter length.
        segment: samples per Hann segment, half overlapping: 14 segments of 256 in 2,000 samples.
        permutations: turns.
        seed: of the turns.
        top_hz: bins above take no part in the maximum.

    Raises:
        ValueError: less than four segments.
    """
    n = min(len(a), len(b))
    if n < 2.5 * segment:
        raise ValueError(f"{n} samples hold less than four half-overlapping segments of {segment}")
    a, b = a[:n], b[:n]
    window = hann(segment)
    X, Y = spectra(a, segment, segment, window), spectra(b, segment, segment, window)
    f = np.arange(X.shape[1], dtype=np.float64) * (RATE_HZ / segment)
    heard = (f > 0.0) & (f <= top_hz)
    values, phase = magnitude_squared(X, Y)
    rng = np.random.default_rng(seed)
    peak = float(values[heard].max())
    turns = rng.integers(segment, n - segment, permutations)
    turned = b[(np.arange(n) - turns[:, None]) % n]
    chance = magnitude_squared(X, spectra(turned, segment, segment, window))[0][:, heard].max(axis=1)
    reached = int(np.sum(chance >= peak))
    return Coherence(
        f, values, phase, len(X), 1.0 / len(X), point95(len(X)), (reached + 1) / (permutations + 1)
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChanceOfPublished:
    """What independent white noise gives by the method behind the published coherence.

    Attributes:
        mean: of one bin.
        point95: of one bin.
        above_highest: share of trials whose maximum exceeds the highest published value, 0.559.
        above_second: the same for 0.494.
        top_three: median of the three largest peaks below 10 kHz, ascending.
        reach_all: share of trials whose three largest peaks below 10 kHz reach all three published ones.
    """

    mean: float
    point95: float
    above_highest: float
    above_second: float
    top_three: tuple[float, float, float]
    reach_all: float


def chance_of_published(published: tuple[float, ...], trials: int, seed: int = 0, n: int = 2000) -> ChanceOfPublished:
    """Repeat the published measurement on independent noise: eight Hamming segments, FFT of 512, at 96 kHz.

    Args:
        published: the three marked coherences.
        trials: noise pairs.
        seed: of the noise.
        n: samples of the common part.
    """
    rng = np.random.default_rng(seed)
    segment = int(n / 4.5)
    window = get_window("hamming", segment, fftbins=False)
    marked = np.sort(np.array(published))
    values = np.empty((trials, 257))
    for i in range(trials):
        both = spectra(rng.standard_normal((2, n)), segment, 512, window)[:, :8]
        values[i] = magnitude_squared(both[0], both[1])[0]
    low = values[:, : int(10_000.0 / (RATE_HZ / 512)) + 1]
    inner = (low[:, 1:-1] > low[:, :-2]) & (low[:, 1:-1] > low[:, 2:])
    peaks = np.sort(np.where(inner, low[:, 1:-1], 0.0), axis=1)[:, -3:]
    medians = np.median(peaks, axis=0)
    return ChanceOfPublished(
        mean=float(values.mean()),
        point95=float(np.quantile(values, 0.95)),
        above_highest=float(np.mean(values.max(axis=1) > marked[-1])),
        above_second=float(np.mean(values.max(axis=1) > marked[-2])),
        top_three=(float(medians[0]), float(medians[1]), float(medians[2])),
        reach_all=float(np.mean((peaks >= marked).all(axis=1))),
    )
