"""Topics of a replay that was killed with -9: told, and removed by the next one; nobody else's are."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from config.schema import Kafka
from pipeline.errors import StateError
from pipeline.kafka import leftovers
from pipeline.kafka.admin import BrokerError, admin
from pipeline.kafka.client import Client
from pipeline.kafka.leftovers import Left, clean, left
from tests.fixtures.make_v1 import OUT
from tests.kafka.plant import PATIENCE_S, WORKER
from tests.kafka.test_commands import LATHE, stethos
from tests.servers.kafka import KafkaServer

OTHER = "stethos-replay-7-1700000000000"


def wait_for(what: Callable[[], bool]) -> None:
    """As long as it takes."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_killed_replay(broker: KafkaServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it runs, and never one of which this host knows nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = Client(Kafka(bootstrap=broker.bootstrap, prefix=prefix))
    config = tmp_path / "stethos.toml"
    config.write_text(f'schema_version = 1\n[kafka]\nbootstrap = "{broker.bootstrap}"\nprefix = "{prefix}"\n{LATHE}')
    with admin(client) as kafka:
        kafka.create_topics({f"{OTHER}.context": {"num_partitions": 1, "replication_factor": 1}})

    def known() -> dict[str, Left]:
        return {one.name: one for one in left(client)}

    replay = ["replay", str(OUT / "recording.mcap"), "--engine", "kafka", "--kafka", broker.bootstrap, "--journal"]
    slow = [*replay, str(tmp_path / "slow.jsonl"), "--speed", "0.01"]
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORKER, *slow]) as running:
        try:
            wait_for(lambda: any(one.works for one in known().values()))
            (name,) = known().keys() - {OTHER}
            assert not known()[name].gone and clean(client) == []
            with pytest.raises(StateError, match="it runs"):
                clean(client, [name])
        finally:
            running.kill()
    wait_for(lambda: known()[name].gone and not known()[name].works)
    told = stethos("topics", "list", "--config", config).stderr.splitlines()
    assert any(line.startswith(name) and line.endswith("its process has ended: stethos topics clean") for line in told)
    assert any(line.startswith(OTHER) and line.endswith(f": stethos topics clean {OTHER}") for line in told)

    done = stethos(*replay, tmp_path / "next.jsonl")
    assert done.returncode == 0 and f"removed what a killed replay has left: {name}" in done.stderr, done.stderr
    assert known().keys() == {OTHER} and not list((tmp_path / "cache").rglob("*.lock"))
    assert stethos("topics", "clean", "--config", config).stdout == "nothing to remove\n"
    refused = stethos("topics", "clean", name, "--config", config)
    assert refused.returncode == 2 and "no topics of such a replay" in refused.stderr
    assert stethos("topics", "clean", OTHER, "--config", config).stdout == f"removed {OTHER}: 1 topics\n"
    wait_for(lambda: not known())


def test_what_is_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another process holds, one that nobody holds any more, none at all, and another host's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = {what: f"stethos-replay-{n}-1700000000000" for n, what in enumerate(("held", "free", "none", "elsewhere"))}
    hold = (
        f"from pipeline.kafka.leftovers import held\nwith held({names['held']!r}):\n    print(flush=True)\n    input()"
    )
    with leftovers.held(names["free"]):
        pass
    with monkeypatch.context() as there:
        there.setattr("socket.gethostname", lambda: "there")
        with leftovers.held(names["elsewhere"]):
            pass

    class Brokers:
        def list_topics(self) -> list[str]:
            return ["context", "my-stethos-replay-1-1700000000000.x", *(f"{name}.context" for name in names.values())]

        def list_groups(self) -> list[dict[str, str]]:
            return []

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", hold], **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == b"\n"
        found = {one.name: one.gone for one in leftovers._left(Brokers())}
        holder.communicate(b"\n")
    assert found == {names["held"]: False, names["free"]: True, names["none"]: False, names["elsewhere"]: False}


def test_a_broker_that_refuses_the_removal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the lock stays, by which the topics are found again; a topic that another one has removed is no error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with leftovers.held(OTHER):
        pass
    code = 29  # TOPIC_AUTHORIZATION_FAILED; 3 is UNKNOWN_TOPIC_OR_PARTITION

    class Brokers:
        def list_topics(self) -> list[str]:
            return [f"{OTHER}.context"]

        def list_groups(self) -> list[dict[str, str]]:
            return []

        def delete_topics(self, names: Sequence[str], raise_errors: bool) -> dict[str, list[dict[str, object]]]:
            return {"topics": [{"name": name, "error_code": code} for name in names]}

    monkeypatch.setattr("pipeline.kafka.admin.admin", lambda _: nullcontext(Brokers()))
    with pytest.raises(BrokerError, match=rf"{OTHER}\.context cannot be removed: TopicAuthorizationFailed"):
        clean(Client(Kafka()))
    assert list(tmp_path.rglob("*.lock"))
    code = 3
    assert [one.name for one in clean(Client(Kafka()))] == [OTHER] and not list(tmp_path.rglob("*.lock"))
