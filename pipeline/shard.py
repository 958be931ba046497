"""The shard: lanes of some machines in one process, and what of their work is durable when.

Order on disk: results (within 50 ms, alarms at once), then snapshots, then positions (every second); where the shard
records, a position moves only once its samples are on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from models.anomaly.baseline import Baseline
from models.anomaly.packing import pack
from pipeline import codec
from pipeline.clock import Clock
from pipeline.context_timeout import ContextTimeout
from pipeline.dead_letters import MAX_DEAD_LETTERS
from pipeline.errors import BadInput, DecodeError, StateError, StethosError
from pipeline.headers import Headers
from pipeline.messages import Alarm, DeadLetter, Decision, Input, Record, Result, machine_of
from pipeline.models_pool import Pool
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from pipeline.state import Position, Store
from pipeline.state_commands import Command
from pipeline.succession import past_of
from pipeline.threads import one_thread

RESULTS_EVERY_NS = 50_000_000
CHECKPOINT_EVERY_NS = 1_000_000_000
AGE_STEP_NS = 5_000_000
AGE_BUCKETS = 400
"""Scores' ages when they became durable, against their window's end: 5 ms steps up to two seconds."""
COMMANDS_EVERY_NS = 200_000_000
"""How often a shard with models looks for commands, so that a rollback takes less than a second."""
STALE_COMMAND_NS = 24 * 3600 * 1_000_000_000
"""A command that waits for so long belongs to another day: who asked has been told that nobody answered."""
PATIENCE_NS = 60_000_000_000
"""How long results are kept in memory while the state cannot be written; then the service manager starts us anew."""
DERIVED = frozenset({"score", "alarm", "health"})
"""Results that a recording shows to viewers beside the raw data."""


class Tap(Protocol):
    """What the shard shows every input to before it is used: the recording."""

    def write(self, message: Input, now_ns: int) -> None:
        """Keep one input."""
        ...

    def write_result(self, record: Record, now_ns: int = 0) -> None:
        """Add a result for viewers; replay ignores it."""
        ...

    def sync(self) -> object:
        """Bring everything to disk."""
        ...

    def rotate_if_due(self, now_ns: int, snapshots: Mapping[str, bytes]) -> bool:
        """Begin a new file if it is time for one."""
        ...

    def carry(self, attachments: Mapping[str, bytes], now_ns: int, snapshots: Mapping[str, bytes]) -> None:
        """Hold these too from now on: a decision is about to need them."""
        ...

    def close(self) -> object:
        """Finish the file."""
        ...


class Shard:
    """Runs lanes and keeps their durable order. Its process takes matrix products with one thread from then on.

    Args:
        name: of the shard, for metrics.
        machines: the lanes' settings.
        store: this process's connection to the durable state.
        clock: for the commit rhythm.
        tap: the recording, if one is kept.
        measure: whether the time spent per stage is measured.
        decides: whether it gives up facts that stay away; a faithful replay has those decisions from its recording.
    """

    def __init__(
        self,
        name: str,
        machines: Sequence[LaneSettings],
        store: Store,
        clock: Clock,
        tap: Tap | None = None,
        measure: Callable[[], int] | None = None,
        decides: bool = True,
    ) -> None:
        one_thread()  # before the lanes make their matrices
        self.name = name
        shelf = next((m.models.shelf for m in machines if m.models is not None), None)
        self._pool = None if shelf is None else Pool(shelf, deferred=True)
        self.lanes = {m.machine.name: Lane(m, measure, self._pool) for m in machines}
        self.counts: dict[str, int] = {}
        self.ages = [0] * (AGE_BUCKETS + 1)
        self._store = store
        self._clock = clock
        self._tap = tap
        self._pending: list[Record] = []
        self._oldest_ns = 0
        self._failing_ns = 0
        self._checkpoint_ns = self._asked_ns = clock.now_ns()
        self._timeout = ContextTimeout(decides)
        snapshots = store.snapshots()
        for machine, lane in self.lanes.items():
            if machine in snapshots:
                lane.restore(snapshots[machine])
        decisions = store.decisions()
        past = past_of(machines, decisions, snapshots).decisions
        for decision in decisions:
            if (decision.machine, decision.id) not in past:
                self._give(decision)

    def take(self, message: Input) -> None:
        """One input, to its lane. Commits at once what an alarm cannot wait for."""
        now = self._clock.now_ns()
        machine = machine_of(message)
        lane = self.lanes.get(machine)
        if lane is None:
            error = DecodeError("unknown_machine", f"the configuration has no machine '{machine}'")
            try:
                headers, value = codec.encode(message)
            except BadInput:
                headers, value = [], b""
            self.refuse(codec.topic_of(message), headers, bytes(value), error)
            return
        if self._tap is not None:
            self._record(self._tap.write, message, now)
        if isinstance(message, Decision):  # made elsewhere, by the run that is replayed: the journal has it too
            self._store.decide(message)
        self._keep(lane.process(message), now)
        self._collect(now)

    def warm(self, message: Input) -> None:
        """Let a lane remember a message whose results are known already: the preroll of a recording."""
        machine = machine_of(message)
        if machine in self.lanes:
            self.lanes[machine].process(message)
            if self._pool is not None:
                self._pool.poll(self._clock.now_ns(), force=True)
                self.lanes[machine].collect()

    def _collect(self, now: int, force: bool = False) -> None:
        """Let the models run that are due, and take what follows from their answers."""
        if self._pool is not None:
            for machine in self._pool.poll(now, force):
                self._keep(self.lanes[machine].collect(), now)

    def _record(self, write: Callable[[Any, int], None], what: Input | Record, now: int) -> None:
        """A recording that fails is counted and tried anew at the next rotation; the machines are watched on."""
        try:
            write(what, now)
        except BadInput:  # not what its stream says: the lane makes a dead letter of it
            self._count("recording.refused")
        except (StethosError, OSError):
            self._count("recording.failed")

    def refuse(self, topic: str, headers: Headers, value: bytes, error: DecodeError) -> None:
        """Keep a message that could not be decoded as a dead letter."""
        self._count("dead." + error.reason)
        if self.counts["dead." + error.reason] > MAX_DEAD_LETTERS:
            return
        machine = dict(headers).get("ce_source", b"").decode("utf-8", "replace").split("/")[-2:-1]
        letter = DeadLetter(
            topic, machine[0] if machine else "", error.reason, str(error), tuple(headers), bytes(value)
        )
        self._keep([letter], self._clock.now_ns())

    def _give(self, decision: Decision) -> None:
        for machine, lane in self.lanes.items():
            if decision.machine in {machine, "*"}:
                self._keep(lane.process(decision), self._clock.now_ns())

    def _keep(self, results: Sequence[Result], now: int) -> None:
        if not results:
            return
        if not self._pending:
            self._oldest_ns = now
        alarmed: set[str] = set()
        for result in results:
            record = record_of(result)
            self._pending.append(record)
            if isinstance(result, Alarm):
                alarmed.add(result.machine)
            if self._tap is not None and record.topic in DERIVED:
                self._record(self._tap.write_result, record, now)
        if alarmed:  # with what clears it: a device does not say again what raised it
            self._sync()
            self._commit({machine: self.lanes[machine].snapshot() for machine in alarmed}, urgent=True)

    def tick(self) -> None:
        """Commit what is due. Called between slices, at least every few tens of milliseconds."""
        now = self._clock.now_ns()
        self._collect(now)
        if now - self._checkpoint_ns >= CHECKPOINT_EVERY_NS:
            self.checkpoint()
        elif now - self._asked_ns >= COMMANDS_EVERY_NS and self._pool is not None:
            self._ask(now)
        elif self._pending and now - self._oldest_ns >= RESULTS_EVERY_NS:
            self._commit()

    def _commit(
        self, snapshots: Mapping[str, bytes] | None = None, positions: Sequence[Position] = (), urgent: bool = False
    ) -> bool:
        """Make what is pending durable. While the state cannot be written it stays pending, for a while.

        Raises:
            StateError: for `PATIENCE_NS` nothing could be written.
        """
        now = self._clock.now_ns()
        try:
            self._store.commit(self._pending, snapshots, positions, urgent)
        except StateError:
            self._count("state.failed")
            self._failing_ns = self._failing_ns or now
            if now - self._failing_ns >= PATIENCE_NS:
                raise
            self._oldest_ns = now
            return False
        self._failing_ns = 0
        now = self._clock.now_ns()
        for record in self._pending:  # how old, in event time, the scores are that have just become durable
            if record.topic == "score":
                self.ages[min(AGE_BUCKETS, max(0, (now - record.t_ns) // AGE_STEP_NS))] += 1
        self._pending = []
        return True

    def checkpoint(self) -> None:
        """Results, snapshots, positions; then the recording's rotation, commands and metrics."""
        now = self._clock.now_ns()
        self._checkpoint_ns = now
        self._collect(now, force=True)
        recorded = self._sync()
        snapshots = {machine: lane.snapshot() for machine, lane in self.lanes.items()}
        durable = self._commit(snapshots, self.positions() if recorded else [])
        if self._tap is not None:  # also after a failure: a new file may succeed where the old one did not
            try:
                self._tap.rotate_if_due(now, snapshots)
            except (StethosError, OSError):
                self._count("recording.failed")
        if not durable:
            return
        self._ask(now)
        try:
            for lane, decision in self._timeout.due(self.lanes.values(), now):
                self._decide(lane, decision)
            self._store.put_metrics(self.name, self.metrics())
        except StateError:  # the same again at the next checkpoint
            self._count("state.failed")

    def _sync(self) -> bool:
        if self._tap is None:
            return True
        try:
            self._tap.sync()
        except (StethosError, OSError):
            self._count("recording.failed")
            return False
        return True

    def positions(self) -> list[Position]:
        """The first sample still needed of every stream of every lane."""
        return [
            Position(machine, stream.sensor, stream.epoch, n, anchor, ended)
            for machine, lane in self.lanes.items()
            for stream, anchor, n, ended in lane.positions()
            if stream.epoch >= 0  # a sensor that has not been heard of has no place to resume from
        ]

    # commands ------------------------------------------------------------------------------------------------------

    def _ask(self, now: int) -> None:
        """Look for commands and obey them."""
        self._asked_ns = now
        try:
            for command in self._store.open_commands():
                self._obey(command)
        except StateError:  # the same again at the next look
            self._count("state.failed")

    def _obey(self, command: Command) -> None:
        """Turn a command for one of our machines into a decision: checked first, durable, then in force."""
        lane = self.lanes.get(command.machine)
        if lane is None:  # another shard's, or nobody's: who knows all machines answers
            return
        if command.asked_ns is not None and self._clock.now_ns() - command.asked_ns > STALE_COMMAND_NS:
            self._store.answer(command.seq, error="no engine had this machine for a day; ask once more")
            return
        try:
            body = lane.settings.verify(command.kind, command.body)
        except StethosError as error:
            self._store.answer(command.seq, error=str(error))
            return
        except Exception as error:  # of what was written by hand or by another version, or of the files that it names
            self._store.answer(command.seq, error=f"{type(error).__name__}: {error}")
            return
        if command.kind == "baseline":
            self._carry(lane.settings.artefacts[body["baseline"]])
        ident, body = f"{lane.machine}|{command.kind}|{command.seq}", {**body, "since": lane.reach.saved()}
        decision = Decision(lane.machine, ident, lane.reach.newest_ns, command.kind, body)
        self._decide(lane, decision)
        self._store.answer(command.seq, decision=decision.id)

    def _carry(self, baseline: Baseline) -> None:
        """Let the recording hold what a replay of the coming decision needs."""
        if self._tap is None:
            return
        self._collect(self._clock.now_ns(), force=True)
        files = {f"baseline/{baseline.settings}/{name}": data for name, data in pack(baseline).items()}
        try:
            snapshots = {machine: lane.snapshot() for machine, lane in self.lanes.items()}
            self._tap.carry(files, self._clock.now_ns(), snapshots)
        except (StethosError, OSError):
            self._count("recording.failed")

    def _decide(self, lane: Lane, decision: Decision) -> None:
        """Durable first, then recorded, then in force for windows that end after its time."""
        self._store.decide(decision)
        if self._tap is not None:
            self._record(self._tap.write, decision, self._clock.now_ns())
        self._keep(lane.process(decision), self._clock.now_ns())

    # metrics -------------------------------------------------------------------------------------------------------

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def metrics(self) -> dict[str, Any]:
        """Counters of the shard and of each lane, as integers."""
        return {
            "counts": {**self.counts, **(self._pool.counts if self._pool is not None else {})},
            "score_ages": self.ages,
            "machines": {
                machine: {"counts": dict(lane.counts), "event_ns": lane.event_ns, "spent_ns": dict(lane.spent_ns)}
                for machine, lane in self.lanes.items()
            },
        }

    def close(self) -> None:
        """A last checkpoint. No window is flushed: what is half done is done again after the next start."""
        self.checkpoint()
        if self._tap is not None:
            try:
                self._tap.close()
            except (StethosError, OSError):
                self._count("recording.failed")
        if self._failing_ns:
            raise StateError(f"{self._store.path}: cannot be written; the last results come again at the next start")
