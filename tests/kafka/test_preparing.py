"""Processes that are started before their brokers: they wait, and go on by themselves."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from config.schema import Kafka
from pipeline.errors import ConfigError
from pipeline.kafka import preparing, process
from pipeline.kafka.admin import BrokerError, LoginRefusedError
from pipeline.kafka.client import Client
from pipeline.kafka.preparing import Preparing
from tests.kafka.conftest import QUICK
from tests.kafka.plant import PATIENCE_S, WORKER
from tests.servers.kafka import KafkaServer, Security

CONFIG = """schema_version = 1
[kafka]
bootstrap = "{bootstrap}"{login}
group = "{role}"
prefix = "{role}."
partitions = 2
session_timeout_s = 2
spool_folder = "{role}/spool"
[engine]
state_dir = "{role}/state"
[status]
enabled = false
[[machine]]
name = "m"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 16000
unit = "FS"
source = {{ type = "playback", files = ["noise.wav"], speed = 1.0 }}
"""


def begin(folder: Path, role: str, bootstrap: str, login: str = "") -> subprocess.Popen[bytes]:
    """A process of this role, with topics and state of its own."""
    config = folder / f"{role}.toml"
    config.write_text(CONFIG.format(role=role, bootstrap=bootstrap, login=login))
    command = ["run", "--engine", "kafka", "--role", role, "--config", str(config)]
    if role == "all":
        command += ["--journal", str(folder / "journal.jsonl")]
    with (folder / f"{role}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORKER, *command], stdout=log, stderr=log)


def said(folder: Path, role: str, text: str) -> bool:
    """Whether it is in the log of a role."""
    return text in (folder / f"{role}.log").read_text()


def wait_for(what: Callable[[], bool]) -> None:
    """As long as it takes."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_every_role_waits_for_a_broker(tmp_path: Path) -> None:
    """And what its sources deliver meanwhile is spooled, and worked up later."""
    noise = np.random.default_rng(1).standard_normal(16_000 * 6) * 0.05
    soundfile.write(tmp_path / "noise.wav", noise, 16_000, subtype="PCM_16")
    server = KafkaServer(own=True, options=QUICK)
    processes = {role: begin(tmp_path, role, server.bootstrap) for role in ("all", "worker", "sinks")}
    try:
        wait_for(lambda: said(tmp_path, "worker", "waiting for brokers"))
        wait_for(lambda: all(said(tmp_path, role, "waiting for one") for role in ("all", "sinks")))
        wait_for(lambda: any((tmp_path / "all" / "spool").rglob("*.mcap")))
        assert all(process.poll() is None for process in processes.values())
        with server:
            assert processes["all"].wait(PATIENCE_S) == 0, (tmp_path / "all.log").read_text()
            journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
            assert any(line["topic"] == "health" for line in journal)
            wait_for(lambda: said(tmp_path, "worker", " partitions in "))
            for role in ("worker", "sinks"):
                processes[role].send_signal(signal.SIGTERM)
                assert processes[role].wait(PATIENCE_S) == 0, (tmp_path / f"{role}.log").read_text()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_a_worker_that_waits_ends_when_it_is_told(tmp_path: Path) -> None:
    """As at any other time."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        process = begin(tmp_path, "worker", f"127.0.0.1:{closed.getsockname()[1]}")
        try:
            wait_for(lambda: said(tmp_path, "worker", "waiting for brokers"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()


def test_a_login_that_is_refused_ends_every_role_but_the_feed(tmp_path: Path) -> None:
    """No waiting mends a password; the reason is told."""
    # as long as anybody waits: brokers tell the reason now and then only, and hang up without a word else
    soundfile.write(tmp_path / "noise.wav", np.zeros(16_000 * int(PATIENCE_S)), 16_000, subtype="PCM_16")
    with KafkaServer(own=True, security=Security(users={"stethos": "s3cret"}), options=QUICK) as server:
        for role in ("worker", "sinks", "all"):
            begun = begin(tmp_path, role, server.bootstrap, '\nusername = "stethos"\npassword = "wrong"')
            try:
                assert begun.wait(PATIENCE_S) == 2, (tmp_path / f"{role}.log").read_text()
            finally:
                begun.kill()
                begun.wait()
            assert said(tmp_path, role, "mend kafka.username, password or mechanism")


def told_to_end(*_: object) -> bool:
    """The signal comes while this is done."""
    signal.raise_signal(signal.SIGTERM)
    return True


def test_a_stop_while_the_topics_are_made_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing begins behind it."""
    stop = threading.Event()
    monkeypatch.setattr(preparing, "prepare", lambda _: stop.set())
    assert not preparing.wait(Client(Kafka()), stop)


@pytest.mark.parametrize("during", ["prepare", "wait"])
def test_a_worker_that_is_told_to_end_at_the_last_moment_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """It ends well."""
    monkeypatch.setattr(preparing, during, told_to_end)
    monkeypatch.setattr(process, "_run", None)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    plan: Any = SimpleNamespace(settings=SimpleNamespace(kafka=Kafka()))
    assert process.run_worker(plan, "w") == 0


@pytest.mark.parametrize("bad", [ConfigError("4 partitions, not 5"), LoginRefusedError("wrong password")])
def test_what_no_waiting_mends_ends_it(monkeypatch: pytest.MonkeyPatch, bad: Exception) -> None:
    """Brokers come, with other topics than the configuration's, or other users."""
    answers: list[Exception | None] = [BrokerError("nobody"), bad]
    told: list[str] = []

    def prepare(_: Client) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(preparing, "prepare", prepare)
    monkeypatch.setattr(preparing, "AGAIN_S", 0.01)
    begun = threading.Event()
    waiting = Preparing(Client(Kafka()), begun.set)
    waiting.start()
    assert not waiting.over(10) and not begun.is_set()
    assert waiting.failed is bad and waiting.error == str(bad)
    waiting.stop()
    answers += [BrokerError("nobody"), None]
    assert preparing.wait(Client(Kafka()), threading.Event(), said=told.append) and told == ["nobody"]
