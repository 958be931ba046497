"""A lane's graph: each stage's operator with the nodes that take its results, stream by stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from operators.base import Stateful, Windowed
from operators.blockfilter import BlockFilter
from operators.order import Order
from pipeline.messages import Anchor, Embedding, Feature, Message, Score, Span, Stream
from pipeline.stages import LaneSettings, Switchable
from pipeline.stages_models import Deferred
from pipeline.topology import Stage


class Node:
    """A stage's operator in this lane, with the nodes that take its results."""

    __slots__ = ("basis", "filters", "key", "operator", "routes", "seen", "stage", "stateful", "tally")

    def __init__(self, stage: Stage, key: str, operator: Windowed | Stateful, basis: str = "") -> None:
        self.stage = stage
        self.key = key
        self.operator = operator
        self.basis = basis
        """Channels, rate and unit that the operator learned from; if they change, it starts again."""
        self.stateful = isinstance(operator, Stateful)
        self.tally = "stage." + stage.name
        self.routes: dict[type, tuple[bool, list[Node], list[Stage]]] = {}
        self.seen: dict[str, Order] = {}
        self.filters: tuple[BlockFilter, ...] = ()
        """What changes sample indices between the raw stream and this node, first one first."""

    def raw(self, n: int) -> int:
        """The raw sample that must be read again for this node to get its sample `n`."""
        for block_filter in reversed(self.filters):
            n = block_filter.needed_for(n)
        return n

    def snapshot(self, operator: Stateful) -> dict[str, Any]:
        """The operator's state, and by input stream the newest message that it includes."""
        return {
            "state": operator.snapshot(),
            "seen": {name: order.t_ns for name, order in self.seen.items()},
            "epochs": {name: order.epochs for name, order in self.seen.items()},
            "basis": self.basis,
        }

    def resume(self, saved: Mapping[str, Any], settings: LaneSettings) -> str:
        """Go on from a snapshot, or say why not: then the operator begins anew, behind what had been heard."""
        try:
            why = self._unfit(saved)
        except Exception as error:  # whatever another version has left there
            why = f"cannot be used: {type(error).__name__}: {error}"
        if why:  # what was restored in part is not used
            made = self.stage.make(settings, None)
            assert made is not None
            self.operator = made
        return why

    def _unfit(self, saved: Mapping[str, Any]) -> str:
        """Take a snapshot over unless it says that it does not fit; earlier versions kept neither epochs nor basis."""
        assert isinstance(self.operator, Stateful)
        for name, t_ns in saved["seen"].items():
            self.seen[name] = Order()
            self.seen[name].restore(int(t_ns), saved.get("epochs", {}).get(name, {}))
        if (basis := saved.get("basis", self.basis)) != self.basis:
            return f"was learned from {basis}, not from {self.basis}"
        if (form := saved["state"].get("schema", 1)) > (own := self.operator.snapshot().get("schema", 1)):
            return f"was written by a newer stethos (schema {form}, this program knows {own})"
        self.operator.restore(saved["state"])
        return ""


class StreamGraph:
    """The nodes of one stream and how far it has come."""

    __slots__ = ("anchor", "before_end", "deferred", "ended", "entry", "n1", "nodes", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.nodes: list[Node] = []
        self.entry: list[Node] = []
        self.deferred: list[tuple[Node, Deferred]] = []
        self.anchor = Anchor(0, 0)
        self.n1 = 0
        self.ended = False
        self.before_end = 0
        """First sample needed just before the end mark; any reread starts here, so that windows cut short by the end
        come out the same."""

    def follow(self, earlier: StreamGraph) -> None:
        """Let nothing be said while windows wait in the same stage of an earlier stream of the sensor."""
        waiting = {node.stage.name: node.operator for node in earlier.nodes if isinstance(node.operator, Switchable)}
        for node in self.nodes:
            before = waiting.get(node.stage.name)
            if before is not None and isinstance(node.operator, Switchable):
                node.operator.follow(before)

    def holding(self) -> Iterator[Node]:
        """The nodes in which windows wait for a fact or for a model's answer, as they may beyond the stream's end."""
        for node in self.nodes:
            operator = node.operator
            waits = isinstance(operator, Switchable) and operator.waiting
            if waits or (isinstance(operator, Deferred) and operator.needs_from()):
                yield node

    def needs_from(self, joined: Mapping[tuple[str, int], int]) -> int | None:
        """First raw sample that an output still to come depends on; None where the end has completed all of them.

        Args:
            joined: what the joins of the machine's streams need.
        """
        shared = max(0, joined.get(self.stream.key, self.n1))
        if self.ended:
            return min(self.before_end, shared) if shared < self.n1 or any(self.holding()) else None
        operators = ((node, node.operator) for node in self.nodes if isinstance(node.operator, Windowed))
        firsts = (max(0, node.raw(n)) for node, operator in operators for n in operator.needs_from().values())
        return min(shared, self.n1, *firsts)


def basis_of(stage: Stage, message: Message, settings: LaneSettings) -> str:
    """What the samples are that a stage's operator learns from, where it does: of the sensors of its first message."""
    names = message.sensors if stage.learns and isinstance(message, Feature) else ()
    sensors = [sensor for sensor in settings.machine.sensors if sensor.name in names]
    return "+".join(f"{s.name}: {s.channels} × {s.rate_hz:g} Hz, {s.unit}" for s in sensors)


def identity(message: Message) -> tuple[str, int, Sequence[Span]]:
    """What a stateful operator takes in: the name of its input stream, the event time, and where it came from."""
    if isinstance(message, Score | Embedding):
        return "+".join(message.sensors) + "|" + message.detector, message.t_end_ns, message.lineage
    if isinstance(message, Feature):
        return "+".join(message.sensors) + "|" + message.name, message.t_end_ns, message.lineage
    raise TypeError(f"a stateful stage cannot read {type(message).__name__}")
