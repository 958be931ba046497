"""Metrics with a bounded number of label sets, and the engine's plain counters in Prometheus' names and units.

Names follow https://prometheus.io/docs/practices/naming/: one prefix, base units, ``_total`` on counters alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Kind = Literal["counter", "gauge"]
Labels = tuple[str, ...]
LabelPairs = tuple[tuple[str, str], ...]

PREFIX = "stethos_"

ENGINE_HELP: Mapping[str, str] = {
    "stethos_stage_seconds_total": "Time spent computing in a stage of the lanes.",
    "stethos_stage_messages_total": "Messages that a stage of the lanes has taken in.",
    "stethos_chunks_total": "Chunks that the lanes have taken in.",
    "stethos_samples_total": "Samples per channel that the lanes have taken in.",
    "stethos_results_total": "Results that the lanes have made durable.",
    "stethos_queue_bytes": "Bytes that wait in a queue.",
    "stethos_queue_limit_bytes": "Bytes at which a queue pauses its source.",
    "stethos_sink_records_total": "Records that a sink has delivered.",
    "stethos_sink_dropped_total": "Records that a sink has refused for good, or has not read in time.",
    "stethos_sink_lag_records": "Places of the log that a sink has not passed yet; below 1000 it is up to date.",
}
"""What the engine's metrics mean, by their exported name."""

_NAME = re.compile(r"[a-z][a-z0-9_]*[a-z0-9]")
_RESERVED = re.compile(r".*_(count|sum|bucket|created|info)")


@dataclass(slots=True)
class Family:
    """One metric: the values of its label sets, and when each was last set.

    Attributes:
        name: full name, with ``_total`` when it is a counter.
        text: the help text.
        labels: names of the labels; the machine comes first.
        limit: most label sets kept; values for further ones are refused and counted in `refused`.
    """

    name: str
    text: str
    labels: Labels
    limit: int
    refused: int = 0
    values: dict[Labels, float] = field(default_factory=dict)
    touched: dict[Labels, float] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """Counters are told by their name."""
        return "counter" if self.name.endswith("_total") else "gauge"

    def set(self, key: Labels, value: float, now: float = 0.0) -> bool:
        """Set the value of a label set; False when there is no room for it."""
        if key not in self.values and len(self.values) >= self.limit:
            self.refused += 1
            return False
        self.values[key] = value
        self.touched[key] = now
        return True

    def add(self, key: Labels, amount: float, now: float = 0.0) -> bool:
        """Count; False when there is no room for the label set."""
        return self.set(key, self.values.get(key, 0.0) + amount, now)

    def remove(self, gone: Callable[[Labels], bool]) -> None:
        """Let the label sets go for which `gone` says so; Prometheus then marks their series as stale."""
        for key in [key for key in self.values if gone(key)]:
            del self.values[key], self.touched[key]

    def metric(self) -> Metric:
        """The metric as prometheus-client exposes it."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = kind(self.name, self.text, labels=self.labels)
        for key, value in self.values.items():
            metric.add_metric(key, value)
        return metric


def engine_name(name: str) -> tuple[str, float]:
    """The exported name of an engine's metric and what its values are divided by.

    The prefix is added where it is missing; integer nanoseconds ``…_ns`` and ``…_ns_total`` become seconds.

    Raises:
        ValueError: the name breaks the conventions of Prometheus.
    """
    full = name if name.startswith(PREFIX) else PREFIX + name
    stem, total = (full.removesuffix("_total"), "_total") if full.endswith("_total") else (full, "")
    divisor = 1.0
    if stem.endswith("_ns"):
        stem, divisor = stem.removesuffix("ns") + "seconds", 1e9
    if not _NAME.fullmatch(stem) or _RESERVED.fullmatch(stem):
        raise ValueError(f"'{name}' is no name for a counter or gauge of Prometheus")
    return stem + total, divisor


def engine_families(counters: Mapping[str, Mapping[LabelPairs, int | float]], limit: int) -> Iterator[Family]:
    """The engine's numbers as metrics.

    Raises:
        ValueError: a name breaks the conventions, or one metric's values have different label names.
    """
    for name, values in counters.items():
        full, divisor = engine_name(name)
        text = ENGINE_HELP.get(full, f"Engine: {full.removeprefix(PREFIX).removesuffix('_total').replace('_', ' ')}.")
        family: Family | None = None
        for pairs, value in values.items():
            names, key = tuple(k for k, _ in pairs), tuple(v for _, v in pairs)
            family = family or Family(full, text, names, limit)
            if names != family.labels:
                raise ValueError(f"values of '{name}' have the labels {family.labels} and {names}")
            family.set(key, value / divisor)
        if family is not None:
            yield family
