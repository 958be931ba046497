"""Whether a cut's own lines contradict the speed that was told. What they say is never used as a speed."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from operators.spindle import SAME

SURPRISE = 4.0
"""Orders of magnitude by which chance must fail to explain that so many lines are multiples of one frequency."""
_LEAST_SHARE = 0.7
_AHEAD = 2
_LEAST_REST = 0.02
_FIRST, _DEEPEST = 6, 12
_RANGE = (0.3, 3.2)
_WITHIN = 0.1
_LEAST_LINES, _NEARLY_ALL, _MOSTLY = 4, 0.9, 0.3
"""Lines between the told rotation's multiples, and the shares of their energy, that bear another ratio."""
_ONLY_TOLD, _FORCED, _FIRST_LINE = 0.1, 0.03, 0.01
"""Shares of all energy: what the told rotation alone may explain, its tooth passing alone, and the true one's first."""
_BOTH_SIDES = 0.02
"""Share of the lines at a third of the told tooth passing that a cut has on its weaker side (`_one_sided`)."""
_TINY = 1e-30

Float64 = NDArray[np.float64]
Line = tuple[float, float]
"""Frequency in Hz and power."""


class Comb(NamedTuple):
    """Lines that are multiples of one frequency.

    Attributes:
        spacing_hz: the frequency; of those that explain nearly as much energy the highest.
        surprise: -log10 of the probability that as many lines fall onto such multiples by chance.
    """

    spacing_hz: float
    surprise: float


def foreign_comb(lines: Sequence[Line], passing_hz: float, chatter_hz: float, tolerance_hz: float) -> Comb | None:
    """Another frequency than the told tooth passing that the lines are multiples of, where neither it nor chatter fits.

    A stable cut shows multiples of the tooth passing, or of the rotation; chatter shows lines a tooth passing apart
    that are multiples of nothing. The candidates are the six strongest lines divided by 1 to 12, within 0.3 to 3.2 of
    the told frequency, but for those whose multiple the told one is: a told speed of two or three times the true one
    looks like period-two or -three chatter. The best one must explain 70 % of the energy, two lines more than the told
    frequency does, and two more than lines a tooth passing apart from the chatter line do. On simulated machines
    (seeds 555 and 556) that was so in 61 % of the short and 74 % of the long windows of stable cuts under a wrong
    speed, and in 0.3 and 0.1 % of those of chatter.

    Args:
        lines: the strongest lines, the strongest first.
        passing_hz: tooth passing at the told speed.
        chatter_hz: the strongest line between the told speed's multiples.
        tolerance_hz: how far a line may lie from its place.

    Returns:
        None where nothing contradicts, or a surprise of `SURPRISE` is not reached.
    """
    if len(lines) < 3:
        return None
    f, power = (np.array(column) for column in zip(*lines, strict=True))
    made = (f[:_FIRST, None] / np.arange(1, _DEEPEST + 1)).ravel()
    whole = passing_hz / made
    low, high = _RANGE
    allowed = (whole <= 1.0 / low) & (whole >= 1.0 / high) & (np.abs(whole - np.round(whole)) > SAME * whole)
    made = made[allowed]
    if not len(made):
        return None
    hit = _multiples(f, made, tolerance_hz)
    count, share = hit.sum(axis=1), hit @ power / power.sum()
    chance = np.minimum(2.0 * tolerance_hz / made, 1.0)
    unlikely = bdtrc(count - 2, len(f) - 1, chance)  # one line made the candidate
    best = int(np.lexsort((-share, unlikely))[0])
    apart = np.abs(f[None, :] - np.array([[chatter_hz], [-chatter_hz]]))
    family = (np.abs(apart - np.round(apart / passing_hz) * passing_hz) <= tolerance_hz).any(axis=0)
    own = _multiples(f, np.array([passing_hz]), tolerance_hz)[0]
    surprise = -log10(max(float(unlikely[best]), 1e-30))
    if surprise < SURPRISE or share[best] < _LEAST_SHARE or count[best] < _AHEAD + max(family.sum(), own.sum()):
        return None
    if ((family | own) & ~hit[best]).sum() > _AHEAD or not _rests_on_more(hit[best, 1:] @ power[1:], power):
        return None
    wider = made[best] * np.arange(1, _DEEPEST + 1)
    explains = _multiples(f, wider, tolerance_hz) @ power / power.sum()
    return Comb(float(wider[explains >= 0.9 * share[best]][-1]), surprise)


def _multiples(f: Float64, spacing: Float64, tolerance_hz: float) -> NDArray[np.bool_]:
    """Which lines (columns) are multiples of which frequencies (rows)."""
    order = np.round(f[None, :] / spacing[:, None])
    found: NDArray[np.bool_] = (np.abs(f[None, :] - order * spacing[:, None]) <= tolerance_hz) & (order >= 1)
    return found


def _rests_on_more(others: float, power: Float64) -> bool:
    """Whether lines besides the strongest bear a comb: a limit cycle has multiples of its own line, but weak ones."""
    return others >= max(_LEAST_REST * float(power.sum()), 0.5 * float(power[1:].sum()))


def contradiction(lines: Sequence[tuple[float, float]], rpm: float, teeth: int, tolerance_hz: float) -> float:
    """The speed that a cut's own lines speak for, where that is another one than was told.

    Stable cutting shows harmonics of the tooth passing. If three or more of the strongest lines, 70 % of their energy
    and twice what the told speed explains, are harmonics of another tooth-passing frequency within ±10 % of the told
    one, the told speed is contradicted. The lines of chatter lie a tooth passing apart but not on its multiples, so
    that they do not contradict. A told speed of twice the true one looks like period-two chatter and cannot be told
    from it by the lines.

    Args:
        lines: frequency in Hz and power of the strongest lines.
        rpm: the told speed.
        teeth: of the tool.
        tolerance_hz: how far a line may lie from its place.

    Returns:
        The other speed in rpm; 0 where nothing contradicts.
    """
    told = teeth * rpm / 60.0
    total = sum(power for _, power in lines)
    best, best_share = 0.0, 0.0
    for f, _ in lines:
        for k in range(max(1, floor(f / (told * (1.0 + _WITHIN)))), ceil(f / (told * (1.0 - _WITHIN))) + 1):
            passing = f / k
            if SAME < abs(passing / told - 1.0) <= _WITHIN:
                share, count = _explained(lines, passing, tolerance_hz)
                if count >= 3 and share > best_share:
                    best, best_share = passing, share
    own, _ = _explained(lines, told, tolerance_hz)
    if best_share < 0.7 * total or best_share < 2.0 * own:
        return 0.0
    strongest = lines[0][1] if _explained(lines[:1], best, tolerance_hz)[1] else 0.0
    if not _rests_on_more(best_share - strongest, np.array([power for _, power in lines])):
        return 0.0
    return 60.0 * best / teeth


def wrong_ratio(lines: Sequence[Line], rotation_hz: float, teeth: int, tolerance_hz: float) -> float:
    """How many times the true speed the told one is, where a cut's lines say 3/2, 3 or 2/3; else 0.

    The lines of a cut are multiples of its true rotation, most of them of its true tooth passing. Under a speed told
    3/2 times too high they lie at thirds of the told rotation, at every second third; chatter has lines at one third
    only by chance, and then a tooth passing apart. Flip chatter of odd teeth has lines at halves, as a cut under twice
    its speed has; what can be told of even teeth changes no outcome: that ratio is not looked for. On tuning seed 8118
    it holds in 40 to 80 % of the long windows of stable cuts told 3/2 and 3 times too fast, and in 0.1 % of those of
    chatter; of Hopf families at places drawn at random in 0.6 %.

    Args:
        lines: frequency in Hz and power of the strongest lines.
        rotation_hz: as told.
        teeth: of the tool.
        tolerance_hz: how far a line may lie from its place.
    """
    if len(lines) < _LEAST_LINES:
        return 0.0
    f, power = (np.array(column) for column in zip(*lines, strict=True))
    between = ~_multiples(f, np.array([rotation_hz]), tolerance_hz)[0]
    share = power / max(float(power[between].sum()), _TINY)
    for ratio in (1.5, 2.0 / 3.0, 3.0):
        true = np.array([rotation_hz, rotation_hz * teeth]) / ratio
        on_rotation, on_passing = _multiples(f, true, tolerance_hz)
        only_told = power[~between & ~on_rotation].sum() <= _ONLY_TOLD * power.sum()
        rotations, passings = between & on_rotation, between & on_passing
        if not only_told or rotations.sum() < _LEAST_LINES or share[rotations].sum() < _NEARLY_ALL:
            continue
        if ratio != 1.5:  # chatter at a third, or flip chatter, is not to be taken for it
            told = _multiples(f, np.array([rotation_hz * teeth]), tolerance_hz)[0]
            forced = power[told & ~on_passing].sum() / power.sum()
            if passings.sum() < _AHEAD or share[passings].sum() < _MOSTLY or forced > _FORCED:
                continue
            if ratio == 3.0 and _one_sided(f[passings], power[passings], true[1]):
                continue
        elif power[np.abs(f - true[1]) <= tolerance_hz].sum() < _FIRST_LINE * power.sum():
            continue  # a cut shows its tooth passing itself, chatter at such a place hardly
        return ratio
    return 0.0


def _one_sided(f: Float64, power: Float64, third_hz: float) -> bool:
    """Whether multiples of a third f of the told tooth passing are those of chatter: f_c + 3 j f for whole j.

    A cut under thrice its speed has them on both sides of the told one's multiples, 1, 4, 7 … and 2, 5, 8 …. Chatter
    that happens to lie at a third is on one side, but for what is mirrored at 0 Hz.
    """
    side = np.round(f / third_hz) % 3.0
    one, other = float(power[side == 1.0].sum()), float(power[side == 2.0].sum())
    return min(one, other) < _BOTH_SIDES * (one + other)


def _explained(lines: Sequence[tuple[float, float]], passing_hz: float, tolerance_hz: float) -> tuple[float, int]:
    """Energy and number of the lines that are harmonics of a frequency."""
    share, orders = 0.0, set()
    for f, power in lines:
        k = round(f / passing_hz)
        if k >= 1 and abs(f - k * passing_hz) <= tolerance_hz:
            share += power
            orders.add(k)
    return share, len(orders)
