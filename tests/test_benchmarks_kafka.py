"""What the latency through Kafka counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import latency_kafka
from config.schema import Kafka

PLAYS_S, POLL_S = 5.0, 0.05


class Host:
    """A clock that every poll moves on; while the player plays, each process takes half a core."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """The clock's."""
        return self.now

    def time_ns(self) -> int:
        """The clock's."""
        return round(self.now * 1e9)

    def is_alive(self) -> bool:
        """The player's."""
        return self.now < PLAYS_S

    def poll(self, **_: object) -> dict[object, object]:
        """The consumer's: nothing comes."""
        self.now += POLL_S
        return {}

    def cpu_s(self, _process: object) -> float:
        """A process'."""
        return 0.5 * min(self.now, PLAYS_S)


class Anything:
    """Stands for brokers, workers, stores: does nothing."""

    pid = 1

    def __init__(self, *_: object, **__: object) -> None:
        self.pids = {"w0": 1}

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def test_waiting_for_the_last_decisions_is_no_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three idle seconds behind the player's end made the processes look less busy than they were."""
    host = Host()
    for name in ("Crew", "Store", "Collector", "KafkaPublisher", "admin", "wait_quiet"):
        monkeypatch.setattr(latency_kafka, name, Anything() if name == "admin" else Anything)
    consumer = SimpleNamespace(assign=lambda _: None, poll=host.poll, close=lambda: None)
    player = SimpleNamespace(start=lambda: None, is_alive=host.is_alive, t0_ns=0, late_s=0.0)
    monkeypatch.setattr(latency_kafka, "KafkaConsumer", lambda **_: consumer)
    monkeypatch.setattr(latency_kafka, "Player", lambda *_: player)
    monkeypatch.setattr(latency_kafka, "psutil", SimpleNamespace(Process=lambda pid: pid))
    monkeypatch.setattr(latency_kafka, "time", host)
    monkeypatch.setattr(latency_kafka, "cpu_s", host.cpu_s)
    plan: Any = SimpleNamespace(settings=SimpleNamespace(kafka=Kafka()))
    found, busy = latency_kafka.measure(plan, ("mill",), PLAYS_S, tmp_path, Anything())  # type: ignore[arg-type]
    assert host.now >= PLAYS_S + latency_kafka.SETTLE_S and not found
    assert busy["cores_used"] == dict.fromkeys(("worker", "broker", "player_and_reader"), pytest.approx(0.5, abs=0.01))
