"""A command that becomes no decision is answered with the reason, whoever refuses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import config
from pipeline.asking import ask
from pipeline.errors import StateError
from pipeline.kafka.commands import Commands
from pipeline.kafka.intake import Wish
from pipeline.kafka.outbox import REFUSED
from pipeline.messages import DeadLetter
from pipeline.reach import Reach
from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer


def test_of_a_machine_that_the_worker_does_not_have(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """The configuration of who asks is newer than the worker's: no lane sees the command."""
    with Running(plant(1, 2.0), broker, tmp_path, prefix) as running:
        settings = config.load(running.config("w0"))
        running.start("w0")
        running.wait_ready("w0")
        with pytest.raises(
            StateError, match="the engine refused: the configuration of worker 'w0' has no machine 'new'"
        ):
            ask(settings, "new", "baseline", {"sensor": "mic"}, "kafka", 60)
        with pytest.raises(StateError, match="the engine refused: machine 'machine-0' has no sensor 'ghost'"):
            ask(settings, "machine-0", "baseline", {"sensor": "ghost"}, "kafka", 60)


def test_of_which_brokers_do_not_take_the_decision() -> None:
    """One above `max.message.bytes`: nothing is in force, and whoever asked is told."""

    async def write(outs: list[object]) -> list[int]:
        return [REFUSED] * len(outs)

    client: Any = SimpleNamespace(topic=str)
    outbox: Any = SimpleNamespace(write=write)
    lane = SimpleNamespace(settings=SimpleNamespace(verify=lambda _, body: body), reach=Reach())
    part: Any = SimpleNamespace(lanes={"m": lane}, epoch=1, number=0)
    nothing: Any = SimpleNamespace(decisions=[])
    (letter,) = asyncio.run(
        Commands(client, outbox, nothing).obey(part, Wish("m", "0.5", "model", {}), nothing, nothing)
    )
    assert isinstance(letter, DeadLetter) and "brokers do not take" in letter.error
    assert dict(letter.headers)["ce_id"] == b"0.5"
