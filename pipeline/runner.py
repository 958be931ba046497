"""The lane: all stages of one machine, fed message by message. All judgement about failure and routing is here.

A lane is deterministic: the same inputs per sensor give the same results, whatever the interleaving of its sensors.
It does no I/O; what is durable, and when, is the shard's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from operators.base import Stateful, Windowed
from operators.blockfilter import BlockFilter
from operators.order import Order
from pipeline.contexts import CONTEXT_KINDS
from pipeline.dead_letters import DeadLetters
from pipeline.errors import BadInput, StethosError
from pipeline.headers import end_ns
from pipeline.messages import (
    Anchor,
    Chunk,
    Context,
    Decision,
    Embedding,
    Feature,
    Image,
    Input,
    Late,
    Mark,
    Message,
    Result,
    Score,
    Stream,
)  # fmt: skip
from pipeline.models_pool import Pool
from pipeline.nodes import Node, StreamGraph, basis_of, identity
from pipeline.reach import Reach
from pipeline.reread import Reread
from pipeline.stages import LaneSettings, Switchable
from pipeline.stages_models import Deferred
from pipeline.streams import Streams
from pipeline.succession import retire
from pipeline.topics import BY_NAME, RAW_OF
from pipeline.topology import STAGES, Stage

SNAPSHOT_VERSION = 1
MAX_CHUNK_BYTES = 900_000


class Lane:
    """All stages of one machine.

    Args:
        settings: the machine's configuration and artefacts.
        clock_ns: if given, the time spent in each stage is measured with it (costs about 1 µs a message and stage).
        pool: where windows wait for those of other lanes before a model runs; what comes of them is fetched with
            `collect`. Without one, models run at once.
    """

    def __init__(
        self, settings: LaneSettings, clock_ns: Callable[[], int] | None = None, pool: Pool | None = None
    ) -> None:
        self.settings = settings = settings.for_lane(pool)
        self.machine = settings.machine.name
        self.event_ns, self.reach = 0, Reach()
        self.counts: Counter[str] = Counter()
        self.spent_ns: Counter[str] = Counter()
        self._letters = DeadLetters(self.machine, self.counts)
        self._clock_ns = clock_ns
        self._nodes: dict[str, Node] = {}  # of machines and conditions
        self._streams = Streams(self._nodes)
        self._reread = Reread()
        self._restored: dict[str, Any] = {}
        self._input: Input | None = None
        self._decisions: list[Decision] = []
        self._known: set[str] = set()
        self._keyed_stages = [s for s in STAGES if s.scope != "stream" and s.make(settings, None) is not None]

    # intake ------------------------------------------------------------------------------------------------------

    def process(self, message: Input) -> list[Result]:
        """Take one input in; returns what follows from it. Never raises for what the message contains."""
        out: list[Result] = []
        self._input = message
        if isinstance(message, Decision):
            self._decide(message, out)
        elif isinstance(message, Context):
            self.counts["in.context"] += 1
            if not self.settings.contexts.add(message):
                self.counts["late.context"] += 1
            self._release(out)
        else:
            self._take(message, out)
        self._input = None
        return out

    def collect(self) -> list[Result]:
        """What follows from the windows that models have answered since."""
        out: list[Result] = []
        for graph in self._streams:
            for node, operator in graph.deferred:
                if operator.answered:
                    # what fails now has no input of its own: the place in the stream stands for it
                    self._input = Mark(graph.stream, graph.anchor, graph.n1, graph.n1, "gap")
                    self._let_go(node, operator.release, out)
        self._streams.forget()
        self._input = None
        return out

    def _take(self, message: Chunk | Image | Mark, out: list[Result]) -> None:
        stream = message.stream
        self.counts["in." + stream.modality] += 1
        if message.nbytes > MAX_CHUNK_BYTES:
            self._dead(message, "too_large", f"{message.nbytes} bytes, the limit is {MAX_CHUNK_BYTES}", out)
            return
        if end_ns(message) is None:
            self._dead(message, "range", f"epoch {stream.epoch}, samples {message.n0} to {message.n1}", out)
            return
        if not isinstance(message, Mark) and isinstance(message, Image) != (stream.modality == "frames"):
            self._dead(message, "modality", f"no {type(message).__name__} of modality {stream.modality}", out)
            return
        wanted = self._reread.cut(message)
        if not wanted:
            self.counts["again"] += 1
        for part in wanted:
            self._hear(part, out)

    def _hear(self, message: Chunk | Image | Mark, out: list[Result]) -> None:
        stream = message.stream
        graph = self._streams.of(stream.sensor)
        if graph is None or graph.stream is not stream:
            graph = self._graph(message, graph, out)
            if graph is None:
                return
        if isinstance(message, Chunk):
            shape = message.samples.shape
            if len(shape) != 2 or shape[1] != stream.channels or message.samples.dtype.str != stream.dtype:
                got = f"{message.samples.dtype.str} of shape {shape}"
                self._dead(message, "wrong_shape", f"samples are {got}, the stream says {stream.dtype}", out)
                return
        graph.anchor = message.anchor
        graph.n1 = max(graph.n1, message.n1)
        jumped = self.counts["late.clock_jump"]
        if isinstance(message, Mark) and message.reason == "end" and not graph.ended:
            self._end(graph, message, out)
        else:
            for node in graph.entry:
                self._run(node, message, out)
        if stream.sensor == self.settings.machine.measures:  # others wait for what it states
            self._release(out)
        # decisions are dated by it: a time that nothing was judged at must not put them off
        if self.counts["late.clock_jump"] == jumped:
            self.event_ns = max(self.event_ns, message.t1_ns)
            self.reach.take(*stream.key, message.t1_ns)

    def _graph(self, message: Chunk | Image | Mark, graph: StreamGraph | None, out: list[Result]) -> StreamGraph | None:
        stream = message.stream
        if graph is not None and stream == graph.stream:
            return graph
        if graph is not None and 0 <= stream.epoch < graph.stream.epoch:  # -1: given up after a restart
            late = self._letters.late(Late(stream, message.anchor, message.n0, message.n1, "late"))
            out += [] if late is None else [late]
            return None
        if graph is not None and stream.epoch == graph.stream.epoch:
            self._dead(message, "stream_changed", f"epoch {stream.epoch} said {graph.stream}, now {stream}", out)
            return None
        wrong = self.settings.mismatch(stream)
        if wrong is not None:
            self._dead(message, wrong.reason, wrong.detail, out)
            return None
        if graph is not None and not graph.ended:
            self._end(graph, Mark(graph.stream, graph.anchor, graph.n1, graph.n1, "end"), out)
        return self._open(stream, out)

    def _open(self, stream: Stream, out: list[Result]) -> StreamGraph:
        """Build the stream's part of the graph; later stages find their readers by topic."""
        graph = StreamGraph(stream)
        raw = RAW_OF[stream.modality]
        writers: list[Node] = []
        for stage in STAGES:
            if stage.scope != "stream" or stream.modality not in stage.modalities:
                continue
            operator = self._make(stage, stream, out)
            if operator is None:
                continue
            node = Node(stage, f"{stage.name}|{stream.sensor}|{stream.epoch}", operator)
            self._wire(node)
            if raw in stage.reads:
                graph.entry.append(node)
            if isinstance(operator, Deferred):
                graph.deferred.append((node, operator))
            for writer in writers:
                self._connect(writer, node)
            writers.append(node)
        graph.nodes = writers
        self._streams.add(graph)
        if isinstance(self._input, Chunk | Image | Mark):
            graph.anchor, graph.n1 = self._input.anchor, self._input.n0
        for node in writers:
            self._switch(node, self._decisions, out)
        return graph

    def _make(self, stage: Stage, stream: Stream | None, out: list[Result]) -> Windowed | Stateful | None:
        """A stage's operator; one that cannot be had for this stream (a baseline of another rate) is a dead letter."""
        try:
            return stage.make(self.settings, stream)
        except Exception as error:
            assert self._input is not None
            self._dead(self._input, "stage_unfit", f"{stage.name}: {type(error).__name__}: {error}", out)
            return None

    def _wire(self, node: Node) -> None:
        """Say for each type of result whether it leaves the lane and which keyed stages take it."""
        for name in node.stage.writes:
            topic = BY_NAME[name]
            keyed = [s for s in self._keyed_stages if name in s.reads]
            for kind in topic.carries:
                node.routes[kind] = (topic.kind == "out", [], keyed)

    def _connect(self, writer: Node, reader: Node) -> None:
        for name in writer.stage.writes:
            if name in reader.stage.reads:
                for kind in BY_NAME[name].carries:
                    writer.routes[kind][1].append(reader)
                own = (writer.operator,) if isinstance(writer.operator, BlockFilter) else ()
                reader.filters = writer.filters + own

    # running -----------------------------------------------------------------------------------------------------

    def _run(self, node: Node, message: Message, out: list[Result]) -> None:
        order = None
        if node.stateful:
            name, t_ns, lineage = identity(message)
            if not (order := node.seen.get(name) or Order()).behind(t_ns, lineage):
                return  # the snapshot that this operator was restored from includes the message
        try:
            if self._clock_ns is None:
                produced = tuple(node.operator.process(message))
            else:
                began = self._clock_ns()
                produced = tuple(node.operator.process(message))
                self.spent_ns[node.stage.name] += self._clock_ns() - began
        except Exception as error:  # the one place where it is caught: whatever an operator raises is a dead letter
            self._fail(node, error, out)
            return
        if order is not None:
            order.take(t_ns, lineage)
            node.seen[name] = order
        self.counts[node.tally] += 1
        if produced:
            self._route(node, produced, out)

    def _let_go(self, node: Node, held: Callable[[], Iterable[Message]], out: list[Result]) -> None:
        """Route what an operator held back until now."""
        try:
            produced = tuple(held())
        except Exception as error:  # as in `_run`
            self._fail(node, error, out)
            return
        if produced:
            self._route(node, produced, out)

    def _route(self, node: Node, produced: Iterable[Message], out: list[Result]) -> None:
        for item in produced:
            leaves, children, keyed = node.routes[type(item)]
            if leaves:
                told = self._letters.told(item)
                if told is None:
                    continue
                out.append(told)  # type: ignore[arg-type]
            for child in children:
                self._run(child, item, out)
            for stage in keyed:
                self._run(self._keyed(stage, item, out), item, out)

    def _keyed(self, stage: Stage, item: Message, out: list[Result]) -> Node:
        key = stage.name
        if stage.scope == "condition":
            assert isinstance(item, Score | Feature | Embedding)
            what = item.detector if isinstance(item, Score) else item.name if isinstance(item, Feature) else ""
            key = f"{stage.name}|{'+'.join(item.sensors)}|{what}"
        node = self._nodes.get(key)
        if node is None:
            operator = stage.make(self.settings, None)
            assert operator is not None
            node = Node(stage, key, operator, basis_of(stage, item, self.settings))
            self._wire(node)
            self._nodes[key] = node
            if (saved := self._restored.pop(key, None)) is not None and (why := node.resume(saved, self.settings)):
                out += self._letters.unfit(key, why, saved)
        return node

    def _fail(self, node: Node, error: Exception, out: list[Result]) -> None:
        """An operator raised: keep the input as a dead letter and start the operator afresh."""
        source = self._input
        assert source is not None
        self._dead(source, "operator_error", f"{node.stage.name}: {type(error).__name__}: {error}", out)
        if isinstance(node.operator, Deferred):
            return  # it keeps what waits for a model
        fresh = self._make(node.stage, getattr(source, "stream", None) if node.stage.scope == "stream" else None, out)
        if fresh is not None:
            if isinstance(fresh, Switchable) and isinstance(node.operator, Switchable):
                fresh.inherit(node.operator)
            node.operator = fresh
            self._switch(node, self._decisions, out)

    def _dead(self, message: Input, reason: str, error: str, out: list[Result]) -> None:
        letter = self._letters.letter(message, reason, error)
        out += [] if letter is None else [letter]

    def _end(self, graph: StreamGraph, end: Mark, out: list[Result]) -> None:
        graph.before_end = graph.needs_from({}) or 0
        for node in graph.entry:
            self._run(node, end, out)
        graph.ended = True
        for node in graph.nodes:
            if isinstance(node.operator, Windowed):
                self._let_go(node, node.operator.flush, out)

    # decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, decision: Decision, out: list[Result]) -> None:
        if decision.id in self._known:
            return
        self._known.add(decision.id)
        self.counts["in.decision"] += 1
        if decision.kind == "model" and self.settings.models is not None:
            try:  # a package that is gone ends the run: nothing may be answered by another one
                self.settings.models.decide(decision)
            except BadInput as error:  # the configuration has changed since: what it says stays in force
                self._dead(decision, "decision_unfit", str(error), out)
        if decision.kind in CONTEXT_KINDS:  # there may be many of them, and no stream asks
            self.settings.contexts.decide(decision)
        else:
            self._decisions.append(decision)
            for node in (node for graph in self._streams for node in graph.nodes):
                self._switch(node, [decision], out)
        self._release(out)

    def _switch(self, node: Node, decisions: Iterable[Decision], out: list[Result]) -> None:
        if not isinstance(operator := node.operator, Switchable):
            return
        for decision in decisions:
            try:
                operator.switch(decision)
            except StethosError as error:  # the version before stays in force
                self._dead(decision, "decision_unfit", f"{node.stage.name}: {error}", out)

    def _release(self, out: list[Result]) -> None:
        """Let go of what waited for a context; first of the sensor that states one itself."""
        for graph in sorted(self._streams, key=lambda graph: graph.stream.sensor != self.settings.machine.measures):
            for node in graph.nodes:
                if isinstance(node.operator, Switchable) and node.operator.waiting:
                    self._let_go(node, node.operator.release, out)
        self._streams.forget()

    def starving(self) -> set[str]:
        """Contexts that windows wait for."""
        return self._streams.starving()

    # durability --------------------------------------------------------------------------------------------------

    def needs_from(self) -> dict[tuple[str, int], int]:
        """By (sensor, epoch), the first sample still needed; of streams that are not named, none is."""
        return self._streams.needs_from()

    def positions(self) -> list[tuple[Stream, Anchor, int, bool]]:
        """For each sensor its newest stream, anchor, first sample still needed, and whether the stream has ended."""
        return self._streams.positions()

    def snapshot(self) -> bytes:
        """The stateful operators' states, with the event times that they include."""
        own = {k: n.snapshot(n.operator) for k, n in self._nodes.items() if isinstance(n.operator, Stateful)}
        needed, streams = self.needs_from(), self._streams
        used = [g.anchor.at(needed[g.stream.key], g.stream.rate) for g in streams if g.stream.key in needed]
        self.settings.contexts.trim(min(used + self._reread.oldest_ns, default=0))  # it must be judged as it was
        body = {
            "version": SNAPSHOT_VERSION, "event_ns": self.event_ns, "reach": self.reach.saved(),
            "contexts": self.settings.contexts.snapshot(), "streams": self._reread.saved(streams, needed),
            "states": {**self._restored, **own},
        }  # fmt: skip
        saved = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        self._decisions = retire(self.settings, self._decisions, saved)
        return saved

    def restore(self, snapshot: bytes) -> None:
        """Take over what a lane of the same machine had learned. Call before the first input."""
        body: Mapping[str, Any] = orjson.loads(snapshot)
        self.event_ns = int(body["event_ns"])
        self.reach.restore(body)
        self._restored = dict(body["states"])
        self.settings.contexts.restore(body.get("contexts", {}))
        reread = Reread()
        for end in reread.restore(body.get("streams", ()), {s.name for s in self.settings.machine.sensors}):
            self.process(end)  # what follows was said before the snapshot
        self._reread = reread
        self.counts.clear()
