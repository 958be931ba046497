"""What is known of each one-second clip besides its sound, and what a benchmark refuses to start on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.heads.head import Ints
from pipeline.errors import BadInput

Strings: TypeAlias = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Facts:
    """One clip.

    Attributes:
        recording: the file that it was cut from.
        start_s: where in the recording's own time it begins; files that continue one another share that time.
        label: its class.
        group: what a split must not tear: the original recording, or the occasion. Takes of one moment by several
            sensors share the group and the time.
        sensor: which sensor heard it.
        condition: its class without the sensor, where the class names one (`label` otherwise).
    """

    recording: str
    start_s: float
    label: str
    group: str
    sensor: str
    condition: str


@dataclass(frozen=True, eq=False)
class Clips:
    """All clips of one problem, as columns."""

    recording: Strings
    start_s: NDArray[np.float64]
    label: Strings
    group: Strings
    sensor: Strings
    condition: Strings

    def __len__(self) -> int:
        return len(self.label)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in alphabetical order."""
        return tuple(str(v) for v in np.unique(self.label))

    @property
    def y(self) -> Ints:
        """Class of each clip as an index into `labels`."""
        return np.unique(self.label, return_inverse=True)[1].astype(np.intp)

    def at(self, rows: Ints) -> Clips:
        """Only these rows."""
        return Clips(*(getattr(self, name)[rows] for name in _COLUMNS))

    def by_condition(self) -> Clips:
        """The same clips, their class without the sensor."""
        return Clips(self.recording, self.start_s, self.condition, self.group, self.sensor, self.condition)


_COLUMNS = ("recording", "start_s", "label", "group", "sensor", "condition")


def columns(facts: Sequence[Facts]) -> Clips:
    """Rows as columns."""
    text = {name: np.array([getattr(f, name) for f in facts], dtype=str) for name in _COLUMNS if name != "start_s"}
    return Clips(start_s=np.array([f.start_s for f in facts], np.float64), **text)


def check(clips: Clips) -> None:
    """Refuse what cannot be judged.

    Raises:
        BadInput: no clips, one class only, or one group only.
    """
    if len(clips) == 0:
        raise BadInput("manifest", "there is no clip to judge; check the paths and labels")
    if len(clips.labels) < 2:
        raise BadInput("one_class", f"all clips are labelled {clips.labels[0]!r}; a probe needs two classes")
    if len(np.unique(clips.group)) < 2:
        raise BadInput(
            "one_group",
            f"all clips belong to the group '{clips.group[0]}': training and test part would be neighbours of one "
            "recording, and the accuracy would mean nothing; add recordings of other occasions with their own group",
        )
