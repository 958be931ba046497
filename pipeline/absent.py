"""Configured sensors that have never been heard of: each is told so, in a stream of its own before the first one.

A join of several sensors waits for each of them, and a sensor without a stream has no health. After `ABANDON_S` a
sensor that has not appeared therefore gets marks with the reason "abandoned" in a stream of epoch -1, which says that
there was nothing since the start. When it appears after all, its first stream (epoch 0 or later) replaces that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from config.sources import PlaybackSource
from pipeline.messages import NS, Anchor, Mark, Stream
from pipeline.stages import LaneSettings
from pipeline.topics import ABANDON_S

BEHIND_NS = NS
"""Marks stay this far behind the clock, so that samples still on their way do not come late."""

Key = tuple[str, str]
"""(machine, sensor)."""


class MissingSensors:
    """Sensors of the inventory that have not been heard of since the start.

    Args:
        lanes: the machines' inventories.
    """

    def __init__(self, lanes: Sequence[LaneSettings]) -> None:
        self._lanes = {lane.machine.name: lane for lane in lanes}
        self._missing: dict[Key, Stream] = {}
        self._told: dict[Key, int] = {}
        self._anchor = Anchor(0, 0)
        self._due_ns = 0

    def begin(self, now_ns: int) -> None:
        """Expect all sensors from now on; a recording is not held against the clock, its time is its own."""
        self._anchor, self._due_ns = Anchor(0, now_ns), now_ns + round(ABANDON_S * NS)
        for machine, lane in self._lanes.items():
            for sensor in lane.machine.sensors:
                if not isinstance(sensor.source, PlaybackSource):
                    self._missing[machine, sensor.name] = lane.announced(sensor)

    def heard(self, stream: Stream) -> None:
        """Strike a sensor off; one that is not what the inventory says stays, as nothing that it sends is used."""
        key = (stream.machine, stream.sensor)
        if key in self._missing and self._lanes[stream.machine].mismatch(stream) is None:
            del self._missing[key]
            self._told.pop(key, None)

    @property
    def missing(self) -> list[Key]:
        """The sensors that have been told of."""
        return list(self._told)

    def marks(self, now_ns: int) -> Iterator[Mark]:
        """What is due: one mark per missing sensor after `ABANDON_S`, then every second."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + NS
        for key, stream in self._missing.items():
            n0, n1 = self._told.get(key, 0), (now_ns - BEHIND_NS - self._anchor.t_ns) * stream.rate.num
            n1 //= stream.rate.den * NS
            if n1 > n0:
                self._told[key] = n1
                yield Mark(stream, self._anchor, n0, n1, "abandoned")
