"""Breaks of one bit of a drilling head as a scorer, with the places that a configuration tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from config import load
from operators.base import Stateful, Windowed
from operators.head import HeadFrames
from operators.head_detector import BREAK, HeadDetector
from operators.head_geometry import HeadGeometry
from pipeline.manifest import NORMAL_LABELS, Row
from pipeline.messages import Alarm, Score, Stream
from pipeline.stages import LaneSettings
from pipeline.stages_head import geometry
from pipeline.validation.physics import BreakScorer, Unverified


def heads(config: Path | None) -> dict[str, HeadGeometry]:
    """Where bits and microphones are, by machine, as a configuration says.

    Raises:
        ConfigError: it is none.
        BadInput: places that cannot be.
    """
    machines = () if config is None else load(config).machines
    found = {machine.name: geometry(LaneSettings(machine)) for machine in machines}
    return {name: made for name, made in found.items() if made is not None}


class HeadScorer(BreakScorer):
    """The bit that broke, after the good strokes of the same program were learned.

    A recording whose row tells the bit (column ``spindle``, from 1) is found where an alarm names that one.

    Args:
        rows: of the manifest.
        normal: labels that mean normal.
        places: by machine, see `heads`.
    """

    detector = BREAK

    def __init__(
        self, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS, places: Mapping[str, HeadGeometry] = {}
    ) -> None:
        super().__init__(rows, normal)
        self._places = places

    def features(self, row: Row, stream: Stream) -> Windowed:
        """Frames of the head that the row's machine has."""
        return HeadFrames(stream, self._head(row))

    def untaught(self, row: Row, teach: int) -> Stateful:
        """A detector of that head."""
        return HeadDetector(self._head(row), teach)

    def decide(self, row: Row, scores: Sequence[Score], raised: Sequence[Alarm]) -> bool:
        """Whether an alarm names the bit that the row tells; any alarm where it tells none."""
        told = row.extra.get("spindle") or ""
        right = [a for a in raised if not told or a.reasons.get("spindle") == int(float(told))]
        return super().decide(row, scores, right)

    def _head(self, row: Row) -> HeadGeometry:
        if row.machine not in self._places:
            raise Unverified(f"no configuration (--config) tells the head of machine '{row.machine}'")
        return self._places[row.machine]
