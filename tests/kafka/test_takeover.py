"""What a worker does with what the group gives it: nothing, a scattered assignment, a namesake's partitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from config.schema import Kafka
from pipeline.cli.main import main
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.kafka.client import Client
from pipeline.kafka.faust_app import make_app
from pipeline.kafka.ownership import Ownership, _State
from pipeline.kafka.records import SNAPSHOT_TYPE, Claim, Out
from pipeline.kafka.topics import INPUTS, wanted
from pipeline.kafka.worker import Worker

CLIENT = Client(Kafka(partitions=2, instance_id="hall-2"))


class Logs:
    """`decision`, `state` and results, in memory."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, int], list[Out]] = {}

    async def read(self, topic: str, start: dict[int, int]) -> AsyncIterator[SimpleNamespace]:
        """As `LogReader`."""
        for number, at in start.items():
            for offset, out in enumerate(self.of.get((topic, number), [])[at:], at):
                yield SimpleNamespace(
                    partition=number, offset=offset, key=out.key, headers=out.headers, value=out.value
                )

    async def write(self, outs: list[Out]) -> list[int]:
        """As `Outbox`."""
        offsets = []
        for out in outs:
            log = self.of.setdefault((out.topic, out.partition), [])
            log.append(out)
            offsets.append(len(log) - 1)
        return offsets

    def worker(self, name: str) -> Ownership:
        """One that writes here."""
        return Ownership(CLIENT, self, self, name)  # type: ignore[arg-type]


def take(worker: Ownership, generation: int) -> dict[int, Any]:
    """The group gives it both partitions."""
    return asyncio.run(worker.take(generation, [0, 1], lambda: True))


@pytest.mark.parametrize("names", [("hall-2", "hall-2"), ("a", "b")])
def test_two_workers_of_one_static_name_do_not_fight_for_ever(names: tuple[str, str]) -> None:
    """Each that joins throws the other out, within one generation; one of them gives in, the other has it all."""
    logs = Logs()
    first, second = map(logs.worker, names)
    for _ in range(3):
        assert sorted(take(first, 1)) == sorted(take(second, 1)) == [0, 1]
    with pytest.raises(ConfigError, match=f"instance_id '{names[0]}' is used by two workers: give each its own"):
        take(first, 1)
    taken = take(second, 1)
    assert all(found.previous.epoch == claim.epoch - 1 for claim, found in taken.values())


def test_a_worker_whose_partitions_come_and_go_is_no_namesake() -> None:
    """By rebalances, each of which is a generation; or to itself."""
    logs = Logs()
    first, second = map(logs.worker, "ab")
    for generation in range(1, 20, 2):
        assert sorted(take(first, generation)) == [0, 1]
        assert sorted(take(first, generation)) == [0, 1]
        assert sorted(take(second, generation + 1)) == [0, 1]


@pytest.mark.parametrize(("instance_id", "member"), [("hall-2", "a"), (None, None)])
def test_workers_of_one_configuration_are_static_members_under_their_own_names(
    instance_id: str | None, member: str | None
) -> None:
    """`--name` tells them apart where they share a file with an `instance_id`; and the group looks for new topics."""

    async def put(_: object) -> None: ...

    client = Client(Kafka(instance_id=instance_id))
    app, _ = make_app(client, "a", ["raw.vibration"], put, lambda _: None, lambda: None)
    assert app.conf.consumer_group_instance_id == member
    assert app.conf.consumer_metadata_max_age_ms <= 30_000


def test_topics_that_cannot_be_made_as_wanted_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stethos topics create` does not say that all are there where one has other partitions."""
    sensor = 'name = "mic"\nmodality = "acoustic"\nrate_hz = 16000\nunit = "FS"'
    toml = f'schema_version = 1\n[kafka]\npartitions = 2\n[[machine]]\nname = "m"\n[[machine.sensor]]\n{sensor}\n'
    (tmp_path / "stethos.toml").write_text(toml)
    found = {row.name: row.partitions for row in wanted(CLIENT.kafka)} | {"raw.vibration": 1}
    monkeypatch.setattr("pipeline.kafka.admin.create", lambda _: [])
    monkeypatch.setattr("pipeline.kafka.admin.unlike", lambda _: {})
    monkeypatch.setattr("pipeline.kafka.admin.partitions", lambda _: found)
    with pytest.raises(SystemExit, match="2"):
        main(["topics", "create", "--config", str(tmp_path / "stethos.toml")])
    assert "raw.vibration: 1 partitions, not 2" in capsys.readouterr().err


@pytest.mark.parametrize("value", [b"[]", b"5", b"null", b'"x"', b"{", b'{"event_ns":null}', b'{"event_ns":[]}', b"{}"])
def test_a_snapshot_that_is_none_is_left_out(value: bytes) -> None:
    """The one before it holds."""
    state = _State(Claim(0, "w", 1, 0, epoch=5))
    for body in (b'{"event_ns":7}', value):
        state.take(SimpleNamespace(headers=[("ce_type", SNAPSHOT_TYPE)], value=body, offset=3, key=b"snapshot|0|m"))
    assert state.best == {"m": (-1, 7, b'{"event_ns":7}')}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One without machines, whose brokers take every claim; it looks at topics a hundred times as often."""

    async def take(*_: object) -> dict[int, Any]:
        return {}

    monkeypatch.setattr(Worker, "generation", 1)
    monkeypatch.setattr("pipeline.kafka.checks.AGAIN_S", 0.01)
    made = Worker([], CLIENT, HostClock(), "w")
    monkeypatch.setattr(made._ownership, "take", take)
    return made


async def assigned(worker: Worker, tps: set[TP]) -> None:
    """The group's word, and what a worker does with it in some rounds of its loop."""
    worker._assigned(tps)
    for _ in range(30):
        await asyncio.sleep(0.01)
        assert not worker._failed([])
    if worker._owning is not None:
        worker._owning.cancel()


def test_a_spare_worker_is_ready(worker: Worker) -> None:
    """It has all that it should have; before the group's first word it does not know."""
    assert not worker.ready

    async def spare() -> bool:
        await assigned(worker, set())
        return worker.ready

    assert asyncio.run(spare())


@pytest.mark.parametrize("there", [None, 1, 2])
def test_a_topic_that_is_gone_or_was_made_otherwise_ends_the_worker(
    there: int | None, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group then scatters machines. Where the topics are as configured it waits, and is not ready."""
    found: dict[str, int] = {row.name: row.partitions for row in wanted(CLIENT.kafka)}
    found |= {"raw.vibration": there} if there else {}
    if there is None:
        del found["raw.vibration"]
    monkeypatch.setattr("pipeline.kafka.admin.partitions", lambda _: found)
    tps = {TP(row, n) for row in INPUTS for n in range(2) if row != "raw.vibration"}
    if there == 2:
        asyncio.run(assigned(worker, tps))
        assert not worker.ready
    else:
        said = f"raw.vibration: {there or 'no'} partitions, not 2"
        with pytest.raises(ConfigError, match=said):
            asyncio.run(assigned(worker, tps))
