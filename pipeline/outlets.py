"""Where results leave: Prometheus, the configured sinks, the status page; around the durable log that they read."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from config.sinks import InfluxSinkConfig, JournalSinkConfig, SinkConfig
from connectors import prometheus
from connectors.base import Sink
from connectors.jsonl import JsonLinesSink
from connectors.results import RecordsRejected
from pipeline.app import Plan, config_sha256
from pipeline.clock import Clock
from pipeline.delivery import Delivery
from pipeline.errors import StateError
from pipeline.evidence import EvidenceSink
from pipeline.judges import Judges
from pipeline.messages import Record
from pipeline.metrics import families
from pipeline.retention import Retention
from pipeline.state import Store
from pipeline.status import StatusServer


class Outlets:
    """The durable state of a run with all that reads it; the same on every engine.

    Args:
        plan: what runs.
        clock: never leaps.
        alive: whether the engine works, for the page.
        problems: for the page: `complaints`, and what else there is.
        evidence: whether this process has the recordings that evidence is cut from.
        serves: whether anything but the state is wanted.

    Raises:
        ConfigError: the status page cannot listen on its address.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        alive: Callable[[], bool],
        problems: Callable[[], Sequence[str]],
        evidence: bool = False,
        serves: bool = True,
    ) -> None:
        settings = plan.settings
        self.store = Store(plan.state)
        self.store.put_meta("config_sha256", config_sha256(settings))
        self._judges = Judges(plan.lanes, self.store)
        self.prometheus = prometheus.PrometheusSink(machines=[machine.name for machine in settings.machines])
        self.prometheus.restore(known(self.store))
        self._deliveries: list[Delivery] = []
        if serves:
            self._deliveries.append(Delivery(self.prometheus, plan.state, prometheus.TOPICS, "prometheus"))
            if evidence and settings.evidence.enabled and settings.recording.enabled:
                cut = EvidenceSink(settings.recording.folder, settings.evidence, plan.lanes)
                self._deliveries.append(Delivery(cut, plan.state, ("alarm",), "evidence"))
            self._deliveries += configured(settings.sinks, plan.state)
        cursors = [delivery.cursor for delivery in self._deliveries]
        self._retention = Retention(self.store, settings.engine.out_retention_h, clock, cursors)
        self._counters: dict[str, dict[str, Any]] = {}
        self._lags: dict[str, int] = {}
        self.trouble = ""
        """Why the state cannot be read or written now."""
        self._status: StatusServer | None = None
        if settings.status.enabled and serves:
            self._status = StatusServer(
                plan.state, settings.evidence.folder, self.prometheus.render, alive,
                settings.status.host, settings.status.port, problems,
            )  # fmt: skip

    @property
    def address(self) -> str:
        """Of the status page; empty without one."""
        return self._status.address if self._status else ""

    @property
    def complaints(self) -> list[str]:
        """What baselines, facts, sinks and the durable state complain about now."""
        return [*self._judges.problems, *self._errors(), *filter(None, [self.trouble])]

    def _errors(self) -> list[str]:
        return [f"sink {d.name}: {d.error}" for d in self._deliveries if d.error]

    def start(self) -> None:
        """Begin to deliver and to serve."""
        for delivery in self._deliveries:
            delivery.start()
        if self._status:
            self._status.start()

    def publish(self, own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """Counters to the exporter, old results out of the log; called about once a second.

        Args:
            own: counters of this process that are not in the state, by shard.

        Returns:
            the newest of all shards: those of the state, and over them `own`.
        """
        try:
            self._counters = self.store.metrics()
            self._retention.mind()
            if self._judges.renew(self.store):
                with contextlib.suppress(RecordsRejected):  # counted there
                    self.prometheus.write([r for r in self.store.standing() if r.topic == "alarm"])
            self._lags = self.store.lags()
            self.trouble = ""
        except StateError as error:  # the shards keep their results until it can be written again, or give up
            self.trouble = str(error)
        sinks = {d.name: d.metrics(self._lags, self._retention.lost) for d in self._deliveries}
        counters = {**self._counters, **own}
        self.prometheus.update(families(counters, sinks))
        return counters

    def close(self) -> list[str]:
        """Let sinks deliver what they can, end the page; returns the sinks' errors. The state stays open."""
        self._retention.close()
        for delivery in self._deliveries:
            delivery.stop()
        if self._status:
            self._status.stop()
        return self._errors()


def known(store: Store) -> list[Record]:
    """What an exporter that starts anew should show: what stands, and the newest of each kind, oldest first."""
    newest = [r for topic in ("health", "alarm") for r in reversed(store.latest(topic, 1000))]
    newest += sorted(store.newest_of_each("machine_state"), key=lambda record: record.seq)
    roster = store.roster()
    return [*store.standing(), *(r for r in newest if not roster.past(r))]


def configured(sinks: Sequence[SinkConfig], state: Path) -> list[Delivery]:
    """A delivery for each sink; its cursor is named by where it writes, so that the order may change."""
    made, seen = [], Counter[str]()
    for number, sink in enumerate(sinks):
        where = str(sink.path) if isinstance(sink, JournalSinkConfig) else f"{sink.url}|{sink.org}|{sink.bucket}"
        place = f"{sink.type}-{sha256(where.encode()).hexdigest()[:12]}"
        seen[place] += 1
        cursor = place if seen[place] == 1 else f"{place}-{seen[place]}"
        made.append(Delivery(make_sink(sink), state, sink.topics, f"{sink.type}-{number}", cursor))
    return made


def make_sink(sink: SinkConfig) -> Sink:
    """The sink that a configuration names."""
    if isinstance(sink, JournalSinkConfig):
        return JsonLinesSink(sink.path, sink.most_bytes)
    assert isinstance(sink, InfluxSinkConfig)
    from connectors.influxdb import InfluxSink  # influxdb-client is an extra

    return InfluxSink(sink.url, sink.token.get_secret_value(), sink.org, sink.bucket, ca_cert=sink.ca_file)
