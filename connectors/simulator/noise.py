"""Noise with a given spectrum, from a seed, readable anywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

from connectors.simulator.seeds import generator
from connectors.simulator.tracks import BLOCK, Convolved, Float64, Track

_TAPS = 4096


class White(Track):
    """Independent normal samples of standard deviation 1."""

    def __init__(self, rate_hz: float, seed: int, name: str) -> None:
        super().__init__(rate_hz)
        self._seed, self._name = seed, name

    def block(self, b: int) -> Float64:
        """Block b has its own generator."""
        return generator(self._seed, "white", self._name, b).standard_normal(BLOCK, dtype=np.float32).astype(np.float64)


def shaped(rate_hz: float, seed: int, name: str, gain: Callable[[Float64], Float64]) -> Track:
    """Noise of standard deviation 1 whose amplitude spectrum follows `gain`.

    Args:
        rate_hz: samples per second.
        seed: of the noise.
        name: tells one noise from another.
        gain: relative amplitude at frequencies in Hz, both float64 of equal shape.
    """
    response = impulse_response(rate_hz, gain)
    return Convolved(White(rate_hz, seed, name), response / np.sqrt(np.sum(response**2)))


def impulse_response(rate_hz: float, gain: Callable[[Float64], Float64]) -> Float64:
    """Causal minimum-phase response, 4096 taps, whose amplitude spectrum is `gain` (homomorphic method)."""
    size = 4 * _TAPS
    magnitude = np.maximum(gain(fft.rfftfreq(size, 1.0 / rate_hz)), 1e-5)
    cepstrum = fft.irfft(np.log(magnitude), size)
    cepstrum[1 : size // 2] *= 2.0
    cepstrum[size // 2 + 1 :] = 0.0
    response: Float64 = fft.irfft(np.exp(fft.rfft(cepstrum)), size)[:_TAPS]
    return response


def tilt(db_per_octave: float, corner_hz: float) -> Callable[[Float64], Float64]:
    """Flat up to `corner_hz`, then rising or falling by `db_per_octave`; nothing below 20 Hz."""

    def gain(f: Float64) -> Float64:
        octaves = np.log2(np.maximum(f, corner_hz) / corner_hz)
        return high_pass(f, 20.0) * 10.0 ** (db_per_octave * octaves / 20.0)

    return gain


def band(low_hz: float, high_hz: float) -> Callable[[Float64], Float64]:
    """Second-order edges at `low_hz` and `high_hz`."""

    def gain(f: Float64) -> Float64:
        return high_pass(f, low_hz) * low_pass(f, high_hz, 2)

    return gain


def high_pass(f: Float64, corner_hz: float) -> Float64:
    """Amplitude of a second-order Butterworth high-pass."""
    ratio = np.maximum(f, 1e-3) / corner_hz
    return ratio**2 / np.sqrt(1.0 + ratio**4)


def low_pass(f: Float64, corner_hz: float, order: int) -> Float64:
    """Amplitude of a Butterworth low-pass."""
    return 1.0 / np.sqrt(1.0 + (f / corner_hz) ** (2 * order))
