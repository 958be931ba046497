"""Signals whose levels and spectra are known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def sine(n: int, rate_hz: float, f_hz: float, amplitude: float = 1.0, phase: float = 0.0) -> Float64:
    """amplitude · sin(2π f t + phase)."""
    x: Float64 = amplitude * np.sin(2.0 * np.pi * f_hz * np.arange(n, dtype=np.float64) / rate_hz + phase)
    return x


def square(n: int, period: int, amplitude: float = 1.0) -> Float64:
    """A square wave of an even period in samples: crest factor 1, kurtosis 1."""
    return np.where(np.arange(n) % period < period // 2, amplitude, -amplitude)


def chirp(n: int, rate_hz: float, f0_hz: float, f1_hz: float, amplitude: float = 1.0) -> Float64:
    """A linear sweep from f0 to f1."""
    t = np.arange(n) / rate_hz
    return amplitude * np.sin(2.0 * np.pi * (f0_hz * t + (f1_hz - f0_hz) * t**2 * rate_hz / (2.0 * n)))


def noise(n: int, sigma: float = 1.0, seed: int = 0, channels: int | None = None) -> Float64:
    """White Gaussian noise, shape (n,) or (n, channels)."""
    return sigma * np.random.default_rng(seed).standard_normal(n if channels is None else (n, channels))


def clicks(n: int, period: int, amplitude: float = 1.0) -> Float64:
    """Single samples at every multiple of the period: mean square amplitude² / period, flat spectrum."""
    x = np.zeros(n)
    x[::period] = amplitude
    return x
