"""How far the sensors of a machine have come: what decisions are dated by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Reach:
    """By sensor: its newest epoch, the event time that this has come to, and the latest of its earlier streams.

    A device may begin anew with a clock that is behind, and another one's may be ahead: no single time of a machine
    divides what was judged from what comes.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, int, int]] = {}

    def take(self, sensor: str, epoch: int, t_ns: int) -> None:
        """A stream has come to an event time."""
        newest, newest_ns, before_ns = self._of.get(sensor, (epoch, 0, 0))
        if epoch > newest:
            self._of[sensor] = (epoch, t_ns, max(before_ns, newest_ns))
        elif epoch == newest:
            self._of[sensor] = (epoch, max(newest_ns, t_ns), before_ns)
        else:
            self._of[sensor] = (newest, newest_ns, max(before_ns, t_ns))

    @property
    def newest_ns(self) -> int:
        """The newest event time of the newest streams; 0 before anything was heard."""
        return max((t_ns for _, t_ns, _ in self._of.values()), default=0)

    def saved(self) -> dict[str, list[int]]:
        """As JSON values."""
        return {sensor: list(place) for sensor, place in sorted(self._of.items())}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take over what a lane's snapshot says; earlier versions said it of what is read again alone."""
        self._of = {sensor: (epoch, t_ns, old) for sensor, (epoch, t_ns, old) in snapshot.get("reach", {}).items()}
        for place in () if "reach" in snapshot else snapshot.get("streams", ()):
            self.take(place["sensor"], int(place["epoch"]), int(place["reached_ns"]))
