"""A worker as a process: signals, logs, health endpoint, exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime

import orjson

from pipeline.app import Plan
from pipeline.clock import HostClock
from pipeline.kafka import checks, preparing
from pipeline.kafka.client import Client
from pipeline.kafka.health import Health
from pipeline.kafka.machines import Purpose
from pipeline.kafka.worker import Worker
from pipeline.threads import one_thread


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The record with time, level, logger and worker."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": self._worker,
            "message": record.getMessage(),
        }
        if (known := getattr(record, "trace_id", None)) is not None:
            line["trace_id"] = known
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def worker_name(plan: Plan, name: str | None = None) -> str:
    """As asked, or the static member's name, or one of this host and process."""
    import os

    return name or plan.settings.kafka.instance_id or f"{socket.gethostname()}-{os.getpid()}"


def run_worker(plan: Plan, name: str | None = None, for_s: float | None = None, purpose: Purpose = "live") -> int:
    """Run one worker until it is told to end; it waits for brokers first. Returns the exit code.

    Raises:
        ConfigError: libraries or topics are not as they must be, or the port for health is taken.
        LoginRefusedError: a broker does not take name, password or mechanism.
    """
    began = time.monotonic()
    one_thread()
    called = worker_name(plan, name)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(called))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("aiokafka", "faust", "kafka", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    checks.libraries()
    client = Client(plan.settings.kafka)
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())  # asyncio has its own
    try:
        if not preparing.wait(client, stop, for_s):
            return 0 if stop.is_set() else 1
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.is_set():
        return 0
    left_s = None if for_s is None else max(0.0, for_s - (time.monotonic() - began))
    return asyncio.run(_run(plan, client, called, left_s, purpose))


async def _run(plan: Plan, client: Client, name: str, for_s: float | None, purpose: Purpose) -> int:
    worker = Worker(plan.lanes, client, HostClock(), name, purpose)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    kafka = plan.settings.kafka
    health = Health(worker, kafka.health_host, kafka.health_port) if kafka.health_port is not None else None
    if health is not None:
        logging.getLogger(__name__).info("health at %s", health.address)
    try:
        return await worker.run(for_s)
    finally:
        if health is not None:
            health.close()
