"""Chatter indicators of one window of samples, as pure functions.

Stable milling repeats with every revolution: its lines are multiples of the rotation f_r. Chatter of the Hopf kind adds
f_c + k f_TP between them, f_TP = N f_r for N teeth; flip chatter adds f_TP/2 + k f_TP. For even N those are multiples
of f_r as well: pure flip chatter then hides under the runout lines, and only its level can show it (`half_tooth`).

`energy_ratio` is the non-harmonic share of the energy between 100 and 6,000 Hz. Broadband noise gives 1 - 2b/f_r, so
that coolant and air jets would pass for chatter; `Lines.tonal` counts only what stands 11 dB above the local noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log, log10

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.spectral import hann
from operators.spindle import contradiction
from pipeline.messages import Float32

Float64 = NDArray[np.float64]

LOW_HZ, HIGH_HZ = 100.0, 6000.0
PADDING = 4
REVOLUTIONS = 13
"""A window must hold as many for its lines to be told apart: b = 2/T is then at most 0.15 f_r."""
LEAST_S = 0.1
ABOVE_NOISE = 12.0
_FLOOR_SPAN_HZ = 300.0
_QUARTER = -log(0.75)  # lower quartile of exponentially distributed powers by their mean
_WANDER = 0.0015  # relative wander of the speed within a window: harmonic k moves by as much of k f_r
_SIDE = 8.0  # power over noise from which a line counts as a sideband
_TINY = 1e-30


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What depends on rate, speed and teeth alone.

    Attributes:
        samples: per window.
        n_fft: of the padded transform.
        first: line of the transform at or above 100 Hz.
        f: frequencies of the lines used, in Hz, shape (lines,).
        outside: numbers of the lines that lie further than b from every multiple of f_r; for ER.
        between: those of them that a speed wandering by 0.15 % within the window does not reach either, shape (lines,).
        free: their numbers.
        half: lines within b of an odd multiple of f_TP/2, shape (lines,).
        b_hz: half-width of a harmonic's band: max(4 Hz, 2/T), at most 0.4 f_r.
        rotation_hz: f_r.
        passing_hz: f_TP.
        spans: lines between the harmonics of each span of 300 Hz with any, shape (spans, most); the number of lines
            where there are no more. For the noise, as what follows.
        quarters: place of each span's lower quartile.
        span: for each line the span whose centre lies below it, shape (lines,).
        weight: how far the line lies towards the next span's centre, 0 to 1, shape (lines,).
        taper: Hann window, float32, shape (samples, 1).
    """

    samples: int
    n_fft: int
    first: int
    f: Float64
    outside: NDArray[np.int64]
    between: NDArray[np.bool_]
    free: NDArray[np.int64]
    half: NDArray[np.bool_]
    b_hz: float
    rotation_hz: float
    passing_hz: float
    spans: NDArray[np.int64]
    quarters: NDArray[np.int64]
    span: NDArray[np.int64]
    weight: Float64
    taper: Float32

    @property
    def spacing_hz(self) -> float:
        """Distance of the lines of the padded transform."""
        return float(self.f[1] - self.f[0])

    @property
    def noise_ratio(self) -> float:
        """What `energy_ratio` gives for white noise: about 1 - 2b/f_r."""
        return len(self.outside) / len(self.f)


@lru_cache(maxsize=16)
def plan(rate_hz: float, rpm: float, teeth: int, seconds: float) -> Plan:
    """Lines and bands of a window of `seconds` at a speed.

    Args:
        rate_hz: samples per second.
        rpm: spindle speed.
        teeth: of the tool.
        seconds: length of the window.

    Raises:
        ValueError: a rate at which nothing is left above 100 Hz.
    """
    high = min(HIGH_HZ, 0.45 * rate_hz)
    if high < 2.0 * LOW_HZ:
        raise ValueError(f"chatter cannot be seen at {rate_hz:g} Hz")
    samples = round(seconds * rate_hz)
    n_fft: int = fft.next_fast_len(PADDING * samples, real=True)
    every: Float64 = np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate_hz / n_fft)
    first, last = np.searchsorted(every, [LOW_HZ, high])
    f = every[first:last]
    rotation = rpm / 60.0
    b = min(max(4.0, 2.0 / seconds), 0.4 * rotation)
    apart = np.abs(f - np.round(f / rotation) * rotation)
    outside = apart > b
    between = apart > np.maximum(b, np.minimum(_WANDER * f, 0.4 * rotation))
    passing = teeth * rotation
    half = np.abs(f - (np.floor(f / passing) + 0.5) * passing) <= b
    spans, quarters, span, weight = _spans(f, between, high)
    taper = hann(samples).astype(np.float32)[:, None]
    return Plan(
        samples, n_fft, int(first), f, np.flatnonzero(outside), between, np.flatnonzero(between), half, b, rotation,
        passing, spans, quarters, span, weight, taper,
    )  # fmt: skip


def _spans(
    f: Float64, between: NDArray[np.bool_], high: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Float64]:
    """Lines between the harmonics by span of 300 Hz, and where each line lies between the spans' centres."""
    kept, centres = [], []
    for low in np.arange(LOW_HZ, high, _FLOOR_SPAN_HZ).tolist():
        inside = np.flatnonzero(between & (f >= low) & (f < low + _FLOOR_SPAN_HZ))
        if len(inside):
            kept.append(inside)
            centres.append(low + _FLOOR_SPAN_HZ / 2.0)
    spans = np.full((len(kept), max(len(inside) for inside in kept)), len(f))
    for row, inside in zip(spans, kept, strict=True):
        row[: len(inside)] = inside
    place = np.interp(f, centres, np.arange(len(centres), dtype=np.float64))
    span = np.minimum(place.astype(np.int64), max(0, len(centres) - 2))
    return spans, np.array([len(inside) // 4 for inside in kept]), span, place - span


def window_s(rpm: float) -> float:
    """Length of the window in s: thirteen revolutions, at least 100 ms."""
    return max(LEAST_S, REVOLUTIONS * 60.0 / rpm)


def power(x: Float32, made: Plan) -> Float64:
    """Mean square of each line, summed over the channels; a sine of amplitude A has about A²/2 in its main lobe.

    Args:
        x: samples of shape (plan.samples, channels), float32.
        made: the plan.

    Returns:
        float64 of shape (lines,), in unit².
    """
    spectrum = fft.rfft(x * made.taper, made.n_fft, axis=0)[made.first : made.first + len(made.f)]
    each = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    total: Float64 = each[:, 0].copy()
    for channel in range(1, each.shape[1]):
        total += each[:, channel]
    total *= 2.0 / (0.375 * made.samples * made.n_fft)  # Hann: the mean of its square is 3/8
    return total


def energy_ratio(p: Float64, made: Plan) -> float:
    """ER: energy further than b from every multiple of f_r by all of it; 0 for silence."""
    total = float(p.sum())
    return float(p.take(made.outside).sum()) / total if total > 0.0 else 0.0


def corrected(ratio: float, noise_ratio: float, level: float, idle: float) -> float:
    """ER without the noise of the idle machine, (ER·P - (1 - 2b/f_r)·P_idle)/(P - P_idle), within 0 to 1.

    Args:
        ratio: ER of the window.
        noise_ratio: ER of the idle machine, 1 - 2b/f_r for broadband noise.
        level: power of the window.
        idle: power of the idle machine; where it is not below `level`, ER cannot be told and is 0.
    """
    if level <= idle:
        return 0.0
    return min(1.0, max(0.0, (ratio * level - noise_ratio * idle) / (level - idle)))


def noise_floor(p: Float64, made: Plan) -> Float64:
    """Local mean power of the noise between the harmonics, from the lower quartile of each 300 Hz, shape (lines,)."""
    rows = np.append(p, np.inf).take(made.spans)
    rows.partition(sorted(set(made.quarters.tolist())), axis=1)
    quartiles = np.maximum(rows[np.arange(len(rows)), made.quarters], _TINY) / _QUARTER
    level = np.log(quartiles)
    step = np.append(np.diff(level), 0.0)
    floor: Float64 = np.exp(level.take(made.span) + made.weight * step.take(made.span))
    return floor


@dataclass(frozen=True, slots=True)
class Lines:
    """What stands out between the harmonics.

    Attributes:
        tonal: share of all energy that lies in lines 11 dB above the noise and outside the harmonics' bands, 0-1.
        line_hz: strongest of them; of whatever is there where none stands out.
        line_db: its power over the local noise.
        pair_db: power over the noise of the stronger of its neighbours at ±f_TP.
        side_db: the same of the second strongest neighbour at ±f_r, ±2 f_r, … below ±f_TP.
        coherent: share of all energy within ±2/T of the strongest line and of its neighbours at ±f_TP and ±2 f_TP;
            0 where it was not asked for.
        contradicts_rpm: another speed that the lines speak for, else 0; likewise.
        forced_db: the stronger of the two harmonics of f_TP beside the strongest line over that line; likewise.
    """

    tonal: float
    line_hz: float
    line_db: float
    pair_db: float
    side_db: float
    coherent: float
    contradicts_rpm: float
    forced_db: float


def lines(p: Float64, made: Plan, *, family: bool = True) -> Lines:
    """Judge the lines of a window between the harmonics of the rotation.

    Args:
        p: from `power`.
        made: the plan.
        family: also what the long window alone is asked for, `Lines.coherent` and `Lines.contradicts_rpm`.
    """
    floor = noise_floor(p, made)
    ratio = p / floor
    tall = np.flatnonzero(made.between & (ratio > ABOVE_NOISE))
    total = max(float(p.sum()), _TINY)
    tonal = float((p.take(tall) - floor.take(tall)).sum()) / total
    k = int(made.free[np.argmax(p.take(made.free))])
    f = float(made.f[k])
    passing, rotation = made.passing_hz, made.rotation_hz
    free = ratio * made.between  # the skirts of the harmonics are nobody's neighbours
    pair = max(_near(free, made, f - passing), _near(free, made, f + passing))
    sides = sorted(
        _near(free, made, f + sign * m * rotation) for m in range(1, round(passing / rotation)) for sign in (-1, 1)
    )
    other = 0.0
    if family and tonal > 0.1:
        tolerance = 0.5 * PADDING * made.spacing_hz  # half of 1/T
        other = contradiction(_strongest(p, ratio, made), 60.0 * rotation, round(passing / rotation), tolerance)
    side = sides[-2] if len(sides) > 1 else _TINY
    coherent = sum(_lobe(p, made, f + j * passing) for j in (-2, -1, 0, 1, 2)) / total if family else 0.0
    below = f - f % passing
    forced = max(_near(p, made, below), _near(p, made, below + passing)) / max(float(p[k]), _TINY) if family else 0.0
    return Lines(tonal, f, _db(float(ratio[k])), _db(pair), _db(side), coherent, other, _db(forced))


def half_tooth_db(p: Float64, made: Plan) -> float:
    """HTL: level of the lines (k + 1/2) f_TP over that of the lines k f_TP, in dB.

    Meant against the same program at commissioning; for even N it is the only view of flip chatter.
    """
    teeth = np.abs(made.f - np.round(made.f / made.passing_hz) * made.passing_hz) <= made.b_hz
    return _db(float(p[made.half].sum()) / max(float(p[teeth].sum()), _TINY))


def _strongest(p: Float64, ratio: Float64, made: Plan, count: int = 12) -> list[tuple[float, float]]:
    """Frequency and power of the strongest local maxima above the noise, harmonics among them."""
    inner = (p[1:-1] > p[:-2]) & (p[1:-1] >= p[2:]) & (ratio[1:-1] > ABOVE_NOISE)
    places = np.flatnonzero(inner) + 1
    order = places[np.argsort(-p[places], kind="stable")]
    kept: list[int] = []
    apart = 2.0 * made.b_hz / made.spacing_hz
    for place in order[: 4 * count].tolist():
        if all(abs(place - other) > apart for other in kept):
            kept.append(place)
    return [(float(made.f[i]) + made.spacing_hz * _vertex(p[i - 1 : i + 2]), float(p[i])) for i in kept[:count]]


def _vertex(three: Float64) -> float:
    """Place of the peak of the parabola through the logarithms of three powers, from the middle one, -0.5 to 0.5."""
    before, middle, after = np.log(np.maximum(three, _TINY)).tolist()
    curvature = before - 2.0 * middle + after
    return float(0.5 * (before - after) / curvature) if curvature < 0.0 else 0.0


def _near(ratio: Float64, made: Plan, f_hz: float) -> float:
    """Largest power over noise within a line's width of a frequency; one below zero folds back."""
    place = round((abs(f_hz) - float(made.f[0])) / made.spacing_hz)
    if not 0 <= place < len(ratio):
        return _TINY
    return float(ratio[max(0, place - PADDING) : place + PADDING + 1].max())


def _lobe(p: Float64, made: Plan, f_hz: float) -> float:
    """Energy within ±2/T of a frequency; one below zero folds back, one within a harmonic's band counts as nothing."""
    place = round((abs(f_hz) - float(made.f[0])) / made.spacing_hz)
    if not 0 <= place < len(p) or not made.between[place]:
        return 0.0
    reach = 2 * PADDING
    low = max(0, place - reach)
    return float(np.where(made.between[low : place + reach + 1], p[low : place + reach + 1], 0.0).sum())


def _db(ratio: float) -> float:
    return 10.0 * log10(max(ratio, _TINY))


def turns(x: Float32, rate_hz: float, rpm: float, revolutions: int) -> Float64:
    """The last whole revolutions of a signal within 100 to 6,000 Hz, each on the same grid of angles.

    The band is cut out of the padded transform, which also raises the rate to eight samples per period of its upper
    edge; between those, values are interpolated by cubic polynomials. The first and last 5 ms, which the cut
    disturbs, are left out.

    Args:
        x: samples, shape (n, channels).
        rate_hz: samples per second.
        rpm: spindle speed.
        revolutions: how many at most.

    Returns:
        float64, shape (revolutions found, angles, channels); no revolutions where the signal is too short.
    """
    high = min(HIGH_HZ, 0.45 * rate_hz)
    edge_s = 0.005
    x = x[-round(revolutions * 60.0 / rpm * rate_hz + 2.0 * edge_s * rate_hz + 8.0) :]
    n_fft: int = fft.next_fast_len(len(x) + 512, real=True)
    up = max(1, -(-int(8.0 * high) // int(rate_hz)))
    spectrum = fft.rfft(x.astype(np.float64), n_fft, axis=0)
    f = np.arange(len(spectrum)) * (rate_hz / n_fft)
    gain = np.clip((f - 0.5 * LOW_HZ) / (0.5 * LOW_HZ), 0.0, 1.0) * np.clip((1.1 * high - f) / (0.1 * high), 0.0, 1.0)
    y = fft.irfft(spectrum * gain[:, None], up * n_fft, axis=0)[: up * len(x)] * up
    edge = round(edge_s * rate_hz) * up
    period = 60.0 / rpm * rate_hz * up
    angles = max(16, int(period))
    found = min(revolutions, int((len(y) - 2 * edge - 4) / period))
    if found < 1:
        return np.empty((0, angles, x.shape[1]))
    start = len(y) - edge - 3 - found * period
    at = start + (np.arange(found)[:, None] + np.arange(angles)[None] / angles) * period
    return _cubic(y, at)


def _cubic(y: Float64, at: Float64) -> Float64:
    """Values between samples by the cubic through the four nearest (Lagrange)."""
    i = np.floor(at).astype(np.int64)
    t = (at - i)[..., None]
    a, b, c, d = (y[i + k] for k in (-1, 0, 1, 2))
    value: Float64 = (
        -a * t * (t - 1.0) * (t - 2.0) / 6.0
        + b * (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
        - c * (t + 1.0) * t * (t - 2.0) / 2.0
        + d * (t + 1.0) * t * (t - 1.0) / 6.0
    )
    return value


def once_per_revolution(y: Float64) -> float:
    """OPR: standard deviation of samples taken once per revolution over that of all, averaged over the angles.

    Near 0 where every revolution repeats the last, up to 1 where nothing does. Averaging the variance over all angles
    in place of taking one frees the ratio from the choice of the angle.

    Args:
        y: from `turns`.
    """
    if len(y) < 2:
        return 0.0
    total = float(np.var(y, axis=(0, 1)).sum())
    return float(np.sqrt(np.var(y, axis=0).mean(axis=0).sum() / total)) if total > 0.0 else 0.0


def residual_ratio(y: Float64) -> float:
    """R: variance of what the synchronous average leaves over the variance of the average; 0 for silence."""
    if len(y) < 2:
        return 0.0
    mean = y.mean(axis=0)
    left, periodic = float(np.var(y - mean, axis=(0, 1)).sum()), float(np.var(mean, axis=0).sum())
    return left / max(periodic, _TINY) if left > 0.0 else 0.0


def next_stable_speeds(chatter_hz: float, teeth: int, rpm: float, highest_rpm: float, count: int = 2) -> list[float]:
    """Speeds n = 60 f_c/(N j), j = 1, 2, …, at which the chatter line would be a harmonic of the tooth passing.

    Args:
        chatter_hz: the chatter line.
        teeth: of the tool.
        rpm: present speed.
        highest_rpm: of the machine.
        count: how many.

    Returns:
        Those at most `highest_rpm`, the nearest to the present speed first; empty where there is none.
    """
    j0 = max(1, int(60.0 * chatter_hz / (teeth * highest_rpm)))
    speeds = [60.0 * chatter_hz / (teeth * j) for j in range(j0, j0 + 50)]
    allowed = [speed for speed in speeds if speed <= highest_rpm]
    return sorted(allowed, key=lambda speed: abs(speed - rpm))[:count]
