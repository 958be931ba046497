"""A worker's own small web server: is it alive, is it ready, and its counters for Prometheus."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from faust.types import TP
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.errors import ConfigError
from pipeline.kafka.faust_app import highwater
from pipeline.kafka.topics import INPUTS
from pipeline.messages import NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.kafka.worker import Worker

REFUSED = "refused."
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
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, text = outer.answer(self.path, worker)
                self.send_response(code)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Probes are no news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            where = f"kafka.health_host = {host!r}, kafka.health_port = {port}"
            raise ConfigError(f"{where}: {error.strerror or error}: choose another port (0 takes a free one)") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def answer(self, path: str, worker: Worker) -> tuple[int, bytes]:
        """Status and body of one request."""
        if path == "/live":
            idle_s = time.monotonic() - worker.beat_s
            return (200, b"alive\n") if idle_s < ALIVE_S else (503, f"no round for {idle_s:.0f} s\n".encode())
        if path == "/ready":
            return (200, b"ready\n") if worker.ready else (503, b"partitions are being taken over\n")
        if path == "/metrics":
            return 200, generate_latest(self._registry)
        return 404, b"there are /live, /ready and /metrics\n"

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


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
        refused = CounterMetricFamily(
            "stethos_kafka_refused", "Records of this worker that brokers refuse", labels=[*labels, "reason"]
        )
        for name, count in worker.outbox.counts.copy().items():
            if name.startswith(REFUSED):
                refused.add_metric([worker.name, name.removeprefix(REFUSED)], count)
        yield refused
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
