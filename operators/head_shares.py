"""How much each bit of a head has in the noise between its microphones.

With bit k's share p of the noise at each microphone, the coherence of microphones i and j is
``sum over k of sqrt(p_ki p_kj) exp(-2 pi i f (t_ki - t_kj))``. Normalised cross-spectra are fitted by least squares
with one number a_k per bit: 1 where it cuts as all do, 0 where it is silent. A bit of ninety has 0.01 of the noise; the
coherence of independent noise over a bandwidth B and a time T has a standard deviation of 1/sqrt(2BT), 0.006 for 10 kHz
and 1.5 s, and every pair of microphones says it again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.head_geometry import HeadGeometry
from operators.spectral import hann

Float64 = NDArray[np.float64]
Complex = NDArray[np.complex128]

LOW_HZ, HIGH_HZ = 1500.0, 12_000.0
FRAME_S = 0.0213
_RIDGE = 3.0
"""Of the mean diagonal: nearly a matched filter, which forgives what the geometry does not know."""
_SMOOTH = 2
_TINY = 1e-30


class Shares:
    """Fits a head's coherences.

    Args:
        geometry: of the head.
        rate_hz: of the samples.
    """

    def __init__(self, geometry: HeadGeometry, rate_hz: float) -> None:
        self.frame = 2 * round(0.5 * FRAME_S * rate_hz)
        f = np.arange(self.frame // 2 + 1) * (rate_hz / self.frame)
        self._bins = np.flatnonzero((f >= LOW_HZ) & (f <= min(HIGH_HZ, 0.45 * rate_hz)))
        self._pairs = np.array(geometry.pairs())
        self._hann = hann(self.frame)[:, None]
        steering = _steering(geometry, np.asarray(f[self._bins], np.float64), self._pairs)
        self._fit = _least_squares(steering)

    def spectra(self, x: Float64) -> Complex:
        """Transforms of half-overlapping frames, shape (frames, frequencies, microphones)."""
        step = self.frame // 2
        count = (len(x) - self.frame) // step + 1
        framed = np.stack([x[i * step : i * step + self.frame] * self._hann for i in range(count)])
        spectra: Complex = fft.rfft(framed, axis=1)
        return spectra

    def fit(self, spectra: Complex) -> Float64:
        """One number per bit, shape (bits,); a microphone's loudness, and what it hears alone, cancel.

        Args:
            spectra: of `spectra`.
        """
        power = np.mean(np.square(spectra.real) + np.square(spectra.imag), axis=0)
        level = np.sqrt(smoothed(power, _SMOOTH)[self._bins] + _TINY)
        heard = spectra[:, self._bins] / level
        i, j = self._pairs.T
        cross = np.mean(heard[:, :, i] * np.conj(heard[:, :, j]), axis=0)
        flat = np.concatenate([cross.real.ravel(), cross.imag.ravel()])
        return np.asarray(self._fit @ flat, np.float64)


def smoothed(power: Float64, bins: int) -> Float64:
    """Mean over so many neighbours on each side along the first axis; the ends repeat."""
    wide = np.pad(power, ((bins, bins), (0, 0)), mode="edge")
    total = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(wide, axis=0)])
    return np.asarray((total[2 * bins + 1 :] - total[: -2 * bins - 1]) / (2 * bins + 1), np.float64)


def _steering(geometry: HeadGeometry, f: Float64, pairs: NDArray[np.int64]) -> Float64:
    """Coherence that one bit alone adds, real over imaginary part, shape (2 × frequencies × pairs, bits)."""
    weights, delays = geometry.weights(), geometry.delays_s()
    i, j = pairs.T
    amplitude, late = weights[:, i] * weights[:, j], delays[:, i] - delays[:, j]
    phase = -2.0 * np.pi * f[:, None] * late[:, None, :]
    added = amplitude[:, None, :] * np.exp(1j * phase)
    flat = np.concatenate([added.real.reshape(len(late), -1), added.imag.reshape(len(late), -1)], axis=1)
    steering: Float64 = flat.T
    return steering


def _least_squares(steering: Float64) -> Float64:
    """(HᵀH + ridge)⁻¹Hᵀ, scaled so that each bit gives 1 for itself, and the length of each row."""
    gram = steering.T @ steering
    ridge = _RIDGE * float(np.mean(np.diag(gram))) * np.eye(len(gram))
    fit = np.linalg.solve(gram + ridge, steering.T)
    fit /= np.sum(fit * steering.T, axis=1, keepdims=True)
    return np.asarray(fit, np.float64)
