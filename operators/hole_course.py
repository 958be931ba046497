"""The course of one hole by band: where the drill cuts, where it cuts fully, and how loud it usually is.

Bands vote: tones and bangs of the hall come and go in one or two of them, so that neither lengthens a hole nor hides
its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from operators.band_levels import TINY

BIN_FRAMES = 5
"""Frames of 5 ms in a bin of a course."""
MAJORITY = 0.6
"""Share of the bands that must agree."""
BEGUN = 0.25
"""Share of a hole's energy from which it counts as begun: well above the hall, on the steep part of the entry."""
_USUAL = 2.0 / 3.0
"""Quantile of a hole's bins that is cutting, neither the air before it nor a blast within it."""
_CUTS_DB, _FULLY_DB = 6.0, 3.0
_UNHEARD_DB = 3.0
_GAP = 4


@dataclass(frozen=True, slots=True)
class Course:
    """What the bins of a hole say.

    Attributes:
        first: bin in which the drill begins to cut.
        last: bin behind the last one in which it cuts.
        fades: bin behind the last one in which it cuts fully.
        usual_db: level by band that is usual in this hole, at least 3 dB below that of the idle machine: what is
            fainter cannot be told from it.
    """

    first: int
    last: int
    fades: int
    usual_db: tuple[float, ...]


def course(bins: Sequence[Sequence[float]], idle: Sequence[float]) -> Course:
    """Find the drill in a hole.

    A bin cuts where the majority of the bands are less than 6 dB below what is usual in this hole, and fully where they
    are less than 3 dB below; what is usual is the median of the bins that have a quarter of the energy of most. Of
    stretches that are 100 ms or more apart the longest is the hole.

    Args:
        bins: levels over the idle machine in dB, one row of bands for each 25 ms; one row at least.
        idle: mean square of the idle machine by band. Bands that the hole does not double have no vote.
    """
    db = np.array(bins, np.float64)
    total = np.sum(10.0 ** (db / 10.0), axis=1)
    usual = np.median(db[total >= BEGUN * np.quantile(total, _USUAL)], axis=0)
    floor = 10.0 * np.log10(np.maximum(idle, TINY))
    stands = usual > floor
    if not np.any(stands):
        stands = usual == np.max(usual)
    below = np.sort(usual[stands] - db[:, stands], axis=1)[:, ::-1]
    lost = below[:, ceil(MAJORITY * below.shape[1]) - 1]
    usual_db = tuple(np.maximum(usual, floor - _UNHEARD_DB).tolist())
    cuts = np.flatnonzero(lost < _CUTS_DB)
    if not len(cuts):
        return Course(0, len(db), len(db), usual_db)
    groups = np.split(cuts, np.flatnonzero(np.diff(cuts) > _GAP) + 1)
    longest = max(groups, key=len)
    first, last = int(longest[0]), int(longest[-1])
    fully = first + np.flatnonzero(lost[first : last + 1] < _FULLY_DB)
    return Course(first, last + 1, int(fully[-1]) + 1 if len(fully) else last + 1, usual_db)
