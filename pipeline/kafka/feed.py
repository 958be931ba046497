"""Sources on their way to Kafka: what the connectors of this process read is published, marks and all."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from connectors.kafka import KafkaPublisher
from pipeline import codec
from pipeline.clock import Clock, HostClock
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.intake import Intake, Resumable
from pipeline.kafka import admin, checks, trace
from pipeline.kafka.client import Client
from pipeline.kafka.records import SENT
from pipeline.messages import NS, Chunk, Image, Input, Mark
from pipeline.places import Places
from pipeline.state import Position, Store

log = logging.getLogger(__name__)

QUEUE_BYTES = 16_000_000
POSITIONS_EVERY_NS = NS
CROWDED_EVERY = 20
HELD_NS = NS // 200
"""Between two looks at what is held back, though its source would be asked again at once."""
QUIET_NS = 60 * NS
"""An error that comes again within this is not said again; losses are said so often."""

LOSSES = ("dropped.", "refused.", "damaged.")


def publish(publisher: KafkaPublisher, client: Client, message: Input, now_ns: int | None = None) -> int:
    """Send one message; returns its number.

    Args:
        publisher: to Kafka.
        client: names of topics.
        message: what to send.
        now_ns: by the clock that dates live samples; default: this host's.

    Raises:
        BadInput: it has no form on the wire.
    """
    headers, value = codec.encode(message)
    t_ns = message.t_ns if not isinstance(message, Chunk | Image | Mark) else message.t0_ns
    sent = None if isinstance(message, Mark) else value
    now = HostClock().now_ns() if now_ns is None else now_ns
    traced = [*headers, (SENT, b"%d" % now), (trace.TRACEPARENT, trace.begin(headers))]
    return publisher.publish(
        client.topic(codec.topic_of(message)), codec.key_of(message), sent, traced, max(0, t_ns // 1_000_000)
    )


class FeedPublisher(KafkaPublisher):
    """A publisher that makes the missing topics before its first record goes out, as soon as a broker answers.

    A broker that is asked to write into a topic that it has not may make it by itself, with partitions as it likes.

    Args:
        client: how to reach the brokers, and what the topics should be.
        spool_folder: see `KafkaPublisher`.
        spool_bytes: the same.
        memory_bytes: the same.
    """

    def __init__(self, client: Client, spool_folder: Path, spool_bytes: int, memory_bytes: int) -> None:
        self.troubles: list[str] = []
        """How the topics differ from the configuration; keys go to partitions by what the brokers have."""
        self._client = client
        self._prepared = False
        super().__init__(client.settings(), spool_folder, spool_bytes, memory_bytes)

    def _connect(self) -> bool:
        connected = super()._connect()
        if not connected or self._prepared:
            return connected
        self._failed = True  # until they are there: the next round begins with another producer
        if not self._make_topics():
            self.counts["connect_failed"] += 1
            return False
        self._prepared, self._failed = True, False
        return True

    def _make_topics(self) -> bool:
        """Also those of brokers that have lost theirs: what the spool holds for them must not be given up."""
        try:
            admin.create(self._client)
            checks.topics(self._client, admin.partitions(self._client))
        except admin.BrokerError as error:
            self.error = str(error)
            return False
        except ConfigError as error:
            self.troubles = [str(error)]
        return True


class Feed:
    """Runs sources into a publisher.

    Args:
        sources: the connectors.
        publisher: to Kafka.
        client: names of topics.
        clock: the host's.
        state: a file that keeps where re-readable sources stopped.
        troubles: what else is to be told among the errors.
    """

    def __init__(
        self,
        sources: Sequence[Resumable],
        publisher: KafkaPublisher,
        client: Client,
        clock: Clock,
        state: Path,
        troubles: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._sources = sources
        self._intake = Intake(sources, QUEUE_BYTES)
        self._publisher = publisher
        self._client = client
        self._clock = clock
        self._troubles = troubles
        self._store = Store(state)
        self._unsafe: OrderedDict[int, Position] = OrderedDict()
        self._moved: dict[tuple[str, str], Position] = {}
        self._state_error = ""
        self._said: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._lost_ns = 0
        self._stop = threading.Event()
        self.refused = 0

    @property
    def errors(self) -> list[str]:
        """What the sources that are down say, and what keeps the publisher or the state from their work."""
        publisher = self._publisher.error
        own = [publisher and f"publishing: {publisher}", self._state_error, *self._troubles()]
        return self._intake.errors() + [error for error in own if error]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Counters and waiting bytes, in the form that `pipeline.metrics.families` takes shards in."""
        counts = self._publisher.metrics()
        waits = {"feed": counts.pop("memory_bytes"), "spool": counts.pop("spool_bytes")}
        own = {"counts": {**self._intake.counts, **counts, "refused.no_form": self.refused}}
        return {"feed": {**own, "waiting_bytes": waits["feed"]}, "spool": {"waiting_bytes": waits["spool"]}}

    def stop(self) -> None:
        """End after the present message."""
        self._stop.set()

    def run(self, for_s: float | None = None, every_s: Callable[[], None] | None = None) -> None:
        """Publish until the sources end, the time is up or `stop` is called."""
        began = self._clock.now_ns()
        self._intake.open(Places(self._store, self._sources).begin(), began)
        second = began
        try:
            while not self._stop.is_set():
                now = self._clock.now_ns()
                if for_s is not None and now - began >= for_s * NS:
                    break
                if now >= second:
                    second = now + POSITIONS_EVERY_NS
                    self._keep_positions()
                    self._say(now)
                    if every_s is not None:
                        every_s()
                self._intake.poll(now)
                if not self._hand_on() and not self._wait(now):
                    break
        finally:
            self._intake.close()
            self._publisher.flush(10.0)
            self._keep_positions()

    def _hand_on(self) -> bool:
        count, crowded = 0, False
        while count < 500:
            if count % CROWDED_EVERY == 0:  # a recording must not push itself, or live samples, out of a full spool
                crowded = self._publisher.crowded
            if (message := self._intake.take(live=crowded)) is None:
                break
            count += 1
            try:
                seq = publish(self._publisher, self._client, message, self._clock.now_ns())
            except BadInput:
                self.refused += 1
                continue
            if isinstance(message, Chunk | Image | Mark):
                s = message.stream
                ended = isinstance(message, Mark) and message.reason == "end"
                self._unsafe[seq] = Position(s.machine, s.sensor, s.epoch, message.n1, message.anchor, ended)
        return count > 0

    def _wait(self, now: int) -> bool:
        if self._intake.exhausted:
            return False
        due = max(self._intake.wake_ns(now) - self._clock.now_ns(), HELD_NS if self._publisher.crowded else 0)
        wait = min(due, 20_000_000)
        if wait > 0:
            self._stop.wait(wait / NS)
        return True

    def _keep_positions(self) -> None:
        """Where to go on after a restart: behind what is on the brokers or on disk."""
        safe = self._publisher.acknowledged
        while self._unsafe and next(iter(self._unsafe)) < safe:
            _, position = self._unsafe.popitem(last=False)
            self._moved[position.machine, position.sensor] = position
        if not self._moved:
            return
        try:
            self._store.commit([], None, self._moved.values())
        except StateError as error:  # the disk is full for now: what is published goes on, the positions come later
            self._state_error = str(error)
        else:
            self._state_error = ""
            self._moved.clear()

    def _say(self, now: int) -> None:
        """Into the log, as a process that only feeds has no exporter: an error when it comes up, and what was lost."""
        for error in self.errors:
            if error not in self._said:
                log.warning("%s", error)
            self._said[error] = now
        self._said = {error: seen for error, seen in self._said.items() if now - seen < QUIET_NS}
        counts = self.metrics()["feed"]["counts"]
        lost = {name: n for name, n in counts.items() if n and name.startswith(LOSSES)}
        if lost != self._lost and now - self._lost_ns >= QUIET_NS:
            self._lost, self._lost_ns = lost, now
            log.warning("records lost since the start: %s", lost)
