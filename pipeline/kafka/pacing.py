"""Back-pressure between topics: what is furthest ahead in event time waits for what is furthest behind.

A lane that joins sensors keeps the samples of those that are ahead. While a backlog is read, topics with few large
messages would run away from those with many small ones; a topic of a partition that is `AHEAD_NS` ahead of another
one with a backlog is paused until that one has come up. A backlog is what was unread already at the look before: a
sensor whose clock is an hour behind lags in event time for ever, and must not hold the others up while it keeps up.
Faust's `pause_partitions` would drop what was polled already; the state in which a full buffer puts a partition does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from faust.types import TP

from pipeline.kafka.faust_app import highwater
from pipeline.kafka.part import Part
from pipeline.messages import NS

AHEAD_NS = 10 * NS


class Pacing:
    """Pauses and resumes partitions of a worker's consumer."""

    def __init__(self) -> None:
        self.paused: set[TP] = set()
        self._ends: dict[TP, int] = {}

    def pace(self, consumer: Any, parts: Iterable[Part], name: Callable[[str], str]) -> None:
        """Look at every partition's topics once."""
        wanted: set[TP] = set()
        ends: dict[TP, int] = {}
        for part in parts:
            tps = {row: TP(name(row), part.number) for row in part.newest_ns}
            behind = [t_ns for row, t_ns in part.newest_ns.items() if part.upto(row) < self._ends.get(tps[row], 0)]
            if behind:
                limit = min(behind) + AHEAD_NS
                wanted |= {tps[row] for row, t_ns in part.newest_ns.items() if t_ns > limit}
            ends |= {tp: highwater(consumer, tp) or 0 for tp in tps.values()}
        self._ends = ends
        for tp in wanted:
            consumer.on_buffer_full(tp)
        for tp in self.paused - wanted:
            consumer.on_buffer_drop(tp)
        self.paused = wanted
