"""Results and the engine's counters as metrics for Prometheus: what is now, not what was.

The names follow https://prometheus.io/docs/practices/naming/ and the label sets are bounded. Scores and
states that no longer come and machines that are gone leave the page, so that Prometheus marks their series as stale
instead of showing the last value for ever; alarms and health states stay until the next transition, because they are
told only when they change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock
from typing import ClassVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from connectors.base import Sink
from connectors.prometheus_families import Family, LabelPairs, engine_families
from connectors.prometheus_results import RESULT_METRICS, ResultMetrics
from connectors.results import RecordsRejected
from pipeline.messages import Record

TOPICS = ("score", "feature", "machine_state", "alarm", "health", "late", "dlq")
"""The topics that the sink reads; records of other topics are passed over."""

_OWN = (*RESULT_METRICS, "stethos_event_age_seconds", "stethos_label_sets_dropped_total")


class PrometheusSink(Sink, Collector):
    """Keeps the newest state of all machines in memory and renders it for a scrape; safe to use from several threads.

    Args:
        max_label_sets: most label sets per metric; what exceeds it is counted in ``stethos_label_sets_dropped_total``.
        stale_after_s: a score leaves the page when none came for this long, by the host's clock.
        vanished_after_s: everything of a machine leaves the page when nothing came from it for this long, unless one
            of its alarms is active.
        clock: seconds since 1970.
        machines: that the configuration has; dead letters of others are counted under ``machine="unknown"``. None: each
            under the name that it came with.
    """

    name: ClassVar[str] = "prometheus"

    def __init__(
        self,
        *,
        max_label_sets: int = 10_000,
        stale_after_s: float = 300.0,
        vanished_after_s: float = 86_400.0,
        clock: Callable[[], float] = time.time,
        machines: Collection[str] | None = None,
    ) -> None:
        self._limit = max_label_sets
        self._clock = clock
        self._lock = Lock()
        self._results = ResultMetrics(max_label_sets, stale_after_s, vanished_after_s, machines)
        self._engine: dict[str, Family] = {}
        self._refused: dict[str, int] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def write(self, records: Sequence[Record]) -> None:
        """Take the records in; a repeat changes nothing.

        Raises:
            RecordsRejected: some records lack what a result of their topic must have; all others were taken in.
        """
        refused: list[tuple[Record, str]] = []
        with self._lock:
            now = self._clock()
            for record in records:
                if record.topic not in TOPICS:
                    continue
                try:
                    self._results.take(record, now)
                except (KeyError, TypeError, ValueError) as error:
                    refused.append((record, f"no {record.topic}: {type(error).__name__} {error}"))
        if refused:
            raise RecordsRejected("Prometheus", refused, len(records))

    def restore(self, records: Sequence[Record]) -> None:
        """Take the newest alarm, health and state records in once, after a start, without counting them.

        The engine's cursor lies behind them already, and they do not come again before the next transition.

        Raises:
            RecordsRejected: as `write` does.
        """
        try:
            self.write([record for record in records if record.topic in ("alarm", "health", "machine_state")])
        finally:
            with self._lock:
                self._results.forget_counts()

    def update(self, counters: Mapping[str, Mapping[LabelPairs, int | float]]) -> None:
        """Replace the engine's own numbers.

        Args:
            counters: metric name → labels as ``((name, value), …)`` → number. Names get the prefix ``stethos_`` where
                it is missing; ``…_total`` is a counter, anything else a gauge; ``…_ns`` and ``…_ns_total`` are
                nanoseconds and are exported in seconds.

        Raises:
            ValueError: a name breaks Prometheus' conventions, is one of the sink's own or stands for a metric that
                another one stands for, or the label names of one metric differ.
        """
        families: dict[str, Family] = {}
        for family in engine_families(counters, self._limit):
            if family.name in _OWN or family.name in families:
                raise ValueError(f"{family.name} is exported already")
            families[family.name] = family
        with self._lock:
            self._engine = families
            for family in families.values():
                self._refused[family.name] = max(family.refused, self._refused.get(family.name, 0))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page for a scrape and its content type.

        Args:
            accept: the scrape's Accept header, which chooses between Prometheus' text format and OpenMetrics.
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def close(self) -> None:
        """Nothing is buffered."""

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment, as the registry asks for them."""
        with self._lock:
            now = self._clock()
            self._results.leave(now)
            families = [*self._results.families.values(), self._results.age(now), self._dropped()]
            metrics = [family.metric() for family in (*families, *self._engine.values()) if family.values]
        yield from metrics

    def _dropped(self) -> Family:
        text = "Values that were refused because their metric has as many label sets as it may have."
        dropped = Family("stethos_label_sets_dropped_total", text, ("metric",), self._limit)
        for family in self._results.families.values():
            dropped.set((family.name,), family.refused)
        for name, refused in self._refused.items():
            dropped.set((name,), refused)
        return dropped
