"""Rolling bearings: lines of a local fault in the squared-envelope spectrum of the most impulsive band.

A fault on a race or ball rings the structure at each pass; the envelope of that ringing repeats at a rate which
geometry and speed give (`Geometry`). A fault is told where its lines stand 10 dB above the median within 1 % of that
rate and its multiples (Randall and Antoni, Mech. Syst. Signal Process. 25, 2011).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from math import cos, log, log10
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.gated import Gated
from operators.grid import Grid
from operators.kurtogram import Band, envelope, kurtogram, most_impulsive
from operators.levels import SILENT
from operators.rewindow import end_ns
from operators.spectral import hann
from operators.spindle import Speed
from pipeline.messages import Float32, Gap, Message, Score, Segment, Span, Stream

Float64 = NDArray[np.float64]

FAULTS = ("outer_race", "inner_race", "ball", "cage")
LIMIT_DB = 10.0
WINDOW_S, HOP_S = 4.0, 2.0
TOLERANCE = 0.01
HARMONICS = 5
LOW_HZ = 500.0
_ALONE_DB = 4.0
"""A first line without company must stand out by so much more."""
_TINY = 1e-30
_PERIODS = 3.0
_FEW_LINES = 8


class Geometry(NamedTuple):
    """A rolling bearing: number of rolling elements, ball over pitch diameter d/D, contact angle in rad."""

    balls: int
    ratio: float
    angle_rad: float = 0.0

    def per_revolution(self) -> dict[str, float]:
        """Fault rates per revolution of the inner race, the outer one at rest.

        BPFO = z/2 (1 - d/D cos a), BPFI = z/2 (1 + d/D cos a), FTF = (1 - d/D cos a)/2, and for the ball
        2 BSF = (D/d) (1 - (d/D cos a)²), as a spot on it strikes both races in each spin.
        """
        along = self.ratio * cos(self.angle_rad)
        return {
            "outer_race": self.balls / 2.0 * (1.0 - along),
            "inner_race": self.balls / 2.0 * (1.0 + along),
            "ball": (1.0 - along**2) / self.ratio,
            "cage": 0.5 * (1.0 - along),
        }


class Spectrum(NamedTuple):
    """Squared-envelope spectrum of one channel: frequencies in Hz, power, and the band that it is of."""

    f: Float64
    p: Float64
    band: Band


def envelope_spectrum(
    x: NDArray[np.floating[Any]], rate_hz: float, least_hz: float, low_hz: float = LOW_HZ
) -> Spectrum:
    """Squared-envelope spectrum of the most impulsive band, up to the band's width.

    Args:
        x: samples of one channel, shape (n,).
        rate_hz: samples per second.
        least_hz: narrowest band to choose; several times the highest fault rate.
        low_hz: lowest edge of a band.

    Raises:
        ValueError: no band lies between `low_hz` and 0.46 of the rate.
    """
    seconds = len(x) / rate_hz
    wide = x.astype(np.float64)
    spectrum = fft.rfft(wide - wide.mean())
    bands = kurtogram(spectrum, rate_hz, least_hz, low_hz)
    if not bands:
        raise ValueError(f"no band of {least_hz:g} Hz fits above {low_hz:g} Hz at {rate_hz:g} Hz")
    band = most_impulsive(bands, seconds)
    c = envelope(spectrum, rate_hz, band, times=2)
    square = np.square(c.real) + np.square(c.imag)
    square = (square - square.mean()) * hann(len(square))
    line = fft.rfft(square)
    lines = int((band.high_hz - band.low_hz) * seconds)  # no two lines of the band are further apart
    p: Float64 = np.square(line.real[:lines]) + np.square(line.imag[:lines])
    return Spectrum(np.arange(lines) / seconds, p, band)


def line_db(spectrum: Spectrum, f_hz: float) -> float | None:
    """Peak within ±1 % (one line at least) over the median within ±40 % of a frequency, in dB.

    None where it lies beyond the spectrum, or so low that the window holds less than three periods of it. The largest
    of n lines of noise is ln n / ln 2 times their median: what more than 8 lines add to that is taken off.
    """
    f, p = spectrum.f, spectrum.p
    width = max(TOLERANCE * f_hz, 1.5 * float(f[1]))
    if f_hz + width > f[-1] or f_hz < _PERIODS * f[1]:
        return None
    near = slice(int(np.searchsorted(f, f_hz - width)), int(np.searchsorted(f, f_hz + width, "right")))
    around = slice(int(np.searchsorted(f, 0.6 * f_hz)), int(np.searchsorted(f, 1.4 * f_hz, "right")))
    if near.start == near.stop or around.start == around.stop:
        return None
    lines = log(max(near.stop - near.start, _FEW_LINES)) / log(_FEW_LINES)
    return 10.0 * log10(max(float(p[near].max()), _TINY) / max(float(np.median(p[around])) * lines, _TINY))


def judge(levels: list[float]) -> float:
    """One number of a fault's lines: the first and one more must stand out, or the first by 4 dB more.

    Multiples alone do not count: the fourth line of one race lies within a percent or two of the third of the other.

    Args:
        levels: of the first lines in dB, from `line_db`.
    """
    return max(min(levels[0], max(levels[1:])), levels[0] - _ALONE_DB)


class BearingLines(Gated):
    """`Segment` and `Gap` of one stream → `Score` "bearing_outer_race" and so on.

    Every 2 s, one score for each of `FAULTS` over the last 4 s, in dB above the median, threshold 10 dB. Of several
    channels the most impulsive one is taken. Without a usable speed or any signal, or with samples missing, scores are
    incomplete.

    Args:
        stream: the stream.
        geometry: of the bearing.
        speed: of the shaft.

    Raises:
        ValueError: a geometry that is none, or a rate too low for bands above 500 Hz.
    """

    memory_s: ClassVar[float] = WINDOW_S

    def __init__(self, stream: Stream, geometry: Geometry, speed: Speed) -> None:
        if geometry.balls < 3 or not 0.0 < geometry.ratio < 1.0:
            raise ValueError(f"no bearing has {geometry.balls} rolling elements with d/D = {geometry.ratio:g}")
        if stream.rate.hz < 8.0 * LOW_HZ:
            raise ValueError(f"bearing lines need a rate of at least {8.0 * LOW_HZ:g} Hz, not {stream.rate.hz:g}")
        super().__init__(stream, speed)
        self._rates = geometry.per_revolution()
        self._grid = Grid(round(WINDOW_S * stream.rate.hz), round(HOP_S * stream.rate.hz), stream.channels)
        self._nothing = SILENT if stream.unit == "FS" else 0.0
        self.settings = sha256(f"bearing|2|{geometry}".encode()).hexdigest()[:12]

    def first(self) -> int | None:
        """Start of the next window."""
        return self._grid.needs_from()

    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """Judge the windows that this message completes."""
        if isinstance(message, Segment):
            return [score for n0, x in self._grid.feed(message) for score in self._judge(message, n0, x)]
        lost = self._grid.gap(message)
        return [] if lost is None else self._missing(message, *lost, {"text": "samples are missing"})

    def _judge(self, segment: Segment, n0: int, x: Float32) -> list[Score]:
        n1 = n0 + len(x)
        reading = self.speed.at(end_ns(segment.anchor, n1, self.stream))
        if reading.doubt:
            text = f"unverified: the shaft speed is {reading.doubt}"
            return self._missing(segment, n0, n1, {"speed": reading.doubt, "text": text})
        rotation = reading.rpm / 60.0
        least = max(3.0 * rotation * max(self._rates.values()), self.stream.rate.hz / 2.0 / 128.0)
        rate = self.stream.rate.hz
        alive = [c for c in range(x.shape[1]) if float(np.ptp(x[:, c])) > self._nothing]
        if not alive:  # a torn cable: no fault is seen, and none has gone
            return self._missing(segment, n0, n1, {"text": "unverified: the sensor gives no signal"})
        spectra = [envelope_spectrum(x[:, c], rate, min(least, rate / 8.0)) for c in alive]
        spectrum = max(spectra, key=lambda s: s.band.kurtosis)
        return [self._of(segment, n0, n1, spectrum, fault, rotation) for fault in FAULTS]

    def _of(self, segment: Segment, n0: int, n1: int, spectrum: Spectrum, fault: str, rotation: float) -> Score:
        f = self._rates[fault] * rotation
        seen, band = [line_db(spectrum, k * f) for k in range(1, HARMONICS + 1)], spectrum.band
        if seen[0] is None:
            text = f"unverified: lines at {f:.1f} Hz cannot be seen at this sample rate and speed"
            return self._score(segment, n0, n1, fault, 0.0, {"fault_hz": f, "text": text}, complete=False)
        levels = [level or 0.0 for level in seen]
        value = judge(levels)
        text = (
            f"{fault.replace('_', ' ')} lines at {f:.1f} Hz and multiples: "
            f"{', '.join(f'{level:.0f}' for level in levels)} dB over the median, "
            f"band {band.low_hz:,.0f}-{band.high_hz:,.0f} Hz (spectral kurtosis {band.kurtosis:.2f})"
        )
        reasons = {"fault_hz": f, "line_db": levels, "band_hz": [band.low_hz, band.high_hz],
                   "kurtosis": band.kurtosis, "text": text}  # fmt: skip
        return self._score(segment, n0, n1, fault, value, reasons, complete=True)

    def _missing(self, source: Segment | Gap, n0: int, n1: int, reasons: dict[str, Any]) -> list[Score]:
        return [self._score(source, n0, n1, fault, 0.0, reasons, complete=False) for fault in FAULTS]

    def _score(
        self, source: Segment | Gap, n0: int, n1: int, fault: str, value: float, reasons: Mapping[str, Any], *,
        complete: bool,
    ) -> Score:  # fmt: skip
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        t_end = end_ns(source.anchor, n1, self.stream)
        return Score(
            self.stream.machine, (self.stream.sensor,), f"bearing_{fault}", t_end, value, LIMIT_DB, self.settings,
            complete, reasons, (span,),
        )  # fmt: skip
