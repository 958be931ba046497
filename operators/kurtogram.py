"""Kurtogram: the band in which a signal is most impulsive, on a 1/3-binary tree of bands.

SK = <|c|⁴>/<|c|²>² - 2 of the complex envelope c of each band (Antoni and Randall, Mech. Syst. Signal Process. 20,
2006; Antoni, ibid. 21, 2007): 0 for Gaussian noise with a standard deviation of about 2/sqrt(M) over M values, -1 for a
tone.
Bands are cut out of one Fourier transform of the whole window; the transform back of a band's lines alone is its
complex envelope at the band's own rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Complex128 = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Band:
    """A band of the tree.

    Attributes:
        low_hz: lower edge.
        high_hz: upper edge.
        kurtosis: SK of the complex envelope.
    """

    low_hz: float
    high_hz: float
    kurtosis: float


def widths(rate_hz: float, least_hz: float, levels: int = 7) -> list[float]:
    """Bandwidths of the 1/3-binary tree: half the rate by 2, 3, 4, 6, 8, 12, … down to `least_hz`."""
    half = rate_hz / 2.0
    parts = sorted({2**k for k in range(1, levels + 1)} | {3 * 2**k for k in range(levels)})
    return [half / part for part in parts if half / part >= least_hz]


def envelope(spectrum: Complex128, rate_hz: float, band: Band, times: int = 1) -> Complex128:
    """Complex envelope of a band at the rate ``times · (high - low)``, or a little above it.

    Args:
        spectrum: of the real signal, from `scipy.fft.rfft`.
        rate_hz: samples per second of the signal.
        band: what to cut out.
        times: 1 for the envelope itself; 2 for its square, whose spectrum reaches to ``high - low`` on both sides.
    """
    spacing = rate_hz / (2.0 * (len(spectrum) - 1))
    low, high = round(band.low_hz / spacing), round(band.high_hz / spacing)
    size: int = fft.next_fast_len(times * (high - low))
    c: Complex128 = fft.ifft(spectrum[low:high], size)
    return c


def kurtosis(c: Complex128) -> float:
    """SK of a complex envelope; 0 for silence."""
    square = np.square(c.real) + np.square(c.imag)
    mean = float(square.mean())
    return float(np.square(square).mean()) / mean**2 - 2.0 if mean > 0.0 else 0.0


def kurtogram(spectrum: Complex128, rate_hz: float, least_hz: float, low_hz: float = 0.0) -> list[Band]:
    """All bands of the tree above `low_hz` and below 0.46 of the rate, widest first.

    Args:
        spectrum: of the real signal, from `scipy.fft.rfft`.
        rate_hz: samples per second of the signal.
        least_hz: narrowest band.
        low_hz: bands that begin below are left out: shaft and mesh lines live there.
    """
    bands = []
    for width in widths(rate_hz, least_hz):
        for k in range(round(rate_hz / 2.0 / width)):
            band = Band(k * width, (k + 1) * width, 0.0)
            if band.low_hz < low_hz or band.high_hz > 0.46 * rate_hz:
                continue
            bands.append(Band(band.low_hz, band.high_hz, kurtosis(envelope(spectrum, rate_hz, band))))
    return bands


def most_impulsive(bands: list[Band], seconds: float) -> Band:
    """The band whose SK stands out most of what noise gives, SK·sqrt(M)/2 with M = width · seconds, of the usable ones.

    Plain maxima favour the narrowest bands, whose SK of noise scatters most; half the weight of the standard deviation
    keeps wide bands from winning by their length alone.

    Args:
        bands: from `kurtogram`, not empty.
        seconds: length of the window.
    """
    return max(bands, key=lambda b: b.kurtosis * ((b.high_hz - b.low_hz) * seconds) ** 0.25)
