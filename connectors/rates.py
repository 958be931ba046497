"""Sample rates as people and files tell them."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.messages import Rate

_LARGEST_DENOMINATOR = 1_000_000
_SIMPLE = 12
"""Largest denominator of a rate that people round: 51,200 Hz by 3, by 7, by 12."""
_SAME = Fraction(1, 1_000_000)
"""Rates that are no further apart are one rate: no crystal is as good."""


def exact_rate(hz: float, what: str) -> Rate:
    """A rate in hertz as a ratio: what its decimals were rounded from, else exact to a denominator of a million.

    17066.667 is 51,200/3, since that is 17066.667 to three places; 16000.1 and 12207.03125 are what they say.

    Raises:
        BadInput: not positive or not finite.
    """
    if not math.isfinite(hz) or hz <= 0:
        raise BadInput("rate", f"{what} is {hz}: a rate is a positive number of hertz")
    ratio = _rounded_from(float(hz)) or Fraction(hz).limit_denominator(_LARGEST_DENOMINATOR)
    if ratio == 0:
        raise BadInput("rate", f"{what} is {hz} Hz, which is too slow")
    return Rate(ratio.numerator, ratio.denominator)


def _rounded_from(hz: float) -> Fraction | None:
    """The fraction of a small denominator that, rounded to as many places, is this decimal."""
    digits = repr(hz)
    told = Fraction(digits)
    simple = told.limit_denominator(_SIMPLE)
    half_a_unit = Fraction(1, 2 * 10 ** len(digits.partition(".")[2]))
    return simple if abs(simple - told) <= min(half_a_unit, _SAME * told) else None


def agreed_rate(path: Path, told: Rate | None, wanted: Rate | None) -> Rate:
    """The rate that the file and the configuration agree on: the declared one, where the file's is the same.

    Raises:
        BadInput: they differ, or neither tells one.
    """
    if told is None and wanted is None:
        raise BadInput("rate", f"{path} does not tell its rate: say it (rate_hz)")
    if told is None or wanted is None:
        return told or wanted  # type: ignore[return-value]  # one of them is there
    of_file, declared = Fraction(told.num, told.den), Fraction(wanted.num, wanted.den)
    if abs(of_file - declared) > _SAME * declared:
        raise BadInput(
            "rate", f"{path} has {told.hz:.10g} Hz, but {wanted.hz:.10g} Hz was declared: mend rate_hz or resample"
        )
    return wanted
