"""What happens to workers and brokers changes nothing in the journal."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.kafka.conftest import QUICK
from tests.kafka.plant import PATIENCE_S, Running, plant
from tests.servers.kafka import KafkaCluster, KafkaServer

LONG = pytest.mark.slow


@pytest.mark.parametrize(
    ("how", "seconds"),
    [("kill", 4), ("stop", 10), pytest.param("stop", 60, marks=LONG), pytest.param("pause", 30, marks=LONG)],
)
def test_broker_goes_away_and_comes_back(how: str, seconds: int, prefix: str, tmp_path: Path) -> None:
    """Killed, shut down or frozen: connector and workers wait; nothing is lost or doubled."""
    with KafkaServer(own=True, options=QUICK) as own, Running(plant(), own, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(5)
        getattr(own, how)()
        time.sleep(seconds)
        own.resume() if how == "pause" else own.start()
        running.published(publishing)
        assert running.publisher.counts["spooled"] > 0
        running.check()


@LONG
def test_one_of_three_brokers_is_killed_and_comes_back(prefix: str, tmp_path: Path) -> None:
    """Three copies of everything, two of which must be written: work goes on, with whichever broker is gone."""
    with (
        KafkaCluster(3, options=QUICK) as cluster,
        Running(plant(), cluster, tmp_path, prefix, more={"replication": 3}) as running,
    ):
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=0.5)
        time.sleep(5)
        for node in cluster.nodes:
            node.kill()
            time.sleep(8)
            node.start()
        running.published(publishing)
        running.check()


@pytest.mark.parametrize("seconds", [6, pytest.param(30, marks=LONG)])
def test_a_paused_worker_wakes_as_a_zombie(seconds: int, broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """SIGSTOP beyond the session timeout: the other one takes over, the sleeper may repeat but not contradict."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(5)
        running.signal("w0", signal.SIGSTOP)
        time.sleep(seconds)
        running.signal("w0", signal.SIGCONT)
        running.published(publishing)
        running.check()


def test_graceful_stop_and_rolling_restart(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Each worker in turn is told to end, ends with code 0, and comes back."""
    with Running(plant(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        publishing = running.publish_beside(speed=1.0)
        time.sleep(3)
        for name in ("w0", "w1"):
            running.signal(name, signal.SIGTERM)
            assert running.workers[name].wait(PATIENCE_S) == 0, running.log()
            before = running.times_ready(name)
            running.start(name)
            running.wait_ready(name, more_than=before)
        running.published(publishing)
        running.check()
