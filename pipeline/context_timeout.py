"""Contexts that windows wait for: given up by decision when they stay away, taken back when they are heard of again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.messages import NS, Decision
from pipeline.runner import Lane
from pipeline.topics import ABANDON_S


class ContextTimeout:
    """Tells which decisions are due: a context is given up when windows have waited `ABANDON_S` for it.

    Args:
        decides: whether anything is ever due; a faithful replay has the decisions that were made then.
    """

    def __init__(self, decides: bool = True) -> None:
        self._decides = decides
        self._since: dict[tuple[str, str], int] = {}

    def due(self, lanes: Iterable[Lane], now_ns: int, current: bool = True) -> Iterator[tuple[Lane, Decision]]:
        """Decisions that lanes need now; a lane may take each one in before the next one is asked for.

        Args:
            lanes: of machines that are told apart by name.
            now_ns: the host's clock.
            current: whether the lanes know all contexts that were told; time counts only then.
        """
        for lane in lanes if self._decides else ():
            contexts, lag_ns = lane.settings.contexts, round(lane.settings.machine.context_lag_s * NS)
            for fact in lane.starving():
                since = self._since.setdefault((lane.machine, fact), now_ns)
                if not current:
                    self._since[lane.machine, fact] = now_ns
                elif now_ns - since >= ABANDON_S * NS:
                    yield lane, _decision(lane, "abandon", fact, contexts.unjudged_ns(fact, lag_ns))
            starving = lane.starving()
            for key in [key for key in self._since if key[0] == lane.machine and key[1] not in starving]:
                del self._since[key]
            for fact in contexts.back(lag_ns):
                yield lane, _decision(lane, "return", fact, lane.event_ns)


def _decision(lane: Lane, kind: str, fact: str, t_ns: int) -> Decision:
    return Decision(lane.machine, f"{lane.machine}|{kind}|{fact}|{t_ns}", t_ns, kind, {"context": fact})
