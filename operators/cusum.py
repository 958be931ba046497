"""Slow drift: the cumulative sum of what small deviations add up to (Page 1954).

S = max(0, S + z − k) over one-minute means z of a calibrated score. With k = 0.5 and h = 8 white normal data alarms
every 19,000 samples on average, 13 days at one a minute, and a lasting shift of one standard deviation is found after
16 samples. No minute counts for more than z = 3, so that a bang is no drift, and S ends at 2 h, so that it comes down
again within half an hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from operators.base import Stateful
from operators.order import Order
from pipeline.messages import NS, Message, Score, Span

MINUTE_NS = 60 * NS
LARGEST_Z = 3.0
DRIFT = "_drift"
"""Ends the name of the detector of a drift."""


def step(s: NDArray[np.float64] | float, z: NDArray[np.float64] | float, k: float) -> Any:
    """One step of the sum; also on arrays of independent sums."""
    return np.maximum(0.0, np.add(s, z) - k)


class Cusum(Stateful):
    """`Score` of one condition → one `Score` a minute of the detector ``NAME_drift`` with the threshold h.

    Minutes are those of the clock (multiples of 60 s since 1970), so that they do not move with the start. A minute
    is closed by the first score behind it and ends at its own border. Incomplete scores, scores that are no number and
    scores not after the last one taken in do nothing; new settings start from zero.

    Args:
        mean: expected minute mean of the calibrated score on normal data.
        std: its standard deviation, positive.
        k: allowance in standard deviations.
        h: decision interval in standard deviations.
        at_least: scores that a minute needs to count.
    """

    schema: ClassVar[int] = 1

    def __init__(
        self, *, mean: float = 0.0, std: float = 1.0, k: float = 0.5, h: float = 8.0, at_least: int = 10
    ) -> None:
        if std <= 0.0 or h <= 0.0:
            raise ValueError(f"std and h must be positive, not {std} and {h}")
        self._mean, self._std, self._k, self._h, self._at_least = mean, std, k, h, at_least
        self._order = Order()
        self._settings = ""
        self._s = 0.0
        self._sum = 0.0
        self._count = 0
        self._spans: dict[tuple[str, int], Span] = {}

    def process(self, message: Message) -> Iterable[Message]:
        """Take one score in; return the minute that it closes."""
        if not isinstance(message, Score):
            raise TypeError(f"Cusum takes Score, not {type(message).__name__}")
        if not message.complete or not self._order.behind(message.t_end_ns, message.lineage):
            return []
        if self._order.restarts(message.t_end_ns):
            self._begin()
        if message.settings != self._settings:
            self._settings, self._s = message.settings, 0.0
            self._begin()
        closed = self._close(message)
        if math.isfinite(message.value):  # what is no number would stay in the sums for ever
            self._sum += message.value
            self._count += 1
        for span in message.lineage:
            known = self._spans.setdefault((span.sensor, span.epoch), span)
            self._spans[span.sensor, span.epoch] = Span(
                span.sensor, span.epoch, min(known.n0, span.n0), max(known.n1, span.n1)
            )
        self._order.take(message.t_end_ns, message.lineage)
        return closed

    def snapshot(self) -> dict[str, Any]:
        """State as JSON values."""
        return {
            "schema": self.schema,
            "last_ns": self._order.t_ns,
            "epochs": self._order.epochs,
            "settings": self._settings,
            "s": self._s,
            "sum": self._sum,
            "count": self._count,
            "spans": [list(span) for span in self._spans.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._order.restore(state["last_ns"], state["epochs"])
        self._settings = state["settings"]
        self._s = state["s"] or 0.0  # JSON has null for what is no number
        self._sum, self._count = (0.0, 0) if state["sum"] is None else (state["sum"], state["count"])
        spans = [Span(*span) for span in state["spans"]]
        self._spans = {(span.sensor, span.epoch): span for span in spans}

    def _begin(self) -> None:
        """A new minute."""
        self._sum, self._count, self._spans = 0.0, 0, {}

    def _close(self, score: Score) -> list[Message]:
        last_ns = self._order.t_ns
        if last_ns is None:
            return []
        # a score that ends exactly on the border belongs to the minute before it
        minute = -(-last_ns // MINUTE_NS)
        if -(-score.t_end_ns // MINUTE_NS) == minute:
            return []
        mean, count = (self._sum / self._count, self._count) if self._count else (0.0, 0)
        lineage = tuple(self._spans.values())
        self._begin()
        if count < self._at_least:
            return []
        z = (mean - self._mean) / self._std
        self._s = min(float(step(self._s, min(z, LARGEST_Z), self._k)), 2.0 * self._h)
        text = f"minute mean {z:+.1f} sigma from normal, cumulative sum {self._s:.1f} of {self._h:g}"
        return [
            Score(
                machine=score.machine,
                sensors=score.sensors,
                detector=score.detector + DRIFT,
                t_end_ns=minute * MINUTE_NS,
                value=self._s,
                threshold=self._h,
                settings=score.settings,
                reasons={"minute_z": z, "text": text},
                lineage=lineage,
            )
        ]
