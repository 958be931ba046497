"""Chatter indicators of one window of samples, as pure functions.

Stable milling repeats with every revolution: its lines are multiples of the rotation f_r. Chatter of the Hopf kind adds
f_c + k f_TP between them, f_TP = N f_r for N teeth; flip chatter adds f_TP/2 + k f_TP. For even N those are multiples
of f_r as well: pure flip chatter then hides under the runout lines, and only its level can show it (`half_tooth`).

`energy_ratio` is the non-harmonic share of the energy between 100 and 6,000 Hz. Broadband noise gives 1 - 2b/f_r, so
that coolant and air jets would pass for chatter; `Lines.tonal` counts only what stands 11 dB above the local noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log10

import numpy as np
from scipy import fft

from operators.chatter_plan import HIGH_HZ, LOW_HZ, PADDING, Float64, Plan
from operators.contradiction import contradiction, foreign_comb, wrong_ratio
from operators.spectral import hann
from pipeline.messages import Float32

ABOVE_NOISE = 12.0
_QUARTER = -log(0.75)  # lower quartile of exponentially distributed powers by their mean
_TINY = 1e-30
_FOREIGN = 0.4  # tonal share from which lines of a speed far from the told one are looked for


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


def band_power(x: Float32, rate_hz: float) -> float:
    """Mean square between 100 Hz and 6 kHz, summed over the channels: what `power` sums up to, for any speed or none.

    Args:
        x: samples of shape (samples, channels), float32.
        rate_hz: of them.

    Returns:
        In unit².
    """
    spectrum = fft.rfft(x * hann(len(x)).astype(np.float32)[:, None], axis=0)
    f = np.arange(len(spectrum)) * (rate_hz / len(x))
    band = spectrum[(f >= LOW_HZ) & (f < min(HIGH_HZ, 0.45 * rate_hz))].astype(np.complex128)
    return float((band.real**2 + band.imag**2).sum()) * 2.0 / (0.375 * len(x) ** 2)


def energy_ratio(p: Float64, made: Plan) -> float:
    """ER: energy further than b from every multiple of f_r by all of it, 0 to 1; 0 for silence.

    Args:
        p: from `power`, shape (lines,).
        made: the plan that it was made by.
    """
    total = float(p.sum())
    return float(p.take(made.outside).sum()) / total if total > 0.0 else 0.0


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
        contradicts_rpm: another speed that the lines speak for, else 0; of the short window only far-off ones.
        surprise: how certain a far-off speed is (`Comb.surprise`); 0 where there is none.
        forced_db: the stronger of the two harmonics of f_TP beside the strongest line over that line; likewise.
    """

    tonal: float
    line_hz: float
    line_db: float
    pair_db: float
    side_db: float
    coherent: float
    contradicts_rpm: float
    surprise: float
    forced_db: float


def lines(p: Float64, floor: Float64, made: Plan, *, family: bool = True) -> Lines:
    """Judge the lines of a window between the harmonics of the rotation.

    Args:
        p: from `power`.
        floor: from `noise_floor`.
        made: the plan.
        family: also what the long window alone is asked for, `Lines.coherent` and `contradiction`.
    """
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
    other, surprise = 0.0, 0.0
    if tonal > (0.1 if family else _FOREIGN):
        tolerance, teeth = 0.5 * PADDING * made.spacing_hz, round(passing / rotation)  # half of 1/T
        strongest = _strongest(p, ratio, made)
        comb = foreign_comb(strongest, passing, f, tolerance) if tonal > _FOREIGN else None
        if family:
            other = contradiction(strongest, 60.0 * rotation, teeth, tolerance)
            if not other and (times := wrong_ratio(strongest, rotation, teeth, tolerance)):
                other = 60.0 * rotation / times
        if comb is not None:
            other, surprise = other or 60.0 * comb.spacing_hz / teeth, comb.surprise
    side = sides[-2] if len(sides) > 1 else _TINY
    coherent = sum(_lobe(p, made, f + j * passing) for j in (-2, -1, 0, 1, 2)) / total if family else 0.0
    below = f - f % passing
    forced = max(_near(p, made, below), _near(p, made, below + passing)) / max(float(p[k]), _TINY) if family else 0.0
    return Lines(tonal, f, _db(float(ratio[k])), _db(pair), _db(side), coherent, other, surprise, _db(forced))


def wavering(x: Float32, f_hz: float, made: Plan, rate_hz: float) -> float:
    """⟨A⁴⟩/⟨A²⟩² of the amplitude A of a line between two multiples of the rotation: 1 for a steady one, 2 for noise.

    A limit cycle keeps its amplitude; what the force's noise rings in a mode has the Rayleigh-distributed one of
    narrow-band Gaussian noise, ⟨A⁴⟩ = 2 ⟨A²⟩². From the middle three quarters of the window, free of its ends.

    Args:
        x: samples of shape (plan.samples, channels), float32; amplitudes of several channels count by their power.
        f_hz: the line.
        made: the plan.
        rate_hz: samples per second.

    Returns:
        At least 1; 1 where there is nothing between the two multiples.
    """
    n: int = fft.next_fast_len(len(x), real=True)
    below = f_hz - f_hz % made.rotation_hz
    apart = min(2.0 * made.b_hz, 0.25 * made.rotation_hz)
    first, last = ceil((below + apart) * n / rate_hz), floor((below + made.rotation_hz - apart) * n / rate_hz)
    band = fft.rfft(x, n, axis=0)[first : last + 1]
    finer = 4 * max(len(band), 1)  # the fourth power is four times as wide
    squares = (np.abs(fft.ifft(band, finer, axis=0)).astype(np.float64) ** 2).sum(axis=1)
    inside = squares[ceil(0.2 * len(x) / n * finer) : floor(0.95 * len(x) / n * finer)]
    mean = float(inside.mean()) if len(inside) else 0.0
    return float((inside**2).mean()) / mean**2 if mean > _TINY else 1.0


def tooth_levels(p: Float64, floor: Float64, made: Plan) -> tuple[float, float, float]:
    """Level of the lines k f_TP in dB re 1 unit², and over it that of (k + 1/2) f_TP (HTL) and of the rest of k f_r.

    What stands above the noise counts. The ratios mean something against the same program at another time only: flip
    chatter raises the first of them, for even N it is the only view of it; a lost tooth raises both, as the force then
    repeats with the revolution.

    Args:
        p: from `power`.
        floor: from `noise_floor`.
        made: the plan.
    """
    clear = np.maximum(p - floor, 0.0)
    tooth = max(float(clear.take(made.tooth).sum()), _TINY)
    half, turn = (float(clear.take(numbers).sum()) for numbers in (made.half, made.turn))
    return _db(tooth), _db(half / tooth), _db(turn / tooth)


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
    near = 60.0 * chatter_hz / teeth
    j0 = max(1, int(near / highest_rpm), int(near / rpm) - 25 if rpm > 0.0 else 1)
    speeds = [60.0 * chatter_hz / (teeth * j) for j in range(j0, j0 + 50)]
    allowed = [speed for speed in speeds if speed <= highest_rpm]
    return sorted(allowed, key=lambda speed: abs(speed - rpm))[:count]
