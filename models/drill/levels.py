"""Band levels of a running stream: the 21 bands of the drill front end, cheap enough for every 10 ms of every sensor.

The clips of the paper are filtered forwards and backwards first. In a stream the same response weighs the lines of the
spectrum instead: what differs is only what leaks over the edges of the pass band.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

import numpy as np
from scipy import fft, sparse

from models.drill.data import Float64
from models.drill.filters import HIGH_HZ, LOW_HZ, ORDER, sections
from models.drill.spectrogram import INFORMATIVE
from operators.mel import DRILL, mel_bank
from operators.spectral import hann
from pipeline.errors import BadInput

BANDS = INFORMATIVE.stop - INFORMATIVE.start
CLIP_S = 1.0 / 48.0
"""20.83 ms: 2,000 samples at 96 kHz."""
LINE_HZ = 48.0
RATES = (96_000.0, 48_000.0)
"""Rates at which such a clip has a whole number of samples and reaches the highest band."""
HOW = f"{BANDS} bands, 1-22 kHz, in dB: the last 20.83 ms less the 20.83 ms before"
_LINES = 501  # up to 24 kHz
_FLOOR = 1e-14
HASH = sha256(f"{HOW}|{DRILL.hash}|{LOW_HZ}|{HIGH_HZ}|{ORDER}|1".encode()).hexdigest()[:16]
"""Of all that the levels depend on; a card names it."""


def check_rate(rate_hz: float, where: str) -> None:
    """Refuse a rate at which the classifier's levels cannot be measured.

    Raises:
        BadInput: says which rates can.
    """
    if rate_hz not in RATES:
        raise BadInput(
            "rate", f"{where}: the drill classifier hears {' or '.join(f'{r:g}' for r in RATES)} Hz, not {rate_hz:g} Hz"
        )


@lru_cache(maxsize=1)
def _bank() -> sparse.csr_array:
    """Weights (bands, lines): triangles of the front end times the filters' response, twice as power."""
    rate = RATES[0]
    triangles = mel_bank(rate, round(rate / LINE_HZ), DRILL.bands, DRILL.f_min, DRILL.f_max, norm=DRILL.mel_norm)
    from scipy.signal import sosfreqz

    _, response = sosfreqz(sections(), np.arange(_LINES) * LINE_HZ, fs=rate)
    return sparse.csr_array(triangles[INFORMATIVE, :_LINES].multiply(np.abs(response) ** 4))


def band_powers(x: Float64, rate_hz: float) -> Float64:
    """Mean power density in the bands of one clip, in unit²/Hz.

    Args:
        x: samples, shape (n, channels) with n = rate / 48 Hz; channels are averaged.
        rate_hz: one of `RATES`.

    Returns:
        Shape (21,).
    """
    n = len(x)
    spectrum = fft.rfft(x * hann(n)[:, None], axis=0)[:_LINES]
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).mean(axis=1) * (2.0 / (rate_hz * 0.375 * n))
    bands: Float64 = _bank() @ power
    return bands


def contrast(x: Float64, rate_hz: float) -> Float64:
    """Levels of the last 20.83 ms less those of the 20.83 ms before, in dB: no gain, room or microphone is in them.

    Args:
        x: samples, shape (2 · rate / 48 Hz or more, channels); the last ones count.
        rate_hz: one of `RATES`.

    Returns:
        Shape (21,).
    """
    n = round(CLIP_S * rate_hz)
    wide = x[len(x) - 2 * n :].astype(np.float64)
    before, now = (10.0 * np.log10(band_powers(part, rate_hz) + _FLOOR) for part in (wide[:n], wide[n:]))
    difference: Float64 = now - before
    return difference
