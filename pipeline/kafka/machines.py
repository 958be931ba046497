"""Which machines' lanes belong to a partition."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.kafka.client import Client
from pipeline.kafka.ownership import Found
from pipeline.models_pool import Pool
from pipeline.runner import Lane
from pipeline.stages import LaneSettings


class Machines:
    """Makes the lanes of a partition.

    Args:
        machines: all lanes' settings.
        client: tells where machines are.
        pool: runs the lanes' models; None without models.
    """

    def __init__(self, machines: Sequence[LaneSettings], client: Client, pool: Pool | None) -> None:
        self._pool = pool
        self._settings: dict[int, list[LaneSettings]] = {}
        for settings in machines:
            self._settings.setdefault(client.partition(settings.machine.name), []).append(settings)

    def lanes(self, number: int, found: Found) -> dict[str, Lane]:
        """By machine, a lane that goes on where the newest snapshot ends."""
        lanes = {}
        for settings in self._settings.get(number, ()):
            name = settings.machine.name
            lane = lanes[name] = Lane(settings, pool=self._pool)
            if name in found.snapshots:
                lane.restore(found.snapshots[name])
        return lanes
