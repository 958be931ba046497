"""A worker's own small web server: is it alive, is it ready, and its counters for Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from faust.types import TP
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.kafka.faust_app import highwater
from pipeline.kafka.topics import INPUTS
from pipeline.messages import NS
from pipeline.web import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.kafka.worker import Worker

REFUSED = "refused."
DEAD = "dead."
ALIVE_S = 15.0
"""A worker whose loop has not made a round for so long hangs."""


class Health:
    """`/live`, `/ready` and `/metrics` of one worker, served by a thread.

    Args:
        worker: to look at.
        host: to listen on.
        port: to listen on; 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine's.
    """

    def __init__(self, worker: Worker, host: str, port: int) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Families(worker))
        self._worker = worker
        self._server = WebServer(self._reply, host, port, ("kafka.health_host", "kafka.health_port"))
        self._server.start()
        self.address = self._server.address

    def _reply(self, path: str, _host: str | None) -> Answer:
        return *self._answer(path), "text/plain; charset=utf-8"

    def _answer(self, path: str) -> tuple[int, bytes]:
        if path == "/live":
            idle_s = time.monotonic() - self._worker.beat_s
            return (200, b"alive\n") if idle_s < ALIVE_S else (503, f"no round for {idle_s:.0f} s\n".encode())
        if path == "/ready":
            return (200, b"ready\n") if self._worker.ready else (503, b"partitions are being taken over\n")
        if path == "/metrics":
            return 200, generate_latest(self._registry)
        return 404, b"there are /live, /ready and /metrics\n"

    def close(self) -> None:
        """End the server."""
        self._server.stop()


class Families:
    """A worker's counters as Prometheus families."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """All families now."""
        worker, now_s = self._worker, time.monotonic()
        labels = ["worker"]
        for name, text in _COUNTERS.items():
            family = CounterMetricFamily(f"stethos_kafka_{name}", text, labels=labels)
            family.add_metric([worker.name], worker.counts[name])
            yield family
        for name, text, prefix, counts in (
            ("refused", "Records of this worker that brokers refuse", REFUSED, worker.outbox.counts),
            ("dead_letters", "Messages that no lane could take, kept or not", DEAD, worker.counts),
        ):
            family = CounterMetricFamily(f"stethos_kafka_{name}", text, labels=[*labels, "reason"])
            for reason, count in counts.copy().items():
                if reason.startswith(prefix):
                    family.add_metric([worker.name, reason.removeprefix(prefix)], count)
            yield family
        held = sum(part.waiting for part in list(worker.parts.values()))
        for name, text, value in (
            ("partitions", "Partitions in this worker's hands", len(worker.parts)),
            (
                "held_events",
                "Messages taken in that a window or snapshot still needs",
                held,
            ),
            ("unwritten_results", "Results that are not durable yet", worker.outbox.waiting),
            ("checkpoint_age_seconds", "Since the last checkpoint", now_s - worker.checkpoint_s),
            ("commit_age_seconds", "Since all that may be committed was", now_s - worker.commit_s),
        ):
            gauge = GaugeMetricFamily(f"stethos_kafka_{name}", text, labels=labels)
            gauge.add_metric([worker.name], value)
            yield gauge
        yield from self._topics()

    def _topics(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("stethos_kafka_lag", "Records not taken in yet", labels=["worker", "topic"])
        age = GaugeMetricFamily(
            "stethos_kafka_event_age_seconds", "Host time less the newest event time", labels=["worker", "topic"]
        )
        consumer, topic_of, now_ns = self._worker.app.consumer, self._worker.client.topic, self._worker.clock.now_ns()
        for topic in INPUTS:
            behind, newest_ns = 0, 0
            for part in list(self._worker.parts.values()):
                behind += max(0, (highwater(consumer, TP(topic_of(topic), part.number)) or 0) - part.upto(topic))
                newest_ns = max(newest_ns, part.newest_ns.get(topic, 0))
            lag.add_metric([self._worker.name, topic], behind)
            if newest_ns:
                age.add_metric([self._worker.name, topic], (now_ns - newest_ns) / NS)
        yield lag
        yield age


_COUNTERS = {
    "taken": "Messages that lanes took in",
    "commits": "Commits of offsets",
    "commit_failed": "Commits that failed; what they cover may come again",
    "redelivered": "Messages that came again and were known",
    "stale": "Messages of an earlier generation, left out",
    "sought": "Messages left out by the consumer and fetched again",
    "lost_retention": "Messages that retention removed before a worker could take them in",
    "abandoned_marks": "Marks written for sensors that nobody publishes",
    "rebalances": "Rebalances",
    "kept": "Partitions kept over a rebalance with their lanes",
    "rebuilt": "Partitions whose lanes were rebuilt from the log",
}
