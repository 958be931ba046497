"""The command line on a real broker: topics, lag, recording from Kafka, replay on both engines, health."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    KafkaError,
    NotCoordinatorError,
)

from pipeline import codec
from pipeline.app import STATE_FILE
from pipeline.kafka import admin
from pipeline.kafka.collector import Collector
from pipeline.kafka.commands import Commands
from pipeline.kafka.intake import Wish
from pipeline.messages import DeadLetter
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import learned_models, machine, stream
from tests.kafka.plant import WORKER, Running, plant
from tests.kafka.test_publisher import records
from tests.servers.kafka import KafkaServer

LATHE = """
[[machine]]
name = "lathe"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
unit = "FS"
rate_hz = 48000
"""


def stethos(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", WORKER, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def get(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_topics_lag_health_record_and_replay(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """One plant, looked at from all sides."""
    with Running(plant(2, 8.0), broker, tmp_path, prefix, more={"health_port": 0}) as running:
        config = running.config("any")
        config.write_text(config.read_text() + f'[engine]\nstate_dir = "{tmp_path}"\n')
        assert stethos("topics", "create", "--config", config).stdout == "all topics are there\n"
        assert stethos("topics", "list", "--config", config).returncode == 0
        other = tmp_path / "other.toml"
        other.write_text(config.read_text().replace("partitions = 4", "partitions = 5"))
        assert stethos("topics", "list", "--config", other).returncode == 1
        refused = stethos("run", "--engine", "kafka", "--role", "worker", "--config", other)
        assert refused.returncode == 2 and "4 partitions, not 5" in refused.stderr

        headers, value = codec.encode(running.plant.messages[0])
        topic = running.client.topic(codec.topic_of(running.plant.messages[0]))
        running.publisher.publish(topic, b"machine-0", value[:-1], headers, 1_700_000_000_000)
        running.start("w0")
        running.publish_all()
        running.wait_done()
        rows = json.loads(stethos("topics", "lag", "--json", "--config", config).stdout)
        assert sum(row["lag"] for row in rows) == 0 < sum(row["end"] for row in rows)
        assert sum(row["unread"] for row in rows) == 0

        address = re.search(r"health at (http://[0-9.:]+)", (tmp_path / "w0.log").read_text())
        assert address is not None
        assert get(address[1] + "/live") == (200, "alive\n")
        assert get(address[1] + "/ready") == (200, "ready\n")
        metrics = get(address[1] + "/metrics")[1]
        taken = re.search(r'stethos_kafka_taken_total\{worker="w0"\} ([0-9.]+)', metrics)
        assert taken is not None and float(taken[1]) == len(running.plant.messages) + 1
        assert 'stethos_kafka_lag{topic="raw.acoustic",worker="w0"} 0.0' in metrics

        _trace_goes_on(running, broker, tmp_path / "w0.log")
        _retry(running, broker, config, topic)

        recording = tmp_path / "from-kafka.mcap"
        told = stethos("record", recording, "--from-kafka", "--since", "2020-01-01", "--config", config)
        assert told.returncode == 0, told.stderr
        assert f"{len(running.plant.messages):,} messages" in told.stdout
        assert "left out: 2 × unreadable.length" in told.stderr
        hashes = []
        for engine in (["embedded"], ["kafka", "--kafka", broker.bootstrap]):
            journal = tmp_path / f"{engine[0]}.jsonl"
            done = stethos("replay", recording, "--engine", *engine, "--journal", journal)
            assert done.returncode == 0, done.stderr
            hashes.append(done.stdout.strip())
        assert hashes == [running.expected, running.expected] == [running.journal()] * 2
        other.write_text(LATHE)
        kafka = ("--engine", "kafka", "--kafka", broker.bootstrap)
        done = stethos("replay", recording, *kafka, "--config", other, "--journal", tmp_path / "other.jsonl")
        assert done.returncode == 1 and "could not be used: unknown_machine" in done.stderr


def _trace_goes_on(running: Running, broker: KafkaServer, log: Path) -> None:
    """A raised alarm carries the trace of a chunk of its machine, and so does its line in the log."""
    rows = ("raw.acoustic", "raw.vibration", "alarm")
    found = {row: [r for n in range(4) for r in records(broker, running.client.topic(row), n)] for row in rows}
    ids = {row: {dict(r.headers).get("traceparent", b"")[3:35].decode() for r in found[row]} for row in rows}
    alarms = ids["alarm"] - {""}  # claims stand there too
    assert alarms and alarms <= ids["raw.acoustic"] | ids["raw.vibration"]
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert alarms == {line["trace_id"] for line in lines if line["message"].startswith("alarm ")}


def _retry(running: Running, broker: KafkaServer, config: Path, topic: str) -> None:
    """`dlq list`, `show`, `retry`: the letter is in its topic again, key, headers and value as they were."""
    store = Store(config.parent / STATE_FILE)
    collector = Collector(running.client, store.path)
    assert collector.drain(store)
    collector.close()
    store.close()
    listed = stethos("dlq", "list", "--state", config.parent).stdout.splitlines()
    assert len(listed) == 1 and " length " in listed[0]
    seq = listed[0].split()[0]
    shown = stethos("dlq", "show", seq, "--state", config.parent).stdout
    assert "reason  length" in shown and "traceparent" not in shown
    retried = stethos("dlq", "retry", seq, "--config", config)
    assert retried.returncode == 0, retried.stderr
    twice = [r for n in range(4) for r in records(broker, topic, n) if len(r.value or b"") % 2]
    first, again = twice[0], twice[-1]
    assert (first.partition, first.key, first.value) == (again.partition, again.key, again.value)
    assert first.headers == again.headers and first.offset < again.offset
    running.wait_done()
    assert stethos("dlq", "retry", "99999", "--config", config).returncode == 2


def test_everything_in_one_command_ends_by_itself(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """`run --engine kafka`: sources are published, a worker process hears them, results are collected."""
    import numpy as np
    import soundfile

    noise = np.random.default_rng(1).standard_normal(16_000 * 6) * 0.05
    soundfile.write(tmp_path / "noise.wav", noise, 16_000, subtype="PCM_16")
    config = tmp_path / "stethos.toml"
    config.write_text(f"""schema_version = 1
[kafka]
bootstrap = "{broker.bootstrap}"
group = "{prefix}group"
prefix = "{prefix}"
partitions = 2
session_timeout_s = 2
spool_folder = "spool"
[engine]
state_dir = "state"
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
""")
    done = stethos("run", "--engine", "kafka", "--config", config, "--journal", tmp_path / "journal.jsonl")
    assert done.returncode == 0, done.stderr
    health = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    assert any(line["topic"] == "health" for line in health)


@pytest.mark.parametrize("path", ["/nowhere", "x" * 300, "a\0b", 5, None])
def test_a_command_that_cannot_be_looked_at_is_a_dead_letter(path: object) -> None:
    """Whatever looking raises: a worker that ended would leave it to the next one, and so to all of them."""
    assert letter_of(path).reason == "command"


def test_a_command_whose_check_fails_in_any_way_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that others wrote anything can come."""

    def fails(*_: object) -> dict[str, Any]:
        raise RuntimeError("what nobody expects")

    monkeypatch.setattr(LaneSettings, "verify", fails)
    assert letter_of("/nowhere").error == "RuntimeError: what nobody expects"


def letter_of(path: object) -> DeadLetter:
    """What becomes of a command to promote the package at this path."""
    mic = stream("mic", "acoustic", 32_000)
    models = learned_models()
    lane = Lane(LaneSettings(machine(mic, model=models.config.model_dump(by_alias=True)), models=models))
    body = {"action": "promote", "packages": [{"path": path}]}
    wish = Wish("m", "0.5", "model", body)
    nothing: Any = SimpleNamespace(topic=str)
    part: Any = SimpleNamespace(lanes={"m": lane}, epoch=1, number=0)
    found: Any = SimpleNamespace(decisions=[])
    (letter,) = asyncio.run(Commands(nothing, nothing, nothing).obey(part, wish, nothing, found))
    assert isinstance(letter, DeadLetter)
    return letter


def test_without_a_broker_and_without_a_state(tmp_path: Path) -> None:
    """A line that says what to do; nothing is left behind."""
    config = tmp_path / "stethos.toml"
    config.write_text(f'{LATHE}[kafka]\nbootstrap = "127.0.0.1:9"\n[engine]\nstate_dir = "{tmp_path / "state"}"\n')
    told = stethos("topics", "list", "--config", config)
    assert told.returncode == 2 and "kafka at 127.0.0.1:9" in told.stderr and "start a broker there" in told.stderr
    told = stethos("dlq", "retry", "1", "--config", config)
    assert told.returncode == 2 and "no such file" in told.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("error", "asked"),
    [(CoordinatorLoadInProgressError, 3), (NotCoordinatorError, 3), (GroupAuthorizationFailedError, 1)],
)
def test_a_fresh_brokers_coordinator_is_waited_for(
    error: type[KafkaError], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay on a broker that had just started ended with its group's coordinator still reading its log."""
    calls: list[object] = []

    class Brokers:
        def list_group_offsets(self, groups: dict[str, None]) -> dict[str, dict[str, int]]:
            calls.append(groups)
            if len(calls) < 3:
                raise error
            return {"g": {"topic": 7}}

    monkeypatch.setattr("time.sleep", lambda _: None)
    if asked == 1:
        with pytest.raises(error):
            admin._committed(Brokers(), "g")
    else:
        assert admin._committed(Brokers(), "g") == {"topic": 7}
    assert len(calls) == asked
