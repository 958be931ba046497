"""Workers, sinks and topics that are not of one configuration: each says so, without a broker."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, SaslAuthenticationFailedError

import config as configuration
from config.schema import Kafka
from pipeline import app, codec
from pipeline.cli.kafka import since_ns
from pipeline.cli.main import main
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.health import Health
from pipeline.kafka.intake import take_in
from pipeline.kafka.live import Sinks
from pipeline.kafka.ownership import Ownership
from pipeline.kafka.part import Part
from pipeline.kafka.records import Claim, Fence, claim_out, read_claim
from pipeline.kafka.topics import wanted
from pipeline.messages import NS, Context, DeadLetter
from tests.servers.web import request

CLIENT = Client(Kafka(partitions=4))
AT = CLIENT.partition("lathe")
CONFIG = """schema_version = 1
[kafka]
partitions = 4
raw_retention_h = 1
[engine]
state_dir = "state"
[status]
enabled = false
[[machine]]
name = "lathe"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "g"
"""


def claim(*machines: str, worker: str = "other") -> Claim:
    """Of the lathe's partition."""
    return Claim(AT, worker, 1, 0, epoch=0, machines=machines)


def test_a_claim_tells_the_machines() -> None:
    """One of an older worker does not, and is a claim too."""
    assert read_claim(claim_out("decision", claim("lathe", "mill")).value, 3).machines == ("lathe", "mill")
    old = json.dumps({"partition": 1, "worker": "w", "generation": 2, "base": 0, "epoch": 0, "form": 1})
    assert read_claim(old.encode(), 3).machines is None


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (claim("lathe"), ""),
        (claim(), "'other' works under another configuration"),
        (claim("lathe", "mill"), "only it has: mill; that only this one has: none"),
        (claim(worker="me"), ""),  # what it was before its restart
        (Claim(AT, "older", 1, 0, epoch=0), ""),
    ],
)
def test_a_worker_says_at_its_start_who_has_other_machines(
    held: Claim, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where one is missing, its messages become dead letters."""

    class Reader:
        async def read(self, *_: object) -> AsyncIterator[SimpleNamespace]:
            out = claim_out("decision", held)
            yield SimpleNamespace(partition=AT, offset=0, headers=out.headers, value=out.value)

        async def committed(self, *_: object) -> None:
            """As `LogReader`."""

    reader: Any = Reader()
    with caplog.at_level(logging.ERROR):
        asyncio.run(Ownership(CLIENT, reader, None, "me", ["lathe"]).may_join())  # type: ignore[arg-type]
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_a_worker_claims_with_its_machines() -> None:
    """Those of the partition."""
    names = [f"m{number}" for number in range(20)]
    own: Any = Ownership(CLIENT, None, None, "me", names)  # type: ignore[arg-type]
    made = [asyncio.run(own._claim(n, 1, SimpleNamespace(fence=Fence()), lambda: True)) for n in range(4)]
    assert sorted(name for one in made for name in one.machines) == sorted(names)
    assert all(CLIENT.partition(name) == one.partition for one in made for name in one.machines)


def test_a_letter_names_the_worker_that_lacks_the_machine() -> None:
    """Its configuration is the one to be mended."""
    headers, value = codec.encode(Context("lathe", "speed", NS, 1.0))
    record = SimpleNamespace(key=b"lathe", headers=headers, value=value, partition=0, offset=0)
    (letter,) = take_in("context", record, Part(0, 1, 0, {}, "hall-2")).results
    assert isinstance(letter, DeadLetter) and letter.reason == "unknown_machine"
    assert letter.error == "the configuration of worker 'hall-2' has no machine 'lathe'"


def test_the_page_says_which_worker_lacks_a_machine(tmp_path: Path) -> None:
    """As long as its claim is in force."""
    (tmp_path / "stethos.toml").write_text(CONFIG)
    sinks = Sinks(app.plan(configuration.load(tmp_path / "stethos.toml")), CLIENT)
    told: list[list[str]] = []
    for held in (claim("lathe"), claim(worker="hall-2"), claim("lathe")):
        sinks.collector._fences = {TopicPartition(CLIENT.topic("decision"), AT): Fence(0, held)}
        told.append(sinks.problems())
    sinks.store.close()
    assert told[0] == told[2] == [] and len(told[1]) == 1
    assert "'hall-2'" in told[1][0] and "that only this one has: lathe" in told[1][0]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Settings of the topics on a broker, as wanted with a retention of 72 h."""
    held = {row.name: dict(row.settings) for row in wanted(Kafka(partitions=4))}

    class Brokers:
        def describe_configs(self, asked: list[Any], config_filter: str) -> dict[str, dict[str, dict[str, Any]]]:
            assert config_filter == "all"
            return {"topic": {a.name: {k: {"value": v} for k, v in held[a.name].items()} for a in asked}}

        def list_topics(self) -> list[str]:
            return list(held)

        def list_groups(self) -> list[dict[str, str]]:
            return []

    @contextmanager
    def brokers(_: object) -> Iterator[Brokers]:
        yield Brokers()

    monkeypatch.setattr(admin, "partitions", lambda _: dict.fromkeys(held, 4))
    monkeypatch.setattr(admin, "admin", brokers)
    return held


def test_settings_that_brokers_keep_are_told(
    topics: dict[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were taken when the topics were created."""
    (tmp_path / "stethos.toml").write_text(CONFIG)
    name = Client(Kafka()).topic("alarm")
    topics[name]["max.message.bytes"] = "200000"

    def run(*arguments: str) -> int | str | None:
        with pytest.raises(SystemExit) as ended:
            main(["topics", *arguments, "--config", str(tmp_path / "stethos.toml")])
        return ended.value.code

    for command, code in ("list", 1), ("create", 0):
        assert run(command) == code
        said = capsys.readouterr().err
        assert "raw.vibration: retention.ms is 259200000, not 3600000" in said and "--alter --entity-type" in said
        assert f"{name}: max.message.bytes is 200000, not" in said and "decision: retention" not in said
    assert run("list", "--json") == 1
    rows = {row["topic"]: row["settings"] for row in json.loads(capsys.readouterr().out)}
    assert rows[Client(Kafka()).topic("context")] == {"retention.ms": {"is": "259200000", "wanted": "3600000"}}
    (tmp_path / "stethos.toml").write_text(CONFIG.replace("raw_retention_h = 1\n", ""))
    del topics[name]["max.message.bytes"]  # as where nobody may ask for it
    assert run("list") == 0


def test_lag_before_there_are_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Says how they are made."""
    (tmp_path / "stethos.toml").write_text(CONFIG)
    monkeypatch.setattr(admin, "partitions", lambda _: {})
    with pytest.raises(SystemExit, match="2"):
        main(["topics", "lag", "--config", str(tmp_path / "stethos.toml")])
    assert "`stethos topics create` makes missing ones" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (SaslAuthenticationFailedError("invalid credentials"), "mend kafka.username, password or mechanism"),
        (KafkaConnectionError("Handshake failed: certificate verify failed"), "certificate verify failed; start a"),
    ],
)
def test_why_no_connection_came_about_is_told(cause: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python has it in its log only, and then again and again that the broker hangs up."""

    def refused(**_: object) -> None:
        for each in (KafkaConnectionError("socket disconnected"),) * isinstance(cause, SaslAuthenticationFailedError):
            logging.getLogger("kafka.net.manager").warning("failed: %s (%d)", each, 1)
        logging.getLogger("kafka.net.manager").warning("failed: %s (%d)", cause, 2)
        logging.getLogger("kafka.net.manager").error("Bootstrap failed: %s", KafkaTimeoutError("Unable to bootstrap"))
        raise KafkaTimeoutError("Unable to bootstrap")

    monkeypatch.setattr(admin, "Admin", refused)
    with pytest.raises(admin.BrokerError) as told:
        admin.partitions(CLIENT)
    assert said in str(told.value) and not logging.getLogger("kafka.net.manager").filters


def test_a_taken_port_is_named() -> None:
    """With its key."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"kafka\.health_port = {port}: Address already in use"):
            Health(SimpleNamespace(name="w"), "127.0.0.1", port)  # type: ignore[arg-type]


def test_a_worker_tells_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same server as the page: with a time limit for requests."""
    monkeypatch.setattr("pipeline.kafka.health.Families.collect", lambda _: ())
    worker = SimpleNamespace(beat_s=time.monotonic(), ready=False)
    health = Health(worker, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        assert [request(f"{health.address}/{path}")[0] for path in ("live", "ready", "metrics", "x")] == [
            200, 503, 200, 404,
        ]  # fmt: skip
        worker.beat_s -= 60
        assert request(f"{health.address}/live") == (503, b"no round for 60 s\n")
        del worker.ready
        assert request(f"{health.address}/ready")[0] == 500
    finally:
        health.close()


@pytest.mark.parametrize(
    ("text", "ago_s"), [("-90s", 90), ("-.5h", 1800), ("-0s", 0), ("-1.5d", 129600), ("-" + "9" * 400 + "d", 1e9)]
)
def test_a_time_before_now(text: str, ago_s: float) -> None:
    """Whatever a person may write."""
    assert abs(HostClock().now_ns() - ago_s * NS - since_ns(text)) < 60 * NS


@pytest.mark.parametrize("text", ["-²m", "-5x", "", "-m", "-.", "now", "2999-01-01"])
def test_no_time_to_record_from(text: str) -> None:
    """None at all, or one of which nothing can be recorded yet."""
    with pytest.raises(click.BadParameter, match="future" if text.startswith("2") else "write 2026"):
        since_ns(text)
