"""The windowed half of the drill-break detector: band levels, bursts and crest of every 5 ms.

A breaking drill gives a burst of one to five milliseconds over all frequencies, and then the cutting noise is gone. A
frame therefore says how loud it is by band and how much the last 5 ms stand out of the last 50 ms. What was learned of
good holes is in `breakage_detector`. Latency: none beyond the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.gated import Gated
from operators.grid import Grid
from operators.rewindow import end_ns
from operators.spectral import hann
from operators.spindle import GivenSpeed, Speed
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Span, Stream

Float64 = NDArray[np.float64]

FRAME = "drill_frame"
HOP_S = 0.005
EDGES_HZ = (700.0, 1500.0, 3000.0, 6000.0, 12_000.0, 22_000.0)
"""Edges of the bands; those above 0.45 of the rate are left out."""
_WINDOW_S = 0.05
_SPECTRUM_S = 0.01
_SMOOTH_S = 0.001
_TINY = 1e-20


def band_powers(x: Float32, rate_hz: float) -> list[float]:
    """Mean square by band (`EDGES_HZ`), summed over the channels, in unit².

    Args:
        x: samples, shape (n, channels); Hann-windowed.
        rate_hz: samples per second.

    Returns:
        One number per band that lies below 0.45 of the rate at least in part.
    """
    n = len(x)
    spectrum = fft.rfft(x.astype(np.float64) * hann(n)[:, None], axis=0)
    p = (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=1) * (2.0 / (0.375 * n * n))
    f = np.arange(len(p)) * (rate_hz / n)
    edges = [edge for edge in EDGES_HZ if edge < 0.45 * rate_hz] + [0.45 * rate_hz]
    bounds = np.searchsorted(f, edges[: len(EDGES_HZ)])
    return [float(p[low:high].sum()) for low, high in pairwise(bounds.tolist()) if high > low]


def energy_peak(x: Float32, smooth: int, last: int) -> float:
    """Largest Teager-Kaiser energy of the last samples, averaged over `smooth` and summed over the channels.

    ``psi[n] = x[n]² - x[n-1] x[n+1]`` (Kaiser, ICASSP 1990).

    Args:
        x: samples, shape (n, channels).
        smooth: samples to average over.
        last: how many of the last averages to look at.
    """
    wide = x[max(0, len(x) - last - smooth - 1) :].astype(np.float64)
    psi = (wide[1:-1] ** 2 - wide[:-2] * wide[2:]).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(psi)])
    return float(np.max(total[smooth:] - total[:-smooth]) / smooth)


def crest(x: Float32, last: int) -> float:
    """Peak of the last samples over the RMS of all, of the differences between samples; 0 for silence.

    Differences leave the rumble of the hall out; the channel that stands out most counts.

    Args:
        x: samples, shape (n, channels).
        last: where to look for the peak.
    """
    step = np.diff(x.astype(np.float64), axis=0)
    level = np.sqrt(np.mean(step * step, axis=0))
    peak = np.max(np.abs(step[-last:]), axis=0)
    return float(np.max(np.divide(peak, level, out=np.zeros_like(level), where=level > 0.0)))


class BreakFeatures(Gated):
    """`Segment` and `Gap` of one stream → `Feature` ``drill_frame`` every 5 ms.

    Values: ``p0``, ``p1``, … (mean square by band over the last 10 ms, unit²), ``energy`` (Teager-Kaiser peak of the
    last 5 ms over 1 ms), ``crest`` (peak of the last 5 ms over the RMS of 50 ms, of the sample differences), and
    ``cutting`` (1, 0, or -1 where the machine does not say). Missing samples give one incomplete feature.

    Args:
        stream: the stream.
        state: where the operating state comes from, if anywhere; its speed is not used.

    Raises:
        ValueError: a rate that leaves no band.
    """

    memory_s: ClassVar[float] = _WINDOW_S

    def __init__(self, stream: Stream, state: Speed | None = None) -> None:
        if stream.rate.hz * 0.45 < EDGES_HZ[1]:
            least = EDGES_HZ[1] / 0.45
            raise ValueError(f"drill break needs a rate of at least {least:.0f} Hz, not {stream.rate.hz:g}")
        super().__init__(stream, GivenSpeed(1.0) if state is None else state)
        self._rate = stream.rate.hz
        self._hop = round(HOP_S * self._rate)
        self._spectrum = round(_SPECTRUM_S * self._rate)
        self._smooth = max(2, round(_SMOOTH_S * self._rate))
        self._grid = Grid(round(_WINDOW_S * self._rate), self._hop, stream.channels)

    def first(self) -> int | None:
        """Start of the next frame's window."""
        return self._grid.needs_from()

    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """Measure the frames that this message completes."""
        if isinstance(message, Segment):
            frames = self._grid.feed(message)
            return [self._feature(message, n0, n0 + len(x), self._measure(message, n0, x)) for n0, x in frames]
        lost = self._grid.gap(message)
        return [] if lost is None else [self._feature(message, *lost, None)]

    def _measure(self, segment: Segment, n0: int, x: Float32) -> dict[str, float]:
        cutting = self.speed.at(end_ns(segment.anchor, n0 + len(x), self.stream)).cutting
        values = {f"p{i}": p for i, p in enumerate(band_powers(x[len(x) - self._spectrum :], self._rate))}
        values["energy"] = max(energy_peak(x, self._smooth, self._hop), _TINY)
        values["crest"] = crest(x, self._hop)
        values["cutting"] = -1.0 if cutting is None else float(cutting)
        return values

    def _feature(self, source: Segment | Gap, n0: int, n1: int, values: Mapping[str, float] | None) -> Feature:
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        t_end = end_ns(source.anchor, n1, self.stream)
        return Feature(
            self.stream.machine, (self.stream.sensor,), FRAME, t_end, values or {}, values is not None, (span,)
        )
