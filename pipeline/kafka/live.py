"""Live operation on Kafka: the roles of a process and all of them on one box."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.prometheus import PrometheusSink
from connectors.results import RecordsRejected
from pipeline.app import Plan, config_sha256
from pipeline.claim import claim
from pipeline.clock import HostClock
from pipeline.delivery import Delivery
from pipeline.errors import StateError
from pipeline.judges import Judges
from pipeline.kafka import admin, checks
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.crew import Crew
from pipeline.kafka.feed import Feed, FeedPublisher
from pipeline.kafka.records import unlike
from pipeline.live import configured, known
from pipeline.metrics import families
from pipeline.retention import Retention
from pipeline.sources import build_sources
from pipeline.state import Store
from pipeline.status import StatusServer
from pipeline.watchdog import notify

log = logging.getLogger(__name__)

FEED_FILE = "feed.sqlite"
SETTLE_S = 60.0
"""A worker that takes over needs a session timeout and its own start, on a busy machine many seconds of it."""
UNSETTLED = (
    f"not all that was published has been worked up: nothing moved for {SETTLE_S:g} s; what is left stays on Kafka and "
    "on disk for the next start"
)
TOPICS = ("score", "feature", "machine_state", "alarm", "health", "late", "dlq")


def claim_spool(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a folder for this process's samples: another feed would write files of the same names.

    Raises:
        StateError: another process holds it, or it cannot be written.
    """
    return claim(folder / "spool", "kafka.spool_folder")


class Sinks:
    """Collector, sinks and status page around one durable state.

    Args:
        plan: what to run.
        client: how to reach the brokers.
        troubles: what else in this process has to complain, for the page.
    """

    def __init__(self, plan: Plan, client: Client, troubles: Callable[[], Sequence[str]] = tuple) -> None:
        settings = plan.settings
        self.store = Store(plan.state)
        self.store.put_meta("config_sha256", config_sha256(settings))
        self.collector = Collector(client, plan.state)
        self._machines = client.spread(lane.machine.name for lane in plan.lanes)
        self._judges = Judges(plan.lanes, self.store)
        self._prometheus = PrometheusSink(machines=[machine.name for machine in settings.machines])
        self._prometheus.restore(known(self.store))
        self._deliveries = [
            Delivery(self._prometheus, plan.state, TOPICS, "prometheus"),
            *configured(settings.sinks, plan.state),
        ]
        cursors = [delivery.cursor for delivery in self._deliveries]
        self._retention = Retention(self.store, settings.engine.out_retention_h, HostClock(), cursors)
        self._troubles = troubles
        self._alive = True
        self._trouble = ""
        self._status: StatusServer | None = None
        if settings.status.enabled:
            self._status = StatusServer(
                plan.state, settings.evidence.folder, self._prometheus.render, lambda: self._alive,
                settings.status.host, settings.status.port, self.problems,
            )  # fmt: skip

    @property
    def address(self) -> str:
        """Of the status page; empty without one."""
        return self._status.address if self._status else ""

    def problems(self) -> list[str]:
        """What the collector, the sinks and the durable state complain about now."""
        sinks = [f"sink {d.name}: {d.error}" for d in self._deliveries if d.error]
        results = [f"results cannot be taken in: {self.collector.error}"] if self.collector.error else []
        troubles = [*unlike(self.collector.claims().values(), self._machines), *filter(None, [self._trouble])]
        return [*self._troubles(), *self._judges.problems, *results, *sinks, *troubles]

    def start(self) -> None:
        """Begin to read and to deliver."""
        self.collector.start()
        for delivery in self._deliveries:
            delivery.start()
        if self._status:
            self._status.start()

    def publish(self, feed: Mapping[str, Mapping[str, Any]]) -> None:
        """Counters, those of the feed of this process too, to the exporter; old results out of the log."""
        try:
            self._retention.mind()
            if self._judges.renew(self.store):
                with contextlib.suppress(RecordsRejected):  # counted there
                    self._prometheus.write([r for r in self.store.standing() if r.topic == "alarm"])
            counters, lags = self.store.metrics(), self.store.lags()
            self._trouble = ""
        except StateError as error:  # for now; the collector says so too
            self._trouble = str(error)
            log.warning("%s", error)
            return
        sinks = {d.name: d.metrics(lags, self._retention.lost) for d in self._deliveries}
        self._prometheus.update(families({**counters, **feed}, sinks))

    def close(self, to_the_end: bool = False) -> list[str]:
        """End, if asked behind the last result on the brokers; returns what the sinks complain about."""
        self._alive = False
        self.collector.stop()
        whole = self.collector.finish(self.store) if to_the_end else True
        for delivery in self._deliveries:
            delivery.stop()
        if self._status:
            self._status.stop()
        self._retention.close()
        self.store.close()
        left = [] if whole else ["the last results could not be taken in: they stay on Kafka for the next start"]
        return [*left, *(f"sink {d.name}: {d.error}" for d in self._deliveries if d.error)]


class KafkaLive:
    """A process that feeds, works and delivers, or some of these.

    Args:
        plan: what to run.
        role: ``"feed"``, ``"sinks"``, or ``"all"``, which has worker processes too.
    """

    def __init__(self, plan: Plan, role: str = "all") -> None:
        self._client = Client(plan.settings.kafka)
        self._stop = threading.Event()
        self.crew: Crew | None = None
        self.feed: Feed | None = None
        self.sinks: Sinks | None = None
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
        if role in {"all", "sinks"}:  # a feed begins without a broker: its publisher makes the topics
            admin.create(self._client)
            checks.topics(self._client, admin.partitions(self._client))
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
            self.crew = Crew(plan, [f"{host}-{number}" for number in range(plan.settings.engine.shards or 1)])

    def _errors(self) -> list[str]:
        return [error for part in (self.feed, self.crew) if part is not None for error in part.errors]

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
        notify("READY=1")

        def second() -> None:
            notify("WATCHDOG=1")
            if self.sinks is not None:
                self.sinks.publish(self.feed.metrics() if self.feed is not None else {})
            if every is not None:
                every()

        errors: list[str] = []
        try:
            if self.feed is not None:
                self.feed.run(for_s, second)
                errors += self.feed.errors
                if self.crew is not None and not self._stop.is_set() and not self.settle():
                    errors += [] if self._stop.is_set() else [UNSETTLED]
            else:
                self._idle(for_s, second)
        finally:
            notify("STOPPING=1")
            errors += self.close()
        return errors

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
        if self.feed is not None:
            self.publisher.close()
        if self.crew is not None:
            self.crew.stop()
        errors = [] if self.sinks is None else self.sinks.close(to_the_end=self.crew is not None)
        self._claims.close()
        return errors
