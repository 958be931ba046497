"""A lane's graph: each stage's operator with the nodes that take its results, stream by stream."""

from __future__ import annotations

from operators.base import Stateful, Windowed
from operators.blockfilter import BlockFilter
from pipeline.messages import Anchor, Embedding, Feature, Message, Score, Stream
from pipeline.stages_models import Deferred
from pipeline.topology import Stage


class Node:
    """A stage's operator in this lane, with the nodes that take its results."""

    __slots__ = ("filters", "key", "operator", "routes", "seen", "stage", "stateful", "tally")

    def __init__(self, stage: Stage, key: str, operator: Windowed | Stateful) -> None:
        self.stage = stage
        self.key = key
        self.operator = operator
        self.stateful = isinstance(operator, Stateful)
        self.tally = "stage." + stage.name
        self.routes: dict[type, tuple[bool, list[Node], list[Stage]]] = {}
        self.seen: dict[str, int] = {}
        self.filters: tuple[BlockFilter, ...] = ()
        """What changes sample indices between the raw stream and this node, first one first."""

    def raw(self, n: int) -> int:
        """The raw sample that must be read again for this node to get its sample `n`."""
        for block_filter in reversed(self.filters):
            n = block_filter.needed_for(n)
        return n


class StreamGraph:
    """The nodes of one stream and how far it has come."""

    __slots__ = ("anchor", "deferred", "ended", "entry", "n1", "nodes", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.nodes: list[Node] = []
        self.entry: list[Node] = []
        self.deferred: list[tuple[Node, Deferred]] = []
        self.anchor = Anchor(0, 0)
        self.n1 = 0
        self.ended = False


def identity(message: Message) -> tuple[str, int]:
    """What a stateful operator takes in: the name of its input stream, and the event time."""
    if isinstance(message, Score):
        return "+".join(message.sensors) + "|" + message.detector, message.t_end_ns
    if isinstance(message, Embedding):
        return "+".join(message.sensors) + "|" + message.detector, message.t_end_ns
    if isinstance(message, Feature):
        return "+".join(message.sensors) + "|" + message.name, message.t_end_ns
    raise TypeError(f"a stateful stage cannot read {type(message).__name__}")
