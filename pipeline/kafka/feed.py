"""Sources on their way to Kafka: what the connectors of this process read is published, marks and all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from connectors.base import Resume
from connectors.kafka import KafkaPublisher
from pipeline import codec
from pipeline.clock import Clock
from pipeline.errors import BadInput
from pipeline.intake import Intake, Resumable
from pipeline.kafka import trace
from pipeline.kafka.client import Client
from pipeline.messages import NS, Chunk, Image, Input, Mark
from pipeline.state import Position, Store

QUEUE_BYTES = 16_000_000
POSITIONS_EVERY_NS = NS


def publish(publisher: KafkaPublisher, client: Client, message: Input) -> int:
    """Send one message; returns its number.

    Raises:
        BadInput: it has no form on the wire.
    """
    headers, value = codec.encode(message)
    t_ns = message.t_ns if not isinstance(message, Chunk | Image | Mark) else message.t0_ns
    sent = None if isinstance(message, Mark) else value
    traced = [*headers, (trace.TRACEPARENT, trace.begin(headers))]
    return publisher.publish(
        client.topic(codec.topic_of(message)), codec.key_of(message), sent, traced, max(0, t_ns // 1_000_000)
    )


class Feed:
    """Runs sources into a publisher.

    Args:
        sources: the connectors.
        publisher: to Kafka.
        client: names of topics.
        clock: the host's.
        state: a file that keeps where re-readable sources stopped.
    """

    def __init__(
        self, sources: Sequence[Resumable], publisher: KafkaPublisher, client: Client, clock: Clock, state: Path
    ) -> None:
        self._intake = Intake(sources, QUEUE_BYTES)
        self._publisher = publisher
        self._client = client
        self._clock = clock
        self._store = Store(state)
        self._unsafe: OrderedDict[int, Position] = OrderedDict()
        self._stop = threading.Event()
        self.refused = 0

    @property
    def errors(self) -> list[str]:
        """What the sources that are down say."""
        return self._intake.errors()

    def stop(self) -> None:
        """End after the present message."""
        self._stop.set()

    def run(self, for_s: float | None = None, every_s: Callable[[], None] | None = None) -> None:
        """Publish until the sources end, the time is up or `stop` is called."""
        began = self._clock.now_ns()
        self._intake.open({k: Resume(p.epoch, p.anchor, p.n) for k, p in self._store.positions().items()}, began)
        second = began
        try:
            while not self._stop.is_set():
                now = self._clock.now_ns()
                if for_s is not None and now - began >= for_s * NS:
                    break
                if now >= second:
                    second = now + POSITIONS_EVERY_NS
                    self._keep_positions()
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
        count = 0
        while count < 500 and (message := self._intake.take()) is not None:
            count += 1
            try:
                seq = publish(self._publisher, self._client, message)
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
        wait = min(self._intake.wake_ns(now) - self._clock.now_ns(), 20_000_000)
        if wait > 0:
            self._stop.wait(wait / NS)
        return True

    def _keep_positions(self) -> None:
        """Where to go on after a restart: behind what is on the brokers or on disk."""
        safe, moved = self._publisher.acknowledged, {}
        while self._unsafe and next(iter(self._unsafe)) < safe:
            _, position = self._unsafe.popitem(last=False)
            moved[position.machine, position.sensor] = position
        if moved:
            self._store.commit([], None, moved.values())
