"""How much the line of a cut wavers over seconds: a mode that the force's noise rings does, a limit cycle does not.

⟨A⁴⟩/⟨A²⟩² of the line's amplitude A is 1 for a limit cycle and 2 for the narrow-band Gaussian noise of a rung mode
(`chatter_lines.wavering`). A mode a few hertz wide hardly changes within one long window; over one to three seconds it
does, so that the moments of the cut's windows are put together: with the power P = ⟨A²⟩ and the ratio W of each, the
ratio of all is ⟨W P²⟩/⟨P⟩². A line that begins, or grows by orders of magnitude, has far more than 2: it is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, log10
from typing import Any, Self

import numpy as np

from operators.chatter_evidence import Evidence, evidence

_KEPT, _LEAST = 60, 20
"""Long windows, one in 50 ms, that are looked back on, and how many of them must hold the line."""
_NEAR_HZ = 10.0
"""Distance within which a line of an earlier window is the same: ±2/T of the shortest long window, twice."""
_AGAINST = 4.0
"""Log-odds against chatter of a line that wavers as noise does."""
_WAVERS, _BEGINS = (1.5, 1.8), (3.5, 5.0)
"""Ratios between which that comes in, and goes again. A steady line of power S in noise N has 2 - (S/(S + N))², so that
one 3.8 dB over the noise between its two multiples of the rotation keeps all."""
_LEAST_SHARE = 1e-6  # -60 dB: what stands for no power at all


class Waver:
    """The line, its power and its ratio ⟨A⁴⟩/⟨A²⟩² of the last sixty long windows of an uninterrupted cut."""

    def __init__(self, kept: Iterable[Sequence[float]] = ()) -> None:
        self._kept = [tuple(one) for one in kept]

    def take(self, v: Mapping[str, float]) -> float:
        """Log-odds of chatter, 0 to -4, that the line's wavering adds to those of one more long window.

        Args:
            v: its values (see `ChatterFeatures`); without a finite `wavering` it adds nothing and leaves no trace.
        """
        if not v.get("wavering", inf) < inf:
            return 0.0
        power_db = v["level_db"] + 10.0 * log10(max(v["coherent"], _LEAST_SHARE))
        one = (round(v["long_line_hz"], 1), round(power_db, 3), round(v["wavering"], 4))
        self._kept = [*self._kept[1 - _KEPT :], one]
        ratio = self.ratio
        return -_AGAINST * _ramp(ratio, *_WAVERS) * (1.0 - _ramp(ratio, *_BEGINS))

    @property
    def ratio(self) -> float:
        """⟨A⁴⟩/⟨A²⟩² over the windows that hold the last one's line; 1 where they are fewer than twenty."""
        if len(self._kept) < _LEAST:
            return 1.0
        line_hz, power_db, wavering = np.array(self._kept).T
        same = np.abs(line_hz - line_hz[-1]) < _NEAR_HZ
        if np.count_nonzero(same) < _LEAST:
            return 1.0
        power = 10.0 ** (0.1 * (power_db[same] - power_db[same].max()))  # the ratio knows no gain
        return float((wavering[same] * power**2).mean() / power.mean() ** 2)

    def snapshot(self) -> list[list[float]]:
        """As JSON values, at most 2 kB."""
        return [list(one) for one in self._kept]


class Weighed:
    """The evidence of an uninterrupted cut, as it is and less what the wavering of its line takes off."""

    def __init__(self) -> None:
        self.whole, self.less, self._waver = Evidence(), Evidence(), Waver()

    def take(self, v: Mapping[str, float] | None) -> None:
        """One more long window by its values (see `ChatterFeatures`); None where nothing may speak for chatter."""
        found = evidence(v) if v is not None else 0.0
        self.whole.take(found)
        self.less.take(found + self._waver.take(v) if v is not None else 0.0)

    def snapshot(self) -> dict[str, Any]:
        """As JSON values, for `of`."""
        return {"evidence": self.whole.snapshot(), "less": self.less.snapshot(), "waver": self._waver.snapshot()}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """From a snapshot; one of an earlier version knows the whole evidence alone: nothing has been taken off."""
        one = cls()
        one.whole, one.less = Evidence(state["evidence"]), Evidence(state.get("less", state["evidence"]))
        one._waver = Waver(state.get("waver", ()))
        return one


def _ramp(x: float, first: float, last: float) -> float:
    return min(max((x - first) / (last - first), 0.0), 1.0)
