"""Powers by band of one sound over another: how much of it there is, how much of it is gone, and what it is like."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from statistics import fmean, median

TINY = 1e-20
_STANDS_OUT = 2.0
_FLOOR_DB = -60.0


def mean(frames: Sequence[Sequence[float]]) -> list[float]:
    """By band."""
    return [sum(column) / len(frames) for column in zip(*frames, strict=True)]


def ratio(level: Sequence[float], idle: Sequence[float]) -> float:
    """By how much the second loudest band stands out: one band alone, a tone, begins no hole."""
    ratios = sorted(a / max(b, TINY) for a, b in zip(level, idle, strict=True))
    return ratios[-2] if len(ratios) > 1 else ratios[-1]


def excess(level: Sequence[float], idle: Sequence[float]) -> list[float]:
    """What is louder than the idle machine, by band."""
    return [max(a - b, 0.0) for a, b in zip(level, idle, strict=True)]


def usual(frames: Sequence[Sequence[float]]) -> list[float]:
    """Median by band: what bangs among the frames do not change."""
    return [median(column) for column in zip(*frames, strict=True)]


def loss_db(was: Sequence[float], now: Sequence[float], idle: Sequence[float], majority: float) -> float:
    """By how many dB the energy over the idle machine's has fallen in the majority of the bands that had any.

    Bands are heard one by one, as tones and bangs of the hall come and go in one or two.
    """
    losses = []
    for before, after, floor in zip(was, now, idle, strict=True):
        if before - floor > (_STANDS_OUT - 1.0) * floor:
            losses.append(10.0 * log10((before - floor) / max(after - floor, 0.001 * (before - floor))))
    return sorted(losses, reverse=True)[ceil(majority * len(losses)) - 1] if losses else 0.0


def shape_db(powers: Sequence[float]) -> list[float]:
    """Each band's share of the whole in dB, at least -60."""
    whole = max(sum(powers), TINY)
    return [max(10.0 * log10(max(power / whole, TINY)), _FLOOR_DB) for power in powers]


def apart_db(one: Sequence[float], other: Sequence[float]) -> float:
    """Mean distance of two shapes; 0 where they cannot be compared."""
    return fmean(abs(a - b) for a, b in zip(one, other, strict=True)) if one and len(one) == len(other) else 0.0
