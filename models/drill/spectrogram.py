"""Mel spectra of drill sounds: the paper's 32 × 1 or 32 × 2, and a finer one for a small network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import fft, sparse

from models.drill.data import RATE_HZ, Float64
from models.drill.filters import HIGH_HZ, LOW_HZ, band_limited
from operators.logmel import clip
from operators.mel import DRILL, band_slice, mel_bank
from operators.spectral import hann

INFORMATIVE = band_slice(DRILL, LOW_HZ, HIGH_HZ)
"""The 21 of 32 bands whose centres lie within 1-22 kHz; filtering leaves 6 below and 5 above empty."""
FINE_BANDS = 32
_WINDOW, _HOP, _FFT = 256, 64, 1024
_FLOOR = 1e-14


def paper_mel(x: Float64) -> Float64:
    """Log-Mel of the band-limited sound as in the paper, in dB, shape (32, frames).

    Periodic Hann window and FFT of 1,999 samples, overlap 512, 32 bands over 0-48 kHz of unit area. Frames are
    1 + (n - 1999) // 1487: one for 1,999 or 2,000 samples, two for 4,000.

    Args:
        x: samples at 96 kHz, shape (n,).
    """
    return clip(band_limited(x).astype(np.float32), RATE_HZ, DRILL).values.astype(np.float64)


def band_levels(x: Sequence[Float64] | Float64) -> Float64:
    """Level of the 21 bands between 1 and 22 kHz in dB, mean power over the frames.

    Args:
        x: clips at 96 kHz, each of shape (n,).

    Returns:
        float64, shape (clips, 21).
    """
    power = np.stack([np.mean(10.0 ** (paper_mel(row)[INFORMATIVE] / 10.0), axis=1) for row in x])
    levels: Float64 = 10.0 * np.log10(power + _FLOOR)
    return levels


@lru_cache(maxsize=1)
def _fine_bank() -> sparse.csr_array:
    return mel_bank(RATE_HZ, _FFT, FINE_BANDS, LOW_HZ, HIGH_HZ, norm="bandwidth")


def fine_mel(x: Float64) -> Float64:
    """Log-Mel in time steps of 0.67 ms, in dB: Hann windows of 256 samples, hop 64, 32 bands over 1-22 kHz.

    Frames are filled with zeros to 1,024 samples: bands near 1 kHz are narrower than the 375 Hz between two lines of
    a transform of 256.

    Args:
        x: samples at 96 kHz, shape (clips, n).

    Returns:
        float32 values as float64, shape (clips, 32, 1 + (n - 256) // 64): 28 frames for 1,999 samples.
    """
    y = band_limited(x)
    frames = np.lib.stride_tricks.sliding_window_view(y, _WINDOW, axis=-1)[:, ::_HOP] * hann(_WINDOW)
    spectrum = fft.rfft(frames, _FFT, axis=-1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) * (2.0 / (RATE_HZ * 0.375 * _WINDOW))
    flat = power.reshape(-1, power.shape[-1])
    mel = (_fine_bank() @ flat.T).T.reshape(*power.shape[:2], FINE_BANDS)
    levels: Float64 = 10.0 * np.log10(np.swapaxes(mel, 1, 2) + _FLOOR)
    return levels
