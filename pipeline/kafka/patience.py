"""Contexts that windows wait for: given up by decision when they stay away, taken back when they are heard of again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pipeline.kafka.part import Part
from pipeline.messages import NS, Decision
from pipeline.runner import Lane
from pipeline.topics import ABANDON_S

Purpose = Literal["live", "replay", "trial"]
"""Of a worker: to watch machines; to say what was said before, with the decisions of then; or under other settings."""


class Patience:
    """Tells which decisions are due. The same rule as the embedded engine's, per partition.

    Args:
        purpose: of the worker; nothing is due in a replay, which has the decisions that were made.
    """

    def __init__(self, purpose: Purpose = "live") -> None:
        self._decides = purpose != "replay"
        self._starving: dict[tuple[str, str], int] = {}

    def due(self, part: Part, now_ns: int, read_to_the_end: bool) -> Iterator[tuple[Lane, Decision]]:
        """Decisions that the lanes of a partition need now.

        Args:
            part: the partition.
            now_ns: the host's clock.
            read_to_the_end: whether nothing unread waits in its topic of contexts; time counts only then.
        """
        for machine, lane in part.lanes.items() if self._decides else ():
            contexts, starving = lane.settings.contexts, lane.starving()
            lag_ns = round(lane.settings.machine.context_lag_s * NS)
            for fact in starving:
                since = self._starving.setdefault((machine, fact), now_ns)
                if not read_to_the_end:
                    self._starving[machine, fact] = now_ns
                elif now_ns - since >= ABANDON_S * NS:
                    unjudged_ns = contexts.unjudged_ns(fact, lag_ns)
                    yield lane, _decision(lane, "abandon", f"{fact}|{unjudged_ns}", fact, unjudged_ns)
            for key in [key for key in self._starving if key[0] == machine and key[1] not in starving]:
                del self._starving[key]
            for fact in contexts.back(lag_ns):
                yield lane, _decision(lane, "return", f"{fact}|{lane.event_ns}", fact, lane.event_ns)


def _decision(lane: Lane, kind: str, name: str, fact: str, t_ns: int) -> Decision:
    return Decision(lane.machine, f"{lane.machine}|{kind}|{name}", t_ns, kind, {"context": fact})
