"""The stage of slow drift: what creeps up over minutes without ever crossing the threshold of a window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from models.anomaly.baseline import Cell
from operators.base import Stateful
from operators.cusum import DRIFT, Cusum
from pipeline.messages import Message, Score, Stream
from pipeline.stages import UNTOLD, LaneSettings

UNKNOWN = "normal was learned from less than ten whole minutes: no drift can be told; commission on more"


class Drift(Stateful):
    """`Score` of a commissioned detector → one `Score` a minute of the detector ``NAME_drift``.

    Each score is measured in the standard deviations of minute means that commissioning found in the starts it left
    out, of the operating state that it was judged in. Where a minute has scores of a state that was learned from less
    than ten whole minutes, they count as normal, and the result is incomplete and says so. Where that is so in every
    state, or nobody tells the detector any more, an alarm of its drift is over. Scores of other detectors do nothing.

    Args:
        settings: of the lane.
    """

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._cusum = Cusum()
        self._unknown = False

    def process(self, message: Message) -> Iterable[Message]:
        """Take one score in; return the minute that it closes."""
        assert isinstance(message, Score)
        if message.reasons.get(UNTOLD):
            return self._over(message)
        cell = self._cell(message)
        if cell is None:
            return []
        known = cell.minute_known
        value = (message.value - cell.minute_mean) / cell.minute_std if known else 0.0
        closed = [self._told(score) for score in self._cusum.process(replace(message, value=value))]
        if closed:
            self._unknown = False
        self._unknown = self._unknown or not known
        return closed

    def _cell(self, score: Score) -> Cell | None:
        baseline = self._settings.artefacts.get(score.settings)
        if baseline is None or not score.complete:
            return None
        return baseline.cell(score.reasons.get("state"), score.detector)

    def _told(self, score: Message) -> Score:
        assert isinstance(score, Score)
        if not self._unknown:
            return score
        cells = self._settings.artefacts[score.settings].cells
        detector = score.detector.removesuffix(DRIFT)
        over = not any(detector in by and by[detector].minute_known for by in cells)
        return replace(score, complete=False, reasons={"text": UNKNOWN, **({UNTOLD: True} if over else {})})

    def _over(self, score: Score) -> list[Message]:
        """The sum ends, with one score that says so."""
        if not self._cusum.snapshot()["settings"]:
            return []
        self._cusum, self._unknown = Cusum(), False
        return [
            Score.of(score, score.detector + DRIFT, 0.0, 1.0, score.settings, score.reasons, complete=False),
        ]

    def snapshot(self) -> dict[str, Any]:
        """State of the sum."""
        return {**self._cusum.snapshot(), "unknown": self._unknown}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._cusum.restore(state)
        self._unknown = bool(state["unknown"])


def drift(settings: LaneSettings, _stream: Stream | None) -> Drift | None:
    """Cumulative sums of what is above normal, where the machine's configuration asks for them."""
    return Drift(settings) if settings.machine.drift else None
