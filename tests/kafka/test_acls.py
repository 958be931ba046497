"""The table of ACLs in the how-to is enough for every role and command, on a broker that refuses everything else."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kafka import KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.errors import TopicAuthorizationFailedError

import config
from connectors.kafka_brokers import Admin
from pipeline.asking import ask
from pipeline.errors import ROOT, StateError
from tests.kafka.conftest import QUICK
from tests.kafka.plant import PATIENCE_S, WORKER
from tests.kafka.test_commands import stethos
from tests.servers.kafka import KafkaServer, Security

PREFIX, GROUP = "plant.", "workers"
USERS = ("admin", "feed", "worker", "sinks", "operator", "recorder", "replay", "nobody")
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # the brokers themselves, and this test
    "auto.create.topics.enable": "false",
}
CONFIG = """schema_version = 1
[kafka]
bootstrap = "{bootstrap}"
group = "workers"
prefix = "plant."
partitions = 2
session_timeout_s = 2
username = "{user}"
password = "secret-{user}"
spool_folder = "{user}/spool"
[engine]
state_dir = "{user}/state"
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


def table() -> Iterator[ACL]:
    """What the how-to grants."""
    text = (ROOT / "docs/how-to/kafka.md").read_text(encoding="utf-8")
    for user, kind, names, operations in re.findall(
        r"^\| `(\w+)` \| (topic|group) \| (.+) \| (.+) \|$", text, re.MULTILINE
    ):
        for name in re.findall(r"`([^`]+)`", names) or [GROUP]:
            prefix = PREFIX if kind == "topic" and user != "replay" else ""
            pattern = ResourcePattern(
                ResourceType.TOPIC if kind == "topic" else ResourceType.GROUP,
                prefix + name.removesuffix("*"),
                ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL,
            )
            for operation in operations.split(", "):
                allowed = ACLOperation[re.sub(r"(?<=.)(?=[A-Z])", "_", operation).upper()]
                yield ACL(f"User:{user}", "*", allowed, ACLPermissionType.ALLOW, pattern)


def wait_for(what: Callable[[], bool], say: Callable[[], str]) -> None:
    """As long as it takes."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, say()
        time.sleep(0.1)


def test_every_role_does_its_work_under_the_table(tmp_path: Path) -> None:
    """Nobody may do what another one's work is."""
    noise = np.random.default_rng(1).standard_normal(16_000 * 6) * 0.05
    soundfile.write(tmp_path / "noise.wav", noise, 16_000, subtype="PCM_16")
    security = Security(users={user: f"secret-{user}" for user in USERS})
    with KafkaServer(own=True, security=security, options={**QUICK, **AUTHORIZER}) as server:
        files = {user: tmp_path / f"{user}.toml" for user in USERS}
        for user, file in files.items():
            file.write_text(CONFIG.format(bootstrap=server.bootstrap, user=user))
        with Admin(bootstrap_servers=server.internal) as admin:
            assert not admin.create_acls(list(table()))["failed"]
        refused = stethos("topics", "create", "--config", files["nobody"])
        assert refused.returncode == 2 and "AuthorizationFailed" in refused.stderr
        for command in ("create", "list", "lag"):
            done = stethos("topics", command, "--config", files["admin"])
            assert done.returncode == 0, done.stderr

        def log(user: str) -> str:
            return (tmp_path / f"{user}.log").read_text()

        def begin(user: str, *more: str) -> subprocess.Popen[bytes]:
            command = ["run", "--engine", "kafka", "--role", user, "--config", str(files[user]), *more]
            with (tmp_path / f"{user}.log").open("wb") as out:
                return subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-c", WORKER, *command], stdout=out, stderr=out
                )

        running = {user: begin(user) for user in ("worker", "feed")}
        running["sinks"] = begin("sinks", "--journal", str(tmp_path / "journal.jsonl"))
        try:
            assert running["feed"].wait(PATIENCE_S) == 0, log("feed")
            wait_for(lambda: " partitions in " in log("worker"), lambda: log("worker"))
            with pytest.raises(StateError, match="the engine refused: machine 'm' has no sensor 'ghost'"):
                ask(config.load(files["operator"]), "m", "baseline", {"sensor": "ghost"}, "kafka", 60)
            lags: list[str | Path] = ["topics", "lag", "--json", "--config", files["admin"]]
            wait_for(
                lambda: sum(row["unread"] for row in json.loads(stethos(*lags).stdout)) == 0, lambda: log("worker")
            )
            assert running["worker"].poll() is None
            for user in ("worker", "sinks"):
                running[user].send_signal(signal.SIGTERM)
                assert running[user].wait(PATIENCE_S) == 0, log(user)
        finally:
            for process in running.values():
                process.kill()
                process.wait()
        assert "uthorization" not in log("worker") + log("sinks") + log("feed")
        journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
        assert any(line["topic"] == "health" for line in journal)
        told = stethos(
            "record", tmp_path / "o.mcap", "--from-kafka", "--since", "2020-01-01", "--config", files["recorder"]
        )
        assert told.returncode == 0, told.stderr
        replay: list[str | Path] = [
            "replay",
            tmp_path / "o.mcap",
            "--engine",
            "kafka",
            "--journal",
            tmp_path / "replay.jsonl",
            "--config",
        ]
        done = stethos(*replay, files["replay"])
        assert done.returncode == 0 and "uthorization" not in done.stderr, done.stderr
        for user, topic in (("feed", "alarm"), ("sinks", "alarm"), ("operator", "decision"), ("worker", "command")):
            producer = KafkaProducer(
                **server.client_settings(user), acks="all", enable_idempotence=False, bootstrap_timeout_ms=10_000
            )
            with pytest.raises(TopicAuthorizationFailedError):
                producer.send(f"{PREFIX}{topic}", b"1", partition=0).get(timeout=30)
            producer.close()
