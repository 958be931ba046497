"""What validation asks of anything that judges recordings, and what it gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.clips import Clip
from pipeline.manifest import Row
from pipeline.messages import Alarm, Score
from pipeline.validation.metrics import Metric


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a scorer says about one recording; event times count from the file's start.

    Attributes:
        scores: of its windows, complete ones only.
        score: of the recording: the calibrated mean of its windows; high means abnormal.
        decision: whether it is abnormal.
        label: the class decided for; empty for detectors.
        probabilities: class → probability per window, parallel to `scores`; empty for detectors.
        alarms: raised and cleared, in order.
        beside: recording scores of trivial baselines and of parts, for comparison.
        why: the strongest reason in words.
        verified: whether the recording could be judged; if not, `why` says what was not told, and nothing was raised.
    """

    scores: tuple[Score, ...]
    score: float
    decision: bool
    label: str = ""
    probabilities: tuple[Mapping[str, float], ...] = ()
    alarms: tuple[Alarm, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    verified: bool = True


class Scorer(Protocol):
    """Anything that judges recordings: baselines, detectors, model packages."""

    @property
    def title(self) -> str:
        """Name for the report."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of a classifier; empty for a detector."""

    @property
    def used_groups(self) -> Collection[str]:
        """Groups that it learned from."""

    def judge(self, clip: Clip) -> Judged:
        """Judge one recording.

        Raises:
            BadInput: this recording cannot be judged; says why.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """The outcome: figures, figures of the trivial baselines, what was judged, and what could not be."""

    title: str
    metrics: Mapping[str, Metric]
    comparison: Mapping[str, Mapping[str, Metric]]
    judged: tuple[tuple[Row, Judged], ...]
    unscored: tuple[tuple[Row, str], ...]
    notes: tuple[str, ...]
