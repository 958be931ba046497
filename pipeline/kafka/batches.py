"""Models on a worker: the lanes of all its partitions share their runs, what follows goes to the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.clock import Clock
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.part import Part
from pipeline.models_pool import Pool
from pipeline.stages import LaneSettings


class Batches:
    """Owns the pool of a worker; without models it does nothing.

    Args:
        machines: all lanes' settings.
        outbox: takes the results.
        clock: tells how long windows have waited.
    """

    def __init__(self, machines: Sequence[LaneSettings], outbox: Outbox, clock: Clock) -> None:
        shelf = next((lane.models.shelf for lane in machines if lane.models is not None), None)
        self.pool = None if shelf is None else Pool(shelf, deferred=True)
        self._outbox = outbox
        self._clock = clock

    def collect(self, parts: Iterable[Part], force: bool = False) -> None:
        """Run the models that are due (all with `force`) and take what follows."""
        if self.pool is None:
            return
        now = self._clock.now_ns()
        finished = self.pool.poll(now, force)
        for part in parts if finished else ():
            for machine in finished:
                if machine in part.lanes:
                    self._outbox.add(part, part.lanes[machine].collect(), now)
