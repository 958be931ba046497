"""The streams that a lane is hearing, and those behind them in which something still waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from operators.base import Windowed
from pipeline.messages import Anchor, Stream
from pipeline.nodes import Node, StreamGraph
from pipeline.stages import Switchable


class Streams:
    """Each sensor's newest graph, and older ones of which an output is still to come.

    Iterates over the older ones first: what is stateful takes their windows in before those of newer ones.

    Args:
        keyed: the machine's nodes beside those of single streams, joins among them; looked at whenever asked.
    """

    def __init__(self, keyed: Mapping[str, Node]) -> None:
        self._keyed = keyed
        self._newest: dict[str, StreamGraph] = {}
        self._past: list[StreamGraph] = []

    def __iter__(self) -> Iterator[StreamGraph]:
        return iter([*self._past, *self._newest.values()])

    def of(self, sensor: str) -> StreamGraph | None:
        """A sensor's newest graph."""
        return self._newest.get(sensor)

    def add(self, graph: StreamGraph) -> None:
        """Make a graph its sensor's newest; the one before, which must have ended, stays while anything waits in it."""
        before = self._newest.get(graph.stream.sensor)
        if before is not None:
            self._past.append(before)
        self._newest[graph.stream.sensor] = graph
        self.forget()
        for earlier in self._past:
            if earlier.stream.sensor == graph.stream.sensor:
                graph.follow(earlier)

    def forget(self) -> None:
        """Let go of older graphs in which nothing waits, and of which nothing is needed, any longer."""
        if self._past:
            joined = self._joins_need()
            self._past = [graph for graph in self._past if graph.needs_from(joined) is not None]

    def needs_from(self) -> dict[tuple[str, int], int]:
        """By (sensor, epoch), the first sample still needed; of streams that are not named, none is."""
        joined = self._joins_need()
        found = ((graph.stream.key, graph.needs_from(joined)) for graph in self)
        return {key: n for key, n in found if n is not None}

    def positions(self) -> list[tuple[Stream, Anchor, int, bool]]:
        """For each sensor its newest stream, anchor, first sample still needed, and whether the stream has ended."""
        needed = self.needs_from()
        return [(g.stream, g.anchor, needed.get(g.stream.key, g.n1), g.ended) for g in self._newest.values()]

    def starving(self) -> set[str]:
        """Contexts that windows wait for."""
        operators = (node.operator for graph in self for node in graph.nodes)
        waits = (operator.waits_for for operator in operators if isinstance(operator, Switchable))
        return {fact for fact in waits if fact is not None}

    def _joins_need(self) -> dict[tuple[str, int], int]:
        """The first samples that joins of several streams need; one whose sensors have all ended waits for nothing."""
        running = {graph.stream.sensor for graph in self._newest.values() if not graph.ended}
        found = [node.operator.needs_from() for node in self._keyed.values() if isinstance(node.operator, Windowed)]
        needs = [one for one in found if not running.isdisjoint(sensor for sensor, _ in one)]
        return {key: min(other.get(key, n) for other in needs) for one in needs for key, n in one.items()}
