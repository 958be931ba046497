"""What happens to workers and brokers changes nothing in the journal."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.kafka.conftest import QUICK
from tests.kafka.killing import KINDS, Killer
from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer


def check(running: Running) -> None:
    """The journal is the undisturbed run's, and no alarm is in it twice."""
    running.wait_done(90)
    records = running.results()
    alarms = [r.id for r in records if r.topic == "alarm"]
    expected = [r.id for r in running.plant.expected if r.topic == "alarm"]
    assert sorted(alarms) == sorted(expected)
    assert running.journal() == running.expected, running.log()


def test_workers_are_killed_under_load(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Five kills, every kind at least once."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        kinds = Killer(running, seed=1).run(["mid-window", "alarm-pending", "after-result", "rebalance", "mid-window"])
        assert sum(kinds.values()) == 5
        check(running)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_workers_are_killed_a_hundred_times(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Twenty runs of five seeded kills."""
    total: Counter[str] = Counter()
    for seed in range(20):
        with Running(plant(), broker, tmp_path / str(seed), f"{prefix}{seed}.") as running:
            running.start("w0", "w1")
            kinds = [KINDS[(seed + k) % 4] for k in range(5)]
            total += Killer(running, seed).run(kinds)
            check(running)
        print(f"seed {seed}: {dict(total)}", flush=True)
    assert sum(total.values()) == 100


def test_broker_is_killed_and_comes_back(prefix: str, tmp_path: Path) -> None:
    """Connector and workers wait; nothing is lost or doubled."""
    with KafkaServer(own=True, options=QUICK) as own, Running(plant(), own, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(5)
        own.kill()
        time.sleep(4)
        own.start()
        running.published(publishing)
        assert running.publisher.counts["spooled"] > 0
        check(running)


def test_a_paused_worker_wakes_as_a_zombie(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """SIGSTOP beyond the session timeout: the other one takes over, the sleeper may repeat but not contradict."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(5)
        running.signal("w0", signal.SIGSTOP)
        time.sleep(6)
        running.signal("w0", signal.SIGCONT)
        running.published(publishing)
        check(running)


def test_graceful_stop_and_rolling_restart(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Each worker in turn is told to end, ends with code 0, and comes back."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(3)
        for name in ("w0", "w1"):
            running.signal(name, signal.SIGTERM)
            assert running.workers[name].wait(30) == 0, running.log()
            before = running.times_ready(name)
            running.start(name)
            running.wait_ready(name, more_than=before)
        running.published(publishing)
        check(running)
