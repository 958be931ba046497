"""A worker: a Faust app whose one agent feeds the lanes of the partitions that the group gave it.

What the agent may rely on, and what it must not do, stands in docs/decisions/10-kafka-engine.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from pipeline.clock import Clock
from pipeline.context_timeout import ContextTimeout
from pipeline.errors import ConfigError, StateError
from pipeline.kafka import checks, faust_flow, trace
from pipeline.kafka.absence import Absence
from pipeline.kafka.batches import Batches
from pipeline.kafka.client import Client
from pipeline.kafka.commands import Commands
from pipeline.kafka.continuity import Continuity
from pipeline.kafka.faust_app import commit, committed, highwater, make_app, seek
from pipeline.kafka.inbox import Inbox
from pipeline.kafka.intake import Taken, take_in
from pipeline.kafka.logs import LogReader
from pipeline.kafka.machines import Machines, Purpose
from pipeline.kafka.outbox import REFUSED, Outbox
from pipeline.kafka.ownership import Found, Ownership
from pipeline.kafka.pacing import Pacing
from pipeline.kafka.part import UNKNOWN_BEGIN, Part
from pipeline.kafka.records import Claim
from pipeline.kafka.topics import INPUTS, STATE
from pipeline.messages import Chunk, Image, Mark
from pipeline.stages import LaneSettings

log = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 1.0
TICK_S = 0.01
BEAT_S = 0.25
SLICE_S = 0.005
INBOX_BYTES = 48_000_000


class Worker:
    """One process of the engine.

    Args:
        machines: all lanes' settings; which of them run here is the group's choice.
        client: how to reach the brokers.
        clock: the host's, for the rhythm of writing.
        name: of this worker, for logs, metrics and claims.
        purpose: only "live" are sensors expected to be heard of, and only "replay" is no fact given up.
    """

    def __init__(
        self, machines: Sequence[LaneSettings], client: Client, clock: Clock, name: str, purpose: Purpose = "live"
    ) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.parts: dict[int, Part] = {}
        self.beat_s = self.checkpoint_s = self.commit_s = time.monotonic()
        self.client = client
        self.clock = clock
        self._rows = {client.topic(name): name for name in INPUTS}
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._serial = 0
        self._claims: dict[int, tuple[Claim, Found]] = {}
        self._assignment: set[int] | None = None  # partitions; None where none can be worked on
        self._owning: asyncio.Task[None] | None = None
        self._checkpointing = asyncio.Lock()
        self._feeding = asyncio.Lock()
        self.outbox = Outbox(client, self._stop.is_set)
        self._batches = Batches(machines, self.outbox, clock)
        self._machines = Machines(machines, client, self._batches.pool, purpose)
        self._reader = LogReader(client)
        self._ownership = Ownership(client, self._reader, self.outbox, name, [lane.machine.name for lane in machines])
        self._commands = Commands(client, self.outbox, self._ownership)
        self._pacing = Pacing()
        self._timeout = ContextTimeout(purpose != "replay")
        self._inbox = Inbox(INBOX_BYTES)
        self._continuity = Continuity(self._rows, LogReader(client), self.counts, lambda *at: seek(self.app, *at))
        watch = Absence(client, self._reader, self.outbox, clock, self.parts, self._ours, self.counts)
        self._absence = watch if purpose == "live" else None
        self.app, self._kept = make_app(client, name, list(self._rows), self._inbox.put, self._assigned, self._revoked)

    @property
    def generation(self) -> int:
        """Of the group, as this worker knows it."""
        return int(self.app.consumer_generation_id)

    @property
    def ready(self) -> bool:
        """Whether every partition assigned to this worker is in its hands."""
        return self.parts.keys() == self._assignment and self._owning is not None and self._owning.done()

    def stop(self) -> None:
        """Ask the worker to end gracefully."""
        self._stop.set()
        self._changed.set()

    async def run(self, for_s: float | None = None) -> int:
        """Work until `stop` is called or the time is up; returns the exit code, 3 when Faust gave up.

        Raises:
            ConfigError: topics, this host's clock or the worker's name are not as they must be.
            StateError: a newer version is at work, or a baseline in force is gone.
        """
        checks.libraries()
        try:
            await self._ownership.may_join()
        except BaseException:
            await self._reader.close()
            raise
        self.app.finalize()
        faust_flow.before_start(self.app)
        await self.app.start()
        checks.assignor(self.app)
        faust_flow.after_start(self.app)
        loops = [self._work(), self._flushes(), self._checkpoints(), self._beats()]
        loops += [self._absence.watch()] if self._absence is not None else []
        tasks = [asyncio.create_task(loop) for loop in loops]
        until = time.monotonic() + for_s if for_s is not None else None
        try:
            while not self._stop.is_set() and not self._failed(tasks):
                if until is not None and time.monotonic() >= until:
                    break
                await asyncio.sleep(0.1)
            code = 3 if self._failed(tasks) or self.counts["failed"] else 0
        finally:
            await self._close(tasks)
        return code

    def _failed(self, tasks: Sequence[asyncio.Task[None]]) -> bool:
        for task in (*tasks, self._owning):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, ConfigError | StateError):
                    raise error
                log.error("the worker cannot go on: %r", error, exc_info=error)
                return True
        return bool(self.app.crashed or self.app.should_stop)

    async def _close(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """A last checkpoint, so that the next owner begins close to here; then leave the group."""
        self._stop.set()
        for task in tasks:
            task.cancel()
        if self._owning is not None:
            self._owning.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self.app.crashed:
            try:
                await asyncio.wait_for(self.checkpoint(), 10)
            except (TimeoutError, asyncio.CancelledError, ConfigError):
                log.warning("no last checkpoint: the brokers do not answer, or refuse")
        try:
            await asyncio.wait_for(self.app.stop(), 20)
        except TimeoutError:
            log.warning("faust did not stop in time")
        await self.outbox.close()
        await self._reader.close()
        await self._continuity.close()
        log.info("ended: %s, written: %s", dict(self.counts), dict(self.outbox.counts))

    # partitions --------------------------------------------------------------------------------------------------

    def _revoked(self) -> None:
        self.counts["rebalances"] += 1

    def _assigned(self, assigned: set[TP]) -> None:
        generation = self.generation
        sets = {row: {tp.partition for tp in assigned if self._rows.get(tp.topic) == row} for row in INPUTS}
        numbers: set[int] = set().union(*sets.values())
        scattered = any(part != numbers for part in sets.values())
        if scattered:
            log.error("the group scattered machines over workers, nothing is done: %s", sets)
            numbers = set()
        for number in list(self.parts):
            if number not in numbers:
                self.outbox.drop(self.parts.pop(number))
        for part in self.parts.values():
            part.forget()
        self._continuity.begin()
        if self._owning is not None:
            self._owning.cancel()
        self._assignment = None if scattered else numbers
        owning = checks.watch_topics(self.client) if scattered else self._own(generation, sorted(numbers))
        self._owning = asyncio.create_task(owning, name=f"own-{generation}")

    async def _own(self, generation: int, numbers: list[int]) -> None:
        began = time.monotonic()
        try:
            taken = await self._ownership.take(generation, numbers, lambda: self.generation == generation)
            await self.outbox.flush()
            for number, (claim, found) in taken.items():
                part = await self._take_over(number, generation, claim, found)
                if self.generation != generation:
                    return
                self.parts[number] = part
                self._claims[number] = (claim, found)
        except (asyncio.CancelledError, ConfigError, StateError):
            raise
        except Exception:
            log.exception("partitions could not be taken over; the worker ends so that another one may")
            self.stop()
            return
        finally:
            self._changed.set()
        self.counts["owned"] = len(self.parts)
        log.info("generation %d: %d partitions in %.2f s", generation, len(taken), time.monotonic() - began)

    async def _take_over(self, number: int, generation: int, claim: Claim, found: Found) -> Part:
        part, before = self.parts.get(number), found.previous
        if part is not None and before is not None and before.worker == self.name and before.epoch == part.epoch:
            part.renew(claim.epoch)
            self.outbox.add(part, part.catch_up(found.decisions), self.clock.now_ns())
            await self.outbox.flush()
            self.counts["kept"] += 1
        else:
            if part is not None:
                self.outbox.drop(part)
            part = Part(number, generation, claim.epoch, self._machines.lanes(number, found), self.name, self.counts)
            part.catch_up(found.decisions)
            self.counts["rebuilt"] += 1
        part.saved = {machine: lane.snapshot() for machine, lane in part.lanes.items()}
        kept = {**found.snapshots, **part.saved}  # also of machines that are not configured for now
        for machine in await self._ownership.announce(claim, kept, found.outdated):
            part.saved.pop(machine, None)
        offsets = await self._reader.committed(list(self._rows), number)
        part.resume(generation, {row: offsets.get(topic, UNKNOWN_BEGIN) for topic, row in self._rows.items()})
        return part

    def _ours(self, part: Part) -> bool:
        """Whether a partition is in our hands under the present generation."""
        return self.parts.get(part.number) is part and part.generation == self.generation and not part.lost

    # events ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Take what the agent put into the inbox, a slice at a time.

        The agent only hands on: where Faust's own queue fills up, the fetcher sleeps for a second.
        """
        slice_end = time.monotonic() + SLICE_S
        while True:
            await self._event(await self._inbox.get())
            if time.monotonic() >= slice_end:
                await asyncio.sleep(0)
                slice_end = time.monotonic() + SLICE_S

    async def _event(self, event: Any) -> None:
        """One message; whatever happens, it is not acknowledged before it is used."""
        try:
            if (part := await self._part_of(event.message)) is not None:
                async with self._feeding:
                    if self._ours(part) and await self._continuity.holds(part, event.message):
                        await self._process(part, event)
        except (asyncio.CancelledError, ConfigError):
            raise
        except Exception:
            self.counts["failed"] += 1
            log.exception("a message could not be handled; the worker ends and the message comes again")
            self.stop()

    async def _part_of(self, message: Any) -> Part | None:
        """The partition, once it is ours under the message's generation; None when it has moved."""
        while not self._stop.is_set():
            if message.generation_id != self.generation:
                self.counts["stale"] += 1
                return None
            part = self.parts.get(message.partition)
            if part is not None and part.generation == message.generation_id:
                return part
            self._changed.clear()
            await self._changed.wait()
        return None

    async def _process(self, part: Part, event: Any) -> None:
        message = event.message
        row = self._rows[message.topic]
        taken: Taken = take_in(row, message, part)
        self._serial += 1
        part.hold(row, message.offset, self._serial, taken.message, taken.machine)
        if message.offset < part.next.get(row, 0):
            self.counts["redelivered"] += 1
            return  # these lanes know it from before the rebalance
        part.next[row] = message.offset + 1
        results = taken.results
        if taken.command is not None:
            results = await self._commands.obey(part, taken.command, *self._claims[part.number])
        elif taken.message is not None:
            results = part.lanes[taken.machine].process(taken.message)
            part.heard(row, taken.message.t1_ns, results, self.clock.now_ns())
            if self._absence is not None and isinstance(taken.message, Chunk | Image | Mark):
                self._absence.heard(part, taken.message, taken.sent_ns)
        part.forget_samples(row, results)
        self.counts["taken"] += 1
        if results:
            self.outbox.add(part, results, self.clock.now_ns(), trace.of(message.headers))
        self._batches.collect(self.parts.values())

    # durability --------------------------------------------------------------------------------------------------

    async def _beats(self) -> None:
        while True:
            self.beat_s = time.monotonic()
            await asyncio.sleep(BEAT_S)

    async def _flushes(self) -> None:
        """Results on their way; beside the checkpoints, whose commits wait for Faust's fetcher."""
        while True:
            self._batches.collect(self.parts.values())
            if self.outbox.due(self.clock.now_ns()):
                await self.outbox.flush()
            if self.outbox.waiting or self._batches.pool is not None:
                await asyncio.sleep(TICK_S)
            else:
                await self.outbox.some(BEAT_S)

    async def _checkpoints(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            await self.checkpoint()
            await self._mind_contexts()
            await self._chase()
            self._pacing.pace(self.app.consumer, self.parts.values(), self.client.topic)

    async def _chase(self) -> None:
        if self._inbox.nbytes < INBOX_BYTES // 8:  # else what seems to be missing may still be on its way
            ours = [part for part in self.parts.values() if self._ours(part)]
            await self._continuity.chase(ours, lambda tp: highwater(self.app.consumer, tp), self._pacing.paused)

    async def _mind_contexts(self) -> None:
        for part in [part for part in self.parts.values() if part.generation == self.generation]:
            high = highwater(self.app.consumer, TP(self.client.topic("context"), part.number))
            if high is None:
                continue
            at_end = part.upto("context") >= high
            async with self._feeding:  # a decision holds behind what its lane has taken in: nothing may come between
                for lane, decision in list(self._timeout.due(part.lanes.values(), self.clock.now_ns(), at_end)):
                    if not part.lost:
                        results = await self._commands.decide(part, lane, decision, *self._claims[part.number])
                        self.outbox.add(part, results, self.clock.now_ns())

    async def checkpoint(self) -> None:
        """Results, then snapshots, then offsets."""
        async with self._checkpointing:
            self._batches.collect(self.parts.values(), force=True)
            generation, serial = self.generation, self._serial
            parts = [part for part in self.parts.values() if part.generation == generation]
            needs = {p.number: {m: lane.needs_from() for m, lane in p.lanes.items()} for p in parts}
            states = {p.number: {m: lane.snapshot() for m, lane in p.lanes.items()} for p in parts}
            taken = {p.number: dict(p.next) for p in parts}
            await self.outbox.flush()
            # results of lost ones may have been dropped; one that was renewed has written a newer snapshot
            parts = [part for part in parts if not part.lost and part.generation == generation]
            topic = self.client.topic(STATE)
            news = {part.number: part.news(topic, states[part.number]) for part in parts}
            # what only a snapshot knows that cannot be written must come again
            parts = [part for part in parts if all(map(self.outbox.fits, news[part.number]))]
            outs = [out for part in parts for out in news[part.number]]
            offsets_of = zip(outs, await self.outbox.write(outs), strict=True)
            refused = {out.partition for out, offset in offsets_of if offset == REFUSED}
            parts = [part for part in parts if part.number not in refused]
            offsets: dict[TopicPartition, OffsetAndMetadata] = {}
            told: list[tuple[Part, str, tuple[int, int]]] = []
            for part in parts:
                if not part.lost and self.generation == generation == part.generation:
                    part.saved.update(states[part.number])
                    for row, offset in part.release(needs[part.number], serial).items():
                        says = (offset, max(offset, taken[part.number].get(row, 0)))
                        if part.told.get(row) != says:
                            offsets[TopicPartition(self.client.topic(row), part.number)] = committed(*says)
                            told.append((part, row, says))
            if not offsets or await self._commit(offsets):
                self.commit_s = time.monotonic()
                for part, row, says in told:
                    part.told[row] = says
            self.checkpoint_s = time.monotonic()

    async def _commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> bool:
        """Commit exactly these offsets; a commit that fails costs repeats. Says whether it was done."""
        try:
            await commit(self.app, offsets)
        except KafkaError as error:
            self.counts["commit_failed"] += 1
            log.warning("offsets were not committed, what they cover may come again: %r", error)
            return False
        self.counts["commits"] += 1
        return True
