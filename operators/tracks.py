"""Several sensors' envelopes for windows that hold all of them: how far they are known, and whose clock was set back.

Cells are counted as the windows count them: a sensor's own, less its centre.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from operators.envelope import CELL_NS, CellTrack
from pipeline.messages import Gap, Segment

WAIT_CELLS = 120_000
"""So far one sensor may be behind another, in ms. What comes later finds its windows closed, so that memory is bounded
beside a recording that cannot be opened: nobody marks as missing what has a time of its own. A stream that begins
further before the end of its sensor's last one shows that a clock was set back."""


class Known(NamedTuple):
    """How far windows can be told.

    Attributes:
        cells: up to here every sensor is known, or given up.
        end: where those end whose clock was set back next: windows behind it have nothing of them; None where no clock
            was, or nobody is waited for.
        done: the sensors that go on to what they said behind the step, once windows have come to `end`.
    """

    cells: int
    end: int | None
    done: Sequence[str]


class Tracks:
    """By sensor, the track that windows are made of, and behind it those by clocks that were set back.

    Args:
        centre: by sensor, by how many cells it is later than the windows.
    """

    def __init__(self, centre: Mapping[str, int]) -> None:
        self._centre = centre
        self._of = {sensor: [CellTrack()] for sensor in centre}

    def __getitem__(self, sensor: str) -> CellTrack:
        """What windows are made of."""
        return self._of[sensor][0]

    def take(self, message: Segment | Gap) -> bool:
        """Take samples or a gap in; False for a sensor that is none of these."""
        tracks = self._of.get(message.stream.sensor)
        if tracks is None:
            return False
        if message.anchor.at(message.n0, message.stream.rate) < tracks[-1].passed_ns - WAIT_CELLS * CELL_NS:
            tracks.append(CellTrack())
        if isinstance(message, Segment):
            tracks[-1].segment(message)
        else:
            tracks[-1].gap(message)
        return True

    def needs_from(self, first: int | None) -> dict[tuple[str, int], int]:
        """By (sensor, epoch), the first sample that windows from `first` on depend on."""
        needs: dict[tuple[str, int], int] = {}
        for sensor, (track, *later) in self._of.items():
            for one in reversed(later):
                needs |= one.needs_from(None)
            needs |= track.needs_from(None if first is None else self._kept(sensor, first))
        return needs

    def forget(self, first: int) -> None:
        """Let go of what no window from `first` on needs."""
        for sensor in self._of:
            self[sensor].forget(self._kept(sensor, first))

    def begin(self) -> int | None:
        """Where all sensors have something that no window held; None before all have begun, or are given up."""
        begun = [(self[sensor].first_cell, centre) for sensor, centre in self._centre.items()]
        cells = [cell - centre for cell, centre in begun if cell is not None]
        if not cells or (len(cells) < len(begun) and self.known(None).cells < min(cells)):
            return None
        return max(cells)

    def known(self, first: int | None) -> Known:
        """How far windows from `first` on can be told.

        Streams that have ended do not count until all have; nor, once a clock was set back, do sensors so far behind
        that no window of what came before can hold them.
        """
        passed = {sensor: self._passed(sensor) for sensor in self._of}
        turn = [sensor for sensor in self._of if not self._early(sensor, first)]
        over = [sensor for sensor in turn if len(self._of[sensor]) > 1]
        end = min((passed[sensor] for sensor in over), default=None)
        awaited = [
            passed[sensor]
            for sensor, (track, *later) in self._of.items()
            if not later and not track.ended
            and (end is None or track.first_cell is None or passed[sensor] > end - WAIT_CELLS)
        ]  # fmt: skip
        if not awaited:  # what has ended holds nothing up behind the step either
            done = [sensor for sensor in turn if sensor in over or self[sensor].ended] if over else []
            return Known(max(passed.values()), None, done)
        reach = max(passed[sensor] + sum(one.cells for one in later) for sensor, (_, *later) in self._of.items())
        done = [sensor for sensor in over if passed[sensor] == end]
        return Known(max(min(awaited), reach - WAIT_CELLS), end, done)

    def go_on(self, sensors: Sequence[str]) -> None:
        """Make windows of what these sensors said behind the step, or are still to say."""
        for sensor in sensors:
            self._of[sensor] = self._of[sensor][1:] or [CellTrack()]

    def any_cell(self, first: int) -> int | None:
        """The earliest cell of any sensor at or after `first`."""
        cells = [(self[sensor].any_cell(first + centre), centre) for sensor, centre in self._centre.items()]
        return min((cell - centre for cell, centre in cells if cell is not None), default=None)

    def _passed(self, sensor: str) -> int:
        """The cell up to which a sensor is known."""
        return self[sensor].passed_ns // CELL_NS - self._centre[sensor]

    def _early(self, sensor: str, first: int | None) -> bool:
        """Whether a sensor's turn is still to come: windows are where another one is, whose clock is ahead."""
        waited = sum(one.cells for one in self._of[sensor][1:])
        return first is not None and waited < WAIT_CELLS and self._passed(sensor) < first - WAIT_CELLS

    def _kept(self, sensor: str, first: int) -> int:
        """The sensor's own cell from which it is needed for windows from `first` on.

        It may be far behind because another one's clock is ahead: when that one is set back, windows begin there.
        """
        track, at = self[sensor], first + self._centre[sensor]
        far_behind = track.passed_ns // CELL_NS - WAIT_CELLS
        if track.first_cell is None or far_behind + 2 * WAIT_CELLS >= at:
            return at
        return max(track.first_cell, far_behind)
