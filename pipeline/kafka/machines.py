"""Which machines' lanes belong to a partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.judges import fetch
from pipeline.kafka.client import Client
from pipeline.kafka.ownership import Found
from pipeline.models_pool import Pool
from pipeline.runner import Lane
from pipeline.stages import LaneSettings

Purpose = Literal["live", "replay", "trial"]
"""Of a worker: to watch machines; to say what was said before, with the decisions of then; or under other settings."""


class Machines:
    """Makes the lanes of a partition.

    Args:
        machines: all lanes' settings.
        client: tells where machines are.
        pool: runs the lanes' models; None without models.
        purpose: of the worker; only live ones look for baselines, recordings have those that they need.
    """

    def __init__(
        self, machines: Sequence[LaneSettings], client: Client, pool: Pool | None, purpose: Purpose = "live"
    ) -> None:
        self._pool = pool
        self._fetches = purpose == "live"
        self._settings: dict[int, list[LaneSettings]] = {}
        for settings in machines:
            self._settings.setdefault(client.partition(settings.machine.name), []).append(settings)

    def lanes(self, number: int, found: Found) -> dict[str, Lane]:
        """By machine, a lane that goes on where the newest snapshot ends.

        Raises:
            StateError: a baseline that a decision has put in force, and that is still needed, is gone, damaged, or of a
                newer version: nothing may be judged by another one, as on the embedded engine.
            ConfigError: another baseline is in its place.
        """
        lanes = {}
        for settings in self._settings.get(number, ()):
            name = settings.machine.name
            if self._fetches:
                fetch(settings, found.decisions, found.snapshots.get(name))
            lane = lanes[name] = Lane(settings, pool=self._pool)
            if name in found.snapshots:
                lane.restore(found.snapshots[name])
        return lanes
