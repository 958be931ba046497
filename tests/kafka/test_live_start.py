"""A process on Kafka without a broker: what fails at its start ends it, and what is left undone is said at its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

import config as configuration
from config.schema import Kafka
from connectors.spool import read as spooled
from pipeline import app
from pipeline.cli import kafka as command
from pipeline.errors import ConfigError, StateError
from pipeline.kafka import admin
from pipeline.kafka import live as room
from pipeline.kafka.live import UNSETTLED, KafkaLive, claim_spool
from pipeline.kafka.topics import wanted

CONFIG = """schema_version = 1
[kafka]
bootstrap = "127.0.0.1:9"
spool_folder = "spool"
[engine]
state_dir = "state"
[status]
enabled = {enabled}
port = {port}
[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "g"
"""

CREW = """
import sys, time
from pipeline.kafka import crew
def works(plan, name):
    time.sleep(600)
if __name__ == "__main__":
    crew._main = works
    crew.Crew(None, ["w-0"])
    sys.exit("what comes behind fails")
"""

HOLD = """
import pathlib, sys, time
from pipeline.kafka.live import claim_spool
with claim_spool(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def plan(folder: Path, port: int = 0) -> app.Plan:
    """One machine without a source here."""
    (folder / "stethos.toml").write_text(CONFIG.format(port=port, enabled="true" if port else "false"))
    return app.plan(configuration.load(folder / "stethos.toml"))


def made(monkeypatch: pytest.MonkeyPatch, partitions: int | None = None) -> None:
    """A broker with all topics, which have so many partitions, or as many as they should."""
    monkeypatch.setattr(room, "listens", lambda _: True)
    monkeypatch.setattr(admin, "create", lambda _: [])
    there = {row.name: partitions or row.partitions for row in wanted(Kafka())}
    monkeypatch.setattr(admin, "partitions", lambda _: there)


@pytest.mark.parametrize("role", ["sinks", "all"])
def test_results_of_some_partitions_alone_are_not_taken_for_all(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines would be missing from page, sinks and journal."""
    made(monkeypatch, 99)
    with pytest.raises(ConfigError, match=r"dlq: 99 partitions, not \d+"):
        KafkaLive(plan(tmp_path), role)


def test_a_feed_begins_without_a_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its sources deliver is spooled."""

    def absent(*_: object, **__: object) -> None:
        raise KafkaTimeoutError("no broker")

    monkeypatch.setattr("connectors.kafka.KafkaProducer", absent)
    monkeypatch.setattr(admin, "Admin", absent)
    monkeypatch.setattr(room, "build_sources", lambda *_: [SimpleNamespace(rereadable=False)])
    live = KafkaLive(plan(tmp_path), "feed")
    live.publisher.publish("raw.vibration", b"m", b"1", [], 0)
    live.close()
    assert [record.value for path in tmp_path.rglob("*.mcap") for record in spooled(path)] == [b"1"]


def test_no_worker_is_started_before_all_else_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would wait for it at the end, for ever."""
    begun: list[object] = []
    made(monkeypatch)
    monkeypatch.setattr(room, "Crew", lambda *names: begun.append(names))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"status\.port"):
            KafkaLive(plan(tmp_path, taken.getsockname()[1]))
    assert begun == []
    live = KafkaLive(plan(tmp_path))
    assert len(begun) == 1 and live.sinks is not None
    live.sinks.store.close()
    live._claims.close()


def test_a_process_that_fails_behind_the_start_of_its_workers_ends(tmp_path: Path) -> None:
    """And they with it."""
    script = tmp_path / "crew.py"
    script.write_text(CREW)
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", str(script)]
    folder = Path(__file__).parents[2]
    env = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 1 and "what comes behind fails" in done.stderr, done.stderr
    assert time.monotonic() - began < 200


def test_two_feeds_in_one_spool_folder(tmp_path: Path) -> None:
    """They would write files of the same names."""
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        try:
            with pytest.raises(StateError, match=rf"process {first.pid}.*kafka\.spool_folder"), claim_spool(tmp_path):
                pass
        finally:
            first.send_signal(signal.SIGKILL)
    with claim_spool(tmp_path):
        assert not list(tmp_path.glob("*.mcap"))


def test_a_feed_claims_its_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the publisher reads what lies there."""
    made: list[str] = []

    def claimed(folder: Path) -> Any:
        made.append(f"claim {folder}")
        return claim_spool(folder)

    monkeypatch.setattr(room, "claim_spool", claimed)
    monkeypatch.setattr(room, "build_sources", lambda *_: [SimpleNamespace()])
    monkeypatch.setattr(room, "Feed", lambda *_: None)
    monkeypatch.setattr(room, "FeedPublisher", lambda _, folder, *__: made.append(f"publish {folder}"))
    settings = plan(tmp_path)
    KafkaLive(settings, "feed")._claims.close()
    folder = settings.settings.kafka.spool_folder
    assert made == [f"claim {folder}", f"publish {folder}"]


@pytest.mark.parametrize(("errors", "code"), [([], 0), (["playback m/acc: x.wav is no file"], 1)])
def test_what_was_wrong_at_the_end_is_the_exit_code(
    errors: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As without Kafka, and as --help says."""
    live: Any = SimpleNamespace(sinks=None, crew=None, waits=False, run=lambda _: errors)
    monkeypatch.setattr(command, "needs_kafka", lambda: None)
    monkeypatch.setattr(room, "KafkaLive", lambda *_: live)
    plan(tmp_path)
    assert command.run_kafka(tmp_path / "stethos.toml", "all", None, None, None) == code
    assert capsys.readouterr().err == "".join(f"error: {error}\n" for error in errors)


class _Feed:
    """One that comes to its end at once."""

    errors: tuple[str, ...] = ()

    def run(self, *_: object) -> None:
        """As the feed's."""


@pytest.mark.parametrize(("settled", "stopped"), [(True, False), (False, False), (False, True)])
def test_what_is_not_worked_up_at_the_end_is_an_error(
    settled: bool, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where somebody has asked for the end meanwhile."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    live: Any = KafkaLive.__new__(KafkaLive)
    live.sinks, live.crew, live.feed = None, object(), _Feed()
    live._stop = threading.Event()
    live.close = list

    def settle() -> bool:
        if stopped:
            live._stop.set()
        return settled

    live.settle = settle
    assert live.run() == ([] if settled or stopped else [UNSETTLED])


def test_a_login_that_is_refused_while_the_end_is_waited_for_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources may end before the brokers have said so."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    live: Any = KafkaLive.__new__(KafkaLive)
    live.sinks, live.crew, live.feed = None, None, _Feed()
    live._stop = threading.Event()
    live._preparing = SimpleNamespace(failed=None, start=lambda: None, over=lambda _: False)
    live.close = list

    def settle() -> bool:
        live._preparing.failed = admin.LoginRefusedError("no such password")
        return False

    live.settle = settle
    with pytest.raises(admin.LoginRefusedError, match="no such password"):
        live.run()
