"""Spindle speed from a channel of samples: a tachometer's pulses, or a voltage that stands for the speed.

The speed is told for every `TELL_S`, counted in samples from the stream's beginning, from what lies before it alone, so
that it depends neither on how samples are cut nor on when they come.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

TELL_S = 0.25
"""Seconds between two statements of the speed."""
AVERAGED_S = 0.5
"""Whole revolutions of the last half second are averaged."""
STANDING_S = 1.0
"""A revolution that takes longer counts as standing: below 60 rpm the speed is told as 0."""
MEMORY_S = 2.5
"""What is told depends on this much of the channel and, where its level hovers at the trigger, on one more pulse."""
_UNEVEN = 1.7  # ratio of two intervals one after the other; a lost pulse makes it 2
_PATIENCE = 8  # statements that may fail in a row without a word: a spindle that starts gives uneven pulses, too


class Reader(Protocol):
    """What turns a channel into speeds; samples come in order, without holes between two calls of `reset`."""

    step: int
    """Samples between two statements."""
    doubt: str
    """Why the last statement could not be made; empty where it was."""

    def reset(self, n: int) -> None:
        """Nothing is known of what was before sample `n`."""
        ...

    def read(self, n0: int, values: Values) -> list[tuple[int, float]]:
        """Take samples [n0, n0 + len(values)) in; return (sample, rpm) for each statement that is due by their end."""
        ...


class PulseReader:
    """Speed from the rising or falling edges of pulses, placed between samples by a straight line.

    An edge counts once the signal has been beyond the trigger by half of it on the other side: noise on a flank, or
    ringing after it, makes no second edge. Pulses that were lost or doubled show as an interval 1.7 times as long as
    the one beside it: then no speed is told, nor by a wheel whose pulses are that uneven.

    Args:
        rate_hz: samples per second.
        level: trigger level; not 0.
        per_revolution: pulses in a revolution, evenly spaced to within a quarter.
        falling: whether the signal falls through the level where a pulse begins.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(self, rate_hz: float, level: float, per_revolution: int = 1, *, falling: bool = False) -> None:
        if not np.isfinite(level) or level == 0.0 or per_revolution < 1 or not rate_hz > 0.0:
            raise ValueError("level must be a number other than 0, pulses and rate positive")
        self._sign = -1.0 if falling else 1.0
        self._level = self._sign * level
        self._below = self._level - 0.5 * abs(level)
        self._rate, self._per = rate_hz, per_revolution
        self.step = max(1, round(TELL_S * rate_hz))
        self.doubt = ""
        self.reset(0)

    def reset(self, n: int) -> None:
        """Nothing is known of what was before sample `n`."""
        self._began = n
        self._above = True  # a first pulse must be seen to begin
        self._last = np.nan
        self._edges: NDArray[np.int64] = np.empty(0, np.int64)  # the first sample at or beyond the level
        self._ahead: Values = np.empty(0)  # how much earlier the level was crossed, in samples
        self._uneven = 0

    def read(self, n0: int, values: Values) -> list[tuple[int, float]]:
        """Edges of the new samples, then the speeds that are due."""
        self._find(n0, self._sign * values)
        n1, told = n0 + len(values), []
        for n in range((n0 // self.step + 1) * self.step, n1 + 1, self.step):
            rpm = self._speed(n)
            if rpm is not None:
                told.append((n, rpm))
        kept = self._edges >= n1 - MEMORY_S * self._rate
        self._edges, self._ahead = self._edges[kept], self._ahead[kept]
        return told

    def _find(self, n0: int, x: Values) -> None:
        if not len(x):
            return
        side = np.where(x >= self._level, 1, np.where(x < self._below, -1, 0))
        at = np.maximum.accumulate(np.where(side != 0, np.arange(len(x)), -1))
        above = np.where(at < 0, self._above, side[at] > 0)
        before = np.concatenate(([self._above], above[:-1]))
        (found,) = np.nonzero(above & ~before)
        previous = np.concatenate(([self._last], x[:-1]))[found]
        rise = x[found] - previous
        with np.errstate(invalid="ignore"):
            ahead = np.where(rise > 0.0, (x[found] - self._level) / rise, 0.0)
        self._edges = np.concatenate((self._edges, n0 + found))
        self._ahead = np.concatenate((self._ahead, np.where(np.isfinite(ahead), ahead, 0.0)))
        self._above, self._last = bool(above[-1]), float(x[-1])

    def _speed(self, n: int) -> float | None:
        """Mean speed of the whole revolutions before sample `n`; 0 where it stands, None where that is not known."""
        count = int(np.searchsorted(self._edges, n))
        first = int(np.searchsorted(self._edges, n - AVERAGED_S * self._rate))
        start = max(0, min(first, count - self._per - 1))
        edges, ahead = self._edges[start:count], self._ahead[start:count]
        longest = STANDING_S * self._rate
        if len(edges) <= self._per or n - edges[-1] > longest or edges[-1] - edges[-1 - self._per] > longest:
            self._doubted(even=True)
            return 0.0 if n - self._began >= 2.0 * longest else None
        steps = np.diff(edges) - np.diff(ahead)
        even = bool(np.all(np.maximum(steps[1:], steps[:-1]) <= _UNEVEN * np.minimum(steps[1:], steps[:-1])))
        self._doubted(even=even)
        if not even:
            return None
        whole = (len(edges) - 1) // self._per
        taken = whole * self._per
        span = float(edges[-1] - edges[-1 - taken]) - float(ahead[-1] - ahead[-1 - taken])
        return round(60.0 * self._rate * whole / span, 3)

    def _doubted(self, *, even: bool) -> None:
        self._uneven = 0 if even else self._uneven + 1
        self.doubt = "" if self._uneven < _PATIENCE else (
            "pulses come unevenly: some are lost, or what is heard is no pulse (level, edge, wiring)"
        )  # fmt: skip


class VoltageReader:
    """Speed from the mean of a signal in proportion to it, as drives give out, or a column that holds it.

    Args:
        rate_hz: samples per second.
        rpm_per_unit: speed that one unit stands for; its sign, and the direction of rotation, do not count.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(self, rate_hz: float, rpm_per_unit: float) -> None:
        if not np.isfinite(rpm_per_unit) or rpm_per_unit == 0.0 or not rate_hz > 0.0:
            raise ValueError("rpm_per_unit must be a number other than 0, the rate positive")
        self._rpm_per_unit = abs(rpm_per_unit)
        self.step = max(1, round(TELL_S * rate_hz))
        self.doubt = ""
        self.reset(0)

    def reset(self, n: int) -> None:
        """Nothing is known of what was before sample `n`."""
        self._n0, self._waiting = n, np.empty(0)

    def read(self, n0: int, values: Values) -> list[tuple[int, float]]:
        """The mean of each stretch of `step` samples that is complete; one that began in a hole tells nothing."""
        x = np.concatenate((self._waiting, values))
        at, n1, told = n0 - len(self._waiting), n0 + len(values), []
        for n in range((at // self.step + 1) * self.step, n1 + 1, self.step):
            if n - self.step >= self._n0:
                rpm = abs(float(np.mean(x[n - self.step - at : n - at]))) * self._rpm_per_unit
                self.doubt = "" if np.isfinite(rpm) else "the channel holds no numbers"
                if not self.doubt:
                    told.append((n, 0.0 if rpm < 60.0 / STANDING_S else round(rpm, 3)))
        self._waiting = x[max(0, n1 // self.step * self.step - at) :]
        return told
