"""What left-out starts say: the limit of a window, how often it would have alarmed, which start is like no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.anomaly.baseline import FalseAlarms
from models.anomaly.thresholds import block_maxima, new_start_limit, poisson_upper, threshold
from operators.persistence import Persistence
from pipeline.messages import NS, Alarm, Score

_COMPARED = 3
"""Fewer other starts say nothing about how much starts differ."""
_UNLIKE = 2.0
"""Times that limit: one of many normal starts may lie a little above it."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Scores of one recording, learned without the start that it belongs to, and their event times, both (n,)."""

    start: str
    scores: NDArray[np.float64]
    t_ns: NDArray[np.int64]


class LeftOut:
    """The recordings of one detector in one state.

    Args:
        recordings: in time order within each start.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = recordings
        self._maxima = [block_maxima(r.scores, r.t_ns) for r in recordings]
        self._starts = list(dict.fromkeys(r.start for r in recordings))
        several = len(self._starts) > 1
        self._limits = {start: self.limit(start if several else None) for start in self._starts}

    def limit(self, without: str | None = None) -> float:
        """The threshold of a window: high enough for the scores that were left out, and for one more start.

        Args:
            without: a start that is passed over.
        """
        worst: dict[str, float] = {}
        maxima = []
        for recording, highest in zip(self._recordings, self._maxima, strict=True):
            if recording.start != without:
                worst[recording.start] = max(worst.get(recording.start, -np.inf), float(recording.scores.max()))
                maxima.append(highest)
        return max(threshold(np.concatenate(maxima)), new_start_limit(list(worst.values())))

    def false_alarms(self) -> FalseAlarms:
        """Alarms after persistence in each start, under the threshold that all the other starts give."""
        count = sum(_alarms(recording, self._limits[recording.start]) for recording in self._recordings)
        seconds = sum(_covered_s(recording) for recording in self._recordings)
        days = max(seconds, 1.0) / 86_400.0
        return FalseAlarms(count, seconds / 3600.0, count / days, poisson_upper(count, days))

    def strangers(self) -> dict[str, float]:
        """Starts whose median score is far above that threshold, as its multiple.

        It may be that the machine was not normal then, which nobody would notice later: the baseline has learned it.
        """
        if len(self._starts) <= _COMPARED:
            return {}
        scores = {s: np.concatenate([r.scores for r in self._recordings if r.start == s]) for s in self._starts}
        ratio = {start: float(np.median(scores[start])) / self._limits[start] for start in self._starts}
        return {start: times for start, times in ratio.items() if times > _UNLIKE}


def _covered_s(recording: Recording) -> float:
    steps = np.minimum(np.diff(recording.t_ns) / NS, 1.0)
    return float(steps.sum()) + 1.0


def _alarms(recording: Recording, limit: float) -> int:
    persistence = Persistence()
    count = 0
    for value, t_ns in zip(recording.scores.tolist(), recording.t_ns.tolist(), strict=True):
        score = Score("", ("",), "", t_ns, value, limit, "")
        raised = (m for m in persistence.process(score) if isinstance(m, Alarm) and m.transition == "raised")
        count += sum(1 for _ in raised)
    return count
