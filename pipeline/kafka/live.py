"""Live operation on Kafka: the roles of a process and all of them on one box."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.app import Plan
from pipeline.claim import claim
from pipeline.clock import HostClock
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.kafka.feed import Feed, FeedPublisher
from pipeline.kafka.preparing import Preparing, listens, prepare
from pipeline.kafka.records import unlike
from pipeline.outlets import Outlets
from pipeline.sources import build_sources
from pipeline.watchdog import notify

log = logging.getLogger(__name__)

FEED_FILE = "feed.sqlite"
SETTLE_S = 60.0
"""A worker that takes over needs a session timeout and its own start, on a busy machine many seconds of it."""
UNSETTLED = (
    f"not all that was published has been worked up: nothing moved for {SETTLE_S:g} s; what is left stays on Kafka and "
    "on disk for the next start"
)


def claim_spool(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a folder for this process's samples: another feed would write files of the same names.

    Raises:
        StateError: another process holds it, or it cannot be written.
    """
    return claim(folder / "spool", "kafka.spool_folder")


class Sinks(Outlets):
    """The outlets of all workers, whose results a collector brings into the durable state.

    Args:
        plan: what to run.
        client: how to reach the brokers.
        troubles: what else in this process has to complain, for the page.
    """

    def __init__(self, plan: Plan, client: Client, troubles: Callable[[], Sequence[str]] = tuple) -> None:
        super().__init__(plan, HostClock(), lambda: self._alive, self.problems)
        self.collector = Collector(client, plan.state)
        self._machines = client.spread(lane.machine.name for lane in plan.lanes)
        self._troubles = troubles
        self._alive = True

    def problems(self) -> list[str]:
        """What the collector, the sinks and the durable state complain about now."""
        results = [f"results cannot be taken in: {self.collector.error}"] if self.collector.error else []
        strangers = unlike(self.collector.claims().values(), self._machines)
        return [*self._troubles(), *results, *strangers, *self.complaints]

    def read(self) -> None:
        """Begin to read; call it when the topics are there."""
        self.collector.start()

    def publish(self, own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """As every engine's; a state that cannot be written now is in the log too."""
        counters = super().publish(own)
        if self.trouble:
            log.warning("%s", self.trouble)
        return counters

    def close(self, to_the_end: bool = False) -> list[str]:
        """End, if asked behind the last result on the brokers; returns what the sinks complain about."""
        self._alive = False
        self.collector.stop()
        whole = self.collector.finish(self.store) if to_the_end else True
        errors = super().close()
        self.store.close()
        left = [] if whole else ["the last results could not be taken in: they stay on Kafka for the next start"]
        return [*left, *errors]


class KafkaLive:
    """A process that feeds, works and delivers, or some of these.

    Args:
        plan: what to run.
        role: ``"feed"``, ``"sinks"``, or ``"all"``, which has worker processes too.
    """

    _preparing: Preparing | None = None
    """Waits for brokers that were not there at the start."""

    def __init__(self, plan: Plan, role: str = "all") -> None:
        self._client = Client(plan.settings.kafka)
        self._stop = threading.Event()
        self.crew: Crew | None = None
        self.feed: Feed | None = None
        self.sinks: Sinks | None = None
        self._make_crew: Callable[[], Crew] | None = None
        with contextlib.ExitStack() as claims:
            self._build(plan, role, claims)
            self._claims = claims.pop_all()

    def _build(self, plan: Plan, role: str, claims: contextlib.ExitStack) -> None:
        """What can fail comes before the workers: Python would wait for them before it could say what failed."""
        kafka, feed_state = plan.settings.kafka, plan.settings.engine.state_dir / FEED_FILE
        if role in {"all", "sinks"}:
            claims.enter_context(claim(plan.state))
        if role in {"all", "feed"}:
            claims.enter_context(claim(feed_state))
        if role in {"all", "sinks"}:  # a feed makes the topics by its publisher
            if not self._prepared():
                self._preparing = Preparing(self._client, self._begin)
            self.sinks = Sinks(plan, self._client, self._errors)
        clock = HostClock()  # of the feed and of its sources
        sources = build_sources(plan.settings, clock) if role in {"all", "feed"} else []
        if sources:
            claims.enter_context(claim_spool(kafka.spool_folder))
            publisher = FeedPublisher(self._client, kafka.spool_folder, kafka.spool_bytes, kafka.producer_bytes)
            self.publisher = publisher
            self.feed = Feed(sources, publisher, self._client, clock, feed_state, lambda: publisher.troubles)
        if role == "all":
            host = kafka.instance_id or socket.gethostname()
            names = [f"{host}-{number}" for number in range(plan.settings.engine.shards or 1)]
            self._make_crew = partial(Crew, plan, names)
            if self._preparing is None:
                self.crew = self._make_crew()

    def _prepared(self) -> bool:
        try:
            if listens(self._client):
                prepare(self._client)
                return True
        except admin.LoginRefusedError:
            raise
        except admin.BrokerError as error:
            log.warning("waiting for brokers: %s", error)
        return False

    def _begin(self) -> None:
        """What waited for brokers."""
        if self.sinks is not None:
            self.sinks.read()
        if self._make_crew is not None:
            self.crew = self._make_crew()

    @property
    def waits(self) -> bool:
        """Whether no broker was there at the start."""
        return self._preparing is not None

    @property
    def waiting(self) -> str:
        """Why brokers that were not there at the start are still waited for; empty where they are not."""
        return "" if self._preparing is None else self._preparing.error

    def _errors(self) -> list[str]:
        parts = [error for part in (self.feed, self.crew) if part is not None for error in part.errors]
        return [*parts, *filter(None, [self.waiting])]

    def stop(self, *_: object) -> None:
        """Ask `run` to end."""
        self._stop.set()
        if self.feed is not None:
            self.feed.stop()

    def run(self, for_s: float | None = None, every: Callable[[], None] | None = None) -> list[str]:
        """Run until the time is up, a signal comes, or the sources end and all of theirs is worked up."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        if self.sinks is not None:
            self.sinks.start()
        if self._preparing is not None:
            self._preparing.start()
        elif self.sinks is not None:
            self.sinks.read()
        notify("READY=1")

        def second() -> None:
            notify("WATCHDOG=1")
            self._give_up()
            if self.sinks is not None:
                self.sinks.publish(self.feed.metrics() if self.feed is not None else {})
            if every is not None:
                every()

        errors: list[str] = []
        try:
            if self.feed is not None:
                self.feed.run(for_s, second)
                errors += self.feed.errors
                works = self.crew is not None or self._preparing is not None
                if works and not self._stop.is_set() and not self.settle():
                    self._give_up()
                    errors += [] if self._stop.is_set() else [UNSETTLED]
            else:
                self._idle(for_s, second)
        finally:
            notify("STOPPING=1")
            errors += self.close()
        return errors

    def _give_up(self) -> None:
        """Where no waiting mends what the brokers said."""
        if self._preparing is not None and self._preparing.failed is not None:
            raise self._preparing.failed

    def _idle(self, for_s: float | None, second: Callable[[], None]) -> None:
        until = time.monotonic() + for_s if for_s is not None else None
        while not self._stop.wait(1.0) and (until is None or time.monotonic() < until):
            second()

    def settle(self, patience_s: float = SETTLE_S) -> bool:
        """Wait until all is published, taken in, and its results are durable; says whether it is.

        Args:
            patience_s: for so long, nothing may move.
        """
        since, last = time.monotonic(), (-1, -1)
        while self._preparing is not None and not self._preparing.over(0.5):
            if time.monotonic() - since >= patience_s or self._stop.is_set() or self._preparing.failed is not None:
                return False
        while time.monotonic() - since < patience_s and not self._stop.is_set():
            unsent = 0 if self.feed is None else self.publisher.waiting
            left = unsent, sum(row.unread for row in admin.lags(self._client))
            if left == (0, 0):
                return True
            if left != last:
                since, last = time.monotonic(), left
            time.sleep(0.5)
        return False

    def close(self) -> list[str]:
        """End everything, workers first, so that their last results are read."""
        waited = self.waiting
        if self._preparing is not None:
            self._preparing.stop()
        if self.feed is not None:
            self.publisher.close()
        if self.crew is not None:
            self.crew.stop()
        errors = [] if self.sinks is None else self.sinks.close(to_the_end=self.crew is not None)
        self._claims.close()
        return [*errors, *filter(None, [waited])]
