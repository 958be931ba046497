"""Taking partitions over: claim, decisions, snapshots, in an order that leaves a late predecessor no way to contradict.

1. Read `decision`; append the claim; read on to it: its offset is the owner epoch, what lower epochs write behind it is
   void.
2. Put the claim into `state`, then read the newest snapshots before it. A predecessor's snapshot is in `state` only
   once the results that it includes are durable, so those stand in their topics before step 3.
3. Write the snapshots again under the own epoch, so that they outrank whatever a predecessor still writes; put the
   claim into the topics of results.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import orjson
from aiokafka.errors import KafkaError

from pipeline import codec
from pipeline.errors import ConfigError, DecodeError, StateError
from pipeline.headers import TYPE
from pipeline.kafka import fetched
from pipeline.kafka.client import Client
from pipeline.kafka.logs import LogReader
from pipeline.kafka.outbox import REFUSED, Outbox
from pipeline.kafka.records import (
    CLAIM_TYPE,
    FORM,
    SNAPSHOT_TYPE,
    Claim,
    Fence,
    Out,
    claim_out,
    owner_of,
    read_claim,
    snapshot_out,
    unlike,
)
from pipeline.kafka.topics import DECISION, OUTPUTS, STATE
from pipeline.messages import Decision

log = logging.getLogger(__name__)

READ_AGAIN_S = 0.5
THROWN_OUT = 3
"""So often a static member gets a partition back from a namesake before it gives in."""


@dataclass
class Found:
    """What the logs of one partition say."""

    fence: Fence = field(default_factory=Fence)
    at: int = 0
    previous: Claim | None = None
    decisions: list[Decision] = field(default_factory=list)
    snapshots: dict[str, bytes] = field(default_factory=dict)
    outdated: list[bytes] = field(default_factory=list)


class Ownership:
    """Claims partitions for a worker.

    Args:
        client: names of topics.
        reader: of the logs.
        outbox: to write with.
        worker: this worker's name.
        machines: that its configuration has.
    """

    def __init__(
        self, client: Client, reader: LogReader, outbox: Outbox, worker: str, machines: Iterable[str] = ()
    ) -> None:
        self._client = client
        self._reader = reader
        self._outbox = outbox
        self._worker = worker
        self._machines = client.spread(machines)
        self._lock = asyncio.Lock()
        self._mine: dict[int, Claim] = {}
        self._thrown_out = 0

    async def take(
        self, generation: int, numbers: list[int], current: Callable[[], bool]
    ) -> dict[int, tuple[Claim, Found]]:
        """Claim partitions and read their logs; returns those whose claim holds.

        Args:
            generation: of the group that assigned them.
            numbers: the partitions.
            current: whether the assignment still stands.

        Raises:
            ConfigError: another worker has the same `instance_id`.
            StateError: the brokers take no claim.
        """
        async with self._lock:
            found = {number: Found() for number in numbers}
            await self._decisions(found)
            for logged in found.values():
                logged.previous = logged.fence.claim
            # All at once: each may have to wait for two sessions.
            made = await asyncio.gather(*(self._claim(n, generation, logged, current) for n, logged in found.items()))
            claims = {claim.partition: claim for claim in made}
            if not current():
                return {}
            self._mind_namesakes(claims, found)
            offsets = await self._outbox.write([claim_out(self._decision, claim) for claim in claims.values()])
            if REFUSED in offsets:
                raise StateError(f"the brokers refuse claims in {self._decision}: look at the topic's settings")
            held = {n: claim._replace(epoch=at) for (n, claim), at in zip(claims.items(), offsets, strict=True)}
            self._mine.update(held)
            await self._decisions(found)
            held = {n: claim for n, claim in held.items() if found[n].fence.epoch >= claim.epoch}
            await self._outbox.write([claim_out(self._client.topic(STATE), claim) for claim in held.values()])
            await self._snapshots({n: found[n] for n in held}, held)
            return {n: (claim, found[n]) for n, claim in held.items()}

    def _mind_namesakes(self, claims: Mapping[int, Claim], found: Mapping[int, Found]) -> None:
        """Notice a worker of the same static name: whichever comes throws the other out, within one generation.

        Otherwise a generation has one owner of each partition: behind our claim there is no other of the same rank.
        """
        for number, claim in claims.items():
            mine, last = self._mine.get(number), found[number].previous
            if mine and last and mine.rank == last.rank == claim.rank and mine.epoch < last.epoch:
                self._thrown_out += 1
                break
        if self._thrown_out >= THROWN_OUT:
            raise ConfigError(f"instance_id '{self._worker}' is used by two workers: give each its own, or a --name")

    async def may_join(self) -> None:
        """Look at the claims in force before the group is disturbed.

        Raises:
            StateError: a worker of a newer version owns partitions.
        """
        found = {number: Found() for number in range(self._client.kafka.partitions)}
        await self._decisions(found)
        for logged in found.values():
            claim = logged.fence.claim
            if claim is not None and claim.form > FORM:
                raise StateError(
                    f"partition {claim.partition} is in the hands of a newer version: '{claim.worker}' writes form "
                    f"{claim.form}, this one reads up to {FORM}; update this worker too"
                )
        held = (logged.fence.claim for logged in found.values())
        for difference in unlike([c for c in held if c is not None and c.worker != self._worker], self._machines):
            log.error("%s", difference)
        with contextlib.suppress(KafkaError, OSError):  # the group's broker is found now, not while machines stand
            await self._reader.committed([self._decision], 0)

    @property
    def _decision(self) -> str:
        return self._client.topic(DECISION)

    async def _claim(self, number: int, generation: int, logged: Found, current: Callable[[], bool]) -> Claim:
        before = logged.fence.claim
        base = before.base if before is not None else 0
        if before is not None and base + generation < before.rank:
            # Either we are late and will be told so within a session, or the brokers have forgotten the group.
            await asyncio.sleep(2 * self._client.kafka.session_timeout_s)
            if current():
                base = before.rank
        return Claim(number, self._worker, generation, base, machines=tuple(self._machines.get(number, ())))

    async def _read(self, topic: str, found: Mapping[int, Found], take: Callable[[Found, object], None]) -> None:
        while True:
            try:
                async for record in self._reader.read(topic, {n: logged.at for n, logged in found.items()}):
                    logged = found[record.partition]
                    if record.offset >= logged.at:
                        logged.at = record.offset + 1
                        take(logged, record)
            except (KafkaError, OSError) as error:
                log.warning("%s cannot be read, trying again: %r", topic, error)
                await self._reader.close()
                await asyncio.sleep(READ_AGAIN_S)
            else:
                return

    async def _decisions(self, found: Mapping[int, Found]) -> None:
        await self._read(self._decision, found, take_decision)

    async def _snapshots(self, found: Mapping[int, Found], claims: Mapping[int, Claim]) -> None:
        states = {number: _State(claims[number]) for number in found}
        await self._read(self._client.topic(STATE), {n: s.found for n, s in states.items()}, self._take_into(states))
        for number, state in states.items():
            found[number].snapshots = {machine: body for machine, (_, _, body) in state.best.items()}
            found[number].outdated = sorted(state.keys)

    @staticmethod
    def _take_into(states: Mapping[int, _State]) -> Callable[[Found, object], None]:
        by_found = {id(state.found): state for state in states.values()}
        return lambda logged, record: by_found[id(logged)].take(record)

    async def announce(self, claim: Claim, snapshots: Mapping[str, bytes], outdated: list[bytes]) -> set[str]:
        """Step 3: the own snapshots, then the claim before the results; what is outdated in `state` may go.

        Returns the machines whose snapshots the brokers refuse; those before them stay.
        """
        state = self._client.topic(STATE)
        offsets = await self._outbox.write(
            [snapshot_out(state, claim.partition, m, claim.epoch, body) for m, body in snapshots.items()]
        )
        refused = {machine for machine, offset in zip(snapshots, offsets, strict=True) if offset == REFUSED}
        await self._outbox.write([claim_out(self._client.topic(topic), claim) for topic in OUTPUTS])
        if not refused:
            await self._outbox.write([Out(state, claim.partition, key, None, []) for key in outdated])
        return refused

    async def holds(self, claim: Claim, found: Found) -> bool:
        """Read the decisions on; whether our claim is still the last one."""
        async with self._lock:
            await self._decisions({claim.partition: found})
        return found.fence.epoch == claim.epoch


class _State:
    """The newest snapshots of a partition, read up to our own claim."""

    def __init__(self, claim: Claim) -> None:
        self.found = Found()
        self.best: dict[str, tuple[int, int, bytes]] = {}
        self.keys: set[bytes] = set()
        self._claim = claim
        self._fence = Fence()

    def take(self, record: object) -> None:
        headers, value, key = dict(record.headers), record.value, record.key or b""  # type: ignore[attr-defined]
        try:
            fetched.check(record)
            if value is None or self._fence.epoch == self._claim.epoch:
                self.keys.discard(key)
                return
            kind, owner = headers.get(TYPE), owner_of(headers)
            if kind == CLAIM_TYPE:
                self._fence.take(read_claim(value, -1))
            if owner < self._claim.epoch:
                self.keys.add(key)
            if kind == SNAPSHOT_TYPE and not self._fence.void(owner):
                machine = key.decode().split("|", 2)[2]
                rank = (owner, int(orjson.loads(value)["event_ns"]))
                if machine not in self.best or rank >= self.best[machine][:2]:
                    self.best[machine] = (*rank, value)
        except (DecodeError, ValueError, KeyError, IndexError, TypeError) as error:
            log.error("a record of state cannot be read and is left out: %s", error)


def take_decision(logged: Found, record: object) -> None:
    """One record of `decision`: a claim moves the fence, a decision that is not void is kept."""
    headers = dict(record.headers)  # type: ignore[attr-defined]
    value, offset = record.value, record.offset  # type: ignore[attr-defined]
    try:
        fetched.check(record)
        if headers.get(TYPE) == CLAIM_TYPE:
            logged.fence.take(read_claim(value, offset))
            return
        message = codec.decode(headers.items(), value)
        if isinstance(message, Decision) and not logged.fence.void(owner_of(headers)):
            logged.decisions.append(message)
    except DecodeError as error:
        log.error("decision at offset %d cannot be read and is left out: %s", offset, error)
