"""From scores to alarms: one window is no alarm, and an alarm that flickers is worse than none.

Scores and their moving mean (EWMA) must exceed the threshold k times in n, and must stay below a dead-band for a while
before the alarm clears (on-delay, k of n and dead-band of ISA-18.2 / IEC 62682). Latency: with the defaults a score
that jumps to twice its threshold raises at the sixth score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from operators.base import Stateful
from operators.order import Order
from pipeline.messages import NS, Alarm, Message, Score

Severity = Literal["advisory", "warning", "critical"]
PAUSE_S = 5.0
_LONGEST_NS = 10 * 365 * 86_400 * NS
"""Nothing stands for ten years: it was raised by a clock that had not been set."""


class Persistence(Stateful):
    """`Score` of one condition → `Alarm` raised and cleared.

    What is smoothed is value/threshold, so that a change of the threshold between operating states does not read as a
    change of the machine. Scores that are incomplete, no number, or not behind the last one taken in, do nothing.
    Scores under new settings (another baseline) start smoothing and counting anew; an active alarm stays. Clearing
    needs uninterrupted evidence: a pause longer than `pause_s`, or a clock set back, starts the wait again.

    Args:
        alpha: weight of the newest score; 1 switches smoothing off.
        k: exceedances needed to raise.
        n: among this many scores.
        clear_ratio: fraction of the threshold below which it counts as clear.
        clear_s: how long it must be clear, in event time.
        pause_s: longest distance of two scores that still counts as uninterrupted.
        severity: of the alarms raised.
    """

    schema: ClassVar[int] = 1

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        k: int = 3,
        n: int = 5,
        clear_ratio: float = 0.8,
        clear_s: float = 30.0,
        pause_s: float = PAUSE_S,
        severity: Severity = "warning",
    ) -> None:
        if not (0.0 < alpha <= 1.0 and 1 <= k <= n and 0.0 < clear_ratio <= 1.0 and clear_s >= 0.0):
            raise ValueError("alpha in (0, 1], 1 <= k <= n, clear_ratio in (0, 1] and clear_s >= 0 are required")
        self._alpha, self._k, self._n = alpha, k, n
        self._clear_ratio = clear_ratio
        self._clear_ns, self._pause_ns = round(clear_s * NS), round(pause_s * NS)
        self._severity: Severity = severity
        self._order = Order()
        self._settings = ""
        self._ratio = 0.0
        self._recent: list[bool] = []
        self._raised_ns: int | None = None
        self._set_back = False
        self._calm_since_ns: int | None = None

    def process(self, message: Message) -> Iterable[Message]:
        """Take one score in."""
        if not isinstance(message, Score):
            raise TypeError(f"Persistence takes Score, not {type(message).__name__}")
        if not message.complete or not self._order.behind(message.t_end_ns, message.lineage):
            return []
        if not message.threshold or not math.isfinite(message.value / message.threshold):
            return []  # an error would start this operator afresh, and the active alarm would stay for ever
        if self._order.restarts(message.t_end_ns):
            self._calm_since_ns, self._set_back = None, True
        self._smooth(message)
        alarm = self._raise(message) if self._raised_ns is None else self._clear(message)
        self._order.take(message.t_end_ns, message.lineage)
        return [] if alarm is None else [alarm]

    def snapshot(self) -> dict[str, Any]:
        """State as JSON values."""
        return {
            "schema": self.schema,
            "last_ns": self._order.t_ns,
            "epochs": self._order.epochs,
            "settings": self._settings,
            "ratio": self._ratio,
            "recent": list(self._recent),
            "raised_ns": self._raised_ns,
            "set_back": self._set_back,
            "calm_since_ns": self._calm_since_ns,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._order.restore(state["last_ns"], state.get("epochs", {}))
        self._settings = state["settings"]
        self._ratio = state["ratio"]
        self._recent = list(state["recent"])
        self._raised_ns, self._set_back = state["raised_ns"], bool(state.get("set_back", False))
        self._calm_since_ns = state["calm_since_ns"]

    def _smooth(self, score: Score) -> None:
        if score.settings != self._settings:
            self._settings, self._ratio, self._recent, self._calm_since_ns = score.settings, 0.0, [], None
        self._ratio = self._alpha * score.value / score.threshold + (1.0 - self._alpha) * self._ratio
        # the mean alone would let one loud window exceed for three
        over = self._ratio > 1.0 and score.value > score.threshold
        self._recent = [*self._recent, over][-self._n :]

    def _raise(self, score: Score) -> Alarm | None:
        if sum(self._recent) < self._k or not self._recent[-1]:
            return None
        self._raised_ns, self._set_back, self._calm_since_ns = score.t_end_ns, False, None
        return self._alarm(score, "raised", 0, raised_text(score, self._ratio, self._k, self._n))

    def _clear(self, score: Score) -> Alarm | None:
        assert self._raised_ns is not None
        if self._ratio >= self._clear_ratio:
            self._calm_since_ns = None
            return None
        last_ns = self._order.t_ns
        paused = last_ns is not None and score.t_end_ns - last_ns > self._pause_ns
        if self._calm_since_ns is None or paused:
            self._calm_since_ns = score.t_end_ns
        if score.t_end_ns - self._calm_since_ns < self._clear_ns:
            return None
        lasted_ns = None if self._set_back else score.t_end_ns - self._raised_ns
        alarm = self._alarm(score, "cleared", 1, cleared_text(score, lasted_ns))
        self._raised_ns, self._calm_since_ns, self._recent = None, None, []
        return alarm

    def _alarm(self, score: Score, transition: Literal["raised", "cleared"], ordinal: int, text: str) -> Alarm:
        assert self._raised_ns is not None
        return Alarm(
            machine=score.machine,
            sensors=score.sensors,
            detector=score.detector,
            t_ns=score.t_end_ns,
            transition=transition,
            ordinal=ordinal,
            raised_ns=self._raised_ns,
            severity=self._severity,
            text=text,
            value=self._ratio * score.threshold,
            threshold=score.threshold,
            settings=score.settings,
            reasons=score.reasons,
            lineage=score.lineage,
        )


def raised_text(score: Score, ratio: float, k: int, n: int) -> str:
    """What the operator reads: where, what, how much, and why as far as the detector said so."""
    where = f"{score.machine} {'+'.join(score.sensors)}".strip()
    head = f"{where}: {score.detector} at {100.0 * ratio:.0f} % of its threshold, {k} of {n} scores above it"
    why = score.reasons.get("text")
    return f"{head}; {why}" if why else head


def cleared_text(score: Score, lasted_ns: int | None) -> str:
    """What the operator reads when it is over; for how long it stood, unless the clock was set meanwhile."""
    where = f"{score.machine} {'+'.join(score.sensors)}".strip()
    lasted = "" if lasted_ns is None or not 0 <= lasted_ns < _LONGEST_NS else f" after {lasted_ns / NS:.0f} s"
    return f"{where}: {score.detector} back to normal{lasted}"
