"""Tables of numbers as text: which column is no channel but tells the time, and what keeps one from being read."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NAMES = frozenset({"t", "time", "time_s", "timestamp", "seconds"})
_UNIT = re.compile(r"\s*[(\[]\s*(?:s|sec|seconds?|ms|us|µs|ns|min|h)\s*[)\]]$")
_RISING_ROWS = 10
"""So many that rise like a clock are one, and no vibration."""


def tells_time(heading: str) -> bool:
    """Whether a column of this heading holds times, with or without a unit in brackets behind it."""
    return _UNIT.sub("", heading.strip().strip('"').casefold()) in _NAMES


def rises_like_a_clock(column: NDArray[np.float64]) -> bool:
    """Whether numbers, shape (n,), rise all the way within one step of a straight line, as rounded times do."""
    n = len(column)
    if n < _RISING_ROWS or not (np.isfinite(column).all() and (np.diff(column) > 0.0).all()):
        return False
    step = (column[-1] - column[0]) / (n - 1)
    return bool(np.abs(column - (column[0] + step * np.arange(n))).max() < step)


def odd_line(lines: Sequence[str], separator: str) -> str:
    """Where lines of a table hold anything but as many numbers as the first one."""
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        return f"is no table: {error}"
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(rows[0]):
            return f"row {number} of its numbers has {len(cells)} columns, the first one {len(rows[0])}"
        if bad := next((cell.strip() for cell in cells if not is_number(cell)), None):
            return f"row {number} of its numbers holds {bad!r}, which is no number"
    return "has cells that are no numbers"


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
