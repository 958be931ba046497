"""Recordings through Kafka: published, worked up by a worker, collected; the same journal as without.

Everything goes through topics with a prefix of their own, which are removed at the end. Snapshots and decisions are in
their logs before the worker starts. The preroll of a recording is published like the rest; what follows from it alone
is known already, and a lane that runs here says what that is.
"""

from __future__ import annotations

import asyncio
import multiprocessing as mp
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.schema import Kafka
from connectors.kafka import KafkaPublisher
from pipeline import codec
from pipeline.app import Plan
from pipeline.clock import Clock
from pipeline.errors import BadInput, ConfigError, StethosError
from pipeline.journal import TOPICS
from pipeline.kafka import admin, leftovers
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.feed import publish
from pipeline.kafka.machines import Purpose
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.process import run_worker
from pipeline.kafka.records import NOBODY, Out, snapshot_out
from pipeline.kafka.topics import DECISION, STATE
from pipeline.messages import NS, Decision, Input, Record, machine_of
from pipeline.recording.reader import Logged, Recording
from pipeline.replay import OWN_CHOICE, Continuity, in_order
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.state import Store

FOREVER_H = 1e6
DONE_S = 600.0
"""A replay is given up when nothing has moved for so long."""


def replay_settings(bootstrap: str, base: Kafka | None = None) -> Kafka:
    """The section for one replay: topics and group of its own, records that old event times do not expire.

    Raises:
        ConfigError: the password would go to this broker as it is.
    """
    name = leftovers.new_name(os.getpid())
    own = {"bootstrap": bootstrap, "prefix": name + ".", "group": name, "partitions": 4, "raw_retention_h": FOREVER_H}
    own |= {"instance_id": None, "health_port": None, "session_timeout_s": 6.0}
    try:
        return Kafka.model_validate({**(base or Kafka()).model_dump(), **own})
    except ValidationError as error:
        raise ConfigError(f"--kafka {bootstrap}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def persists(done: Callable[[float], bool], moved: Callable[[], object]) -> bool:
    """Whether something comes to its end, however long that takes.

    Args:
        done: waits for the end for so many seconds; says whether it came.
        moved: differs after each of these times, or the end is not waited for any longer.
    """
    last = moved()
    while not done(DONE_S):
        before, last = last, moved()
        if before == last:
            return False
    return True


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds, as Ctrl-C does, so that worker and topics are not left behind; a second one changes nothing."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(plan: Plan, purpose: Purpose) -> None:
    """A worker that ends when the replay has, however that came."""

    def follow() -> None:
        if (parent := mp.parent_process()) is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    run_worker(plan, "replay", None, purpose)


@dataclass
class KafkaReplay:
    """One replay; see `pipeline.replay.Replay` for the meaning of the arguments."""

    recordings: Sequence[Recording]
    plan: Plan
    store: Store
    clock: Clock
    speed: float = 0.0
    faithful: bool = True

    def __post_init__(self) -> None:
        self.recordings = in_order(self.recordings)
        self.messages = 0
        self.refused = 0
        self.damage: dict[Path, str] = {}
        self._client = Client(self.plan.settings.kafka)
        self._known: set[tuple[str, str]] = set()

    def run(self, every: Callable[[Logged], None] | None = None) -> None:
        """Play everything and collect the results."""
        purpose = "replay" if self.faithful else "trial"
        worker = mp.get_context("spawn").Process(target=_work, args=(self.plan, purpose))
        with terminable(), ExitStack() as stack:
            admin.partitions(self._client)  # brokers that do not answer have nothing to be removed either
            leftovers.clean_quietly(self._client)
            stack.enter_context(leftovers.held(self._client.kafka.group))
            try:
                admin.create(self._client)
                asyncio.run(self._before())
                worker.start()
                self._publish(every)
                self._wait(worker)
                collector = Collector(self._client, self.store.path)
                if not persists(lambda s: collector.drain(self.store, s), lambda: collector.counts["read"]):
                    raise StethosError("the results could not be read to their end")
                collector.close()
            finally:
                if worker.is_alive():
                    worker.terminate()
                    worker.join(30)
                admin.remove(self._client)
                leftovers.forget(self._client.kafka.group)

    async def _before(self) -> None:
        """Decisions and snapshots, and what of the results is known."""
        outs: list[Out] = []
        begun: set[str] = set()
        for recording in self.recordings:
            for machine, body in recording.snapshots.items() if self.faithful else ():
                if machine not in begun:
                    number = self._client.partition(machine)
                    outs.append(snapshot_out(self._client.topic(STATE), number, machine, NOBODY, body))
            begun |= {machine_of(m.message) for m in self._wanted(recording) if not m.preroll}
        for decision in self._decisions():
            headers, value = codec.encode(decision)
            number = self._client.partition(decision.machine)
            outs.append(Out(self._client.topic(DECISION), number, codec.key_of(decision), value, headers))
        outbox = Outbox(self._client, lambda: False)
        await outbox.write(outs)
        await outbox.close()

    def _decisions(self) -> Iterator[Decision]:
        seen = set()
        for recording in self.recordings:
            for logged in self._wanted(recording):
                if isinstance(logged.message, Decision) and logged.message.id not in seen:
                    seen.add(logged.message.id)
                    yield logged.message

    def _wanted(self, recording: Recording) -> Iterator[Logged]:
        for logged in recording.messages():
            if self.faithful or not isinstance(logged.message, Decision) or logged.message.kind not in OWN_CHOICE:
                yield logged

    def _publish(self, every: Callable[[Logged], None] | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            publisher = KafkaPublisher(self._client.settings(), Path(folder), 100_000_000_000)
            try:
                for logged in self._paced():
                    self._send(publisher, logged.message)
                    if not logged.preroll:
                        self.messages += 1
                        if every is not None:
                            every(logged)
                if not persists(publisher.flush, lambda: publisher.counts["published"]):
                    raise StethosError(f"the recording could not be published: {publisher.error}")
            finally:
                publisher.close()

    def _send(self, publisher: KafkaPublisher, message: Input) -> None:
        if isinstance(message, Decision):
            return
        try:
            publish(publisher, self._client, message)
        except BadInput:
            self.refused += 1

    def _paced(self) -> Iterator[Logged]:
        """All messages in order, in the replay's time; preroll of machines that are known is left out."""
        begun: set[str] = set()
        began_ns, first_ns = self.clock.now_ns(), None
        lanes = {lane.machine.name: Lane(lane) for lane in self.plan.lanes}
        continuity = Continuity()
        for recording in self.recordings:
            known = set(begun)
            if self.faithful:
                for name, body in recording.snapshots.items():
                    if name in lanes and name not in known:
                        lanes[name].restore(body)
            for logged in self._wanted(recording):
                machine = machine_of(logged.message)
                if logged.preroll:
                    if machine not in known and machine in lanes:
                        self._known |= {(r.topic, r.id) for r in map(record_of, lanes[machine].process(logged.message))}
                        yield logged
                    continue
                begun.add(machine)
                continuity.take(logged.message, recording.path)
                first_ns = logged.log_ns if first_ns is None else first_ns
                if self.speed > 0:
                    due = began_ns + int((logged.log_ns - first_ns) / self.speed)
                    self.clock.sleep((due - self.clock.now_ns()) / NS)
                yield logged
            if recording.damage is not None:
                self.damage[recording.path] = recording.damage

    def _wait(self, worker: Any) -> None:
        """Until the worker has taken everything in and its results are durable."""
        left = -1

        def done(seconds: float) -> bool:
            nonlocal left
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                left = sum(row.unread for row in admin.lags(self._client))
                if left == 0:
                    return True
                if not worker.is_alive():
                    raise StethosError(f"the worker ended with code {worker.exitcode}")
                time.sleep(0.5)
            return False

        if not persists(done, lambda: left):
            raise StethosError(f"the worker did not come to the end: {left} messages are not taken in")

    def journal_records(self) -> Iterator[Record]:
        """What the journal is made of: without what the preroll alone gave."""
        for record in self.store.journal_records():
            if record.topic in TOPICS and (record.topic, record.id) not in self._known:
                yield record
