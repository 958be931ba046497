"""`stethos baseline use --engine kafka`: the command reaches the worker, which decides; all without a broker."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from config.schema import Settings
from models.anomaly.store import load, load_all, save
from pipeline.cli.baseline import baseline
from pipeline.errors import StateError
from pipeline.kafka import wishes
from pipeline.kafka.commands import Commands
from pipeline.kafka.intake import Wish
from pipeline.kafka.records import Out
from pipeline.messages import DeadLetter
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from tests.engines.scenarios import baseline_of, machine, stream
from tests.fixtures.make_v1 import OUT


def use(folder: Path) -> Any:
    """The command on the configuration of the fixture, which has no state."""
    for name in ("v1.toml", "baselines"):
        (shutil.copytree if (OUT / name).is_dir() else shutil.copy)(OUT / name, folder / name)
    arguments = ["use", str(folder / "baselines"), "--engine", "kafka", "--config", str(folder / "v1.toml")]
    return CliRunner().invoke(baseline, arguments)


def test_the_command_goes_to_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a path that they can read; this box needs no state."""
    asked: list[tuple[Any, ...]] = []

    def wish(_settings: Settings, *wanted: Any) -> str:
        asked.append(wanted)
        return "press|baseline|0.1"

    monkeypatch.setattr(wishes, "wish", wish)
    done = use(tmp_path)
    assert done.exit_code == 0, done.exception
    assert "in force by decision press|baseline|0.1" in done.output
    ((name, kind, body, _),) = asked
    current = load_all(tmp_path / "baselines")["press", "accelerometer"]
    assert (name, kind, body["sensor"], body["baseline"]) == ("press", "baseline", "accelerometer", current.settings)
    assert load(Path(body["path"])).settings == current.settings
    assert Path(body["path"]).is_relative_to(tmp_path / "state") and not (tmp_path / "state/stethos.sqlite").exists()


def test_a_worker_that_cannot_read_it_says_what_must_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its refusal alone would name a path that is there, on this box."""

    def wish(*_: object) -> str:
        raise StateError("press: the engine refused: no such file")

    monkeypatch.setattr(wishes, "wish", wish)
    done = use(tmp_path)
    assert isinstance(done.exception, StateError)
    assert "no such file" in str(done.exception) and "all of them share" in str(done.exception)


@pytest.mark.parametrize("there", [True, False])
def test_a_worker_takes_the_decision(there: bool, tmp_path: Path) -> None:
    """Durable before it is in force; refused where it cannot be read."""
    acc = stream("acc", "vibration", 2000)
    made = baseline_of(acc)
    folder = save(made, tmp_path) if there else tmp_path / "elsewhere"
    lane = Lane(LaneSettings(machine(acc), load=load))
    body = {"sensor": "acc", "baseline": made.settings, "path": str(folder)}
    written: list[Out] = []

    async def write(outs: list[Out]) -> list[int]:
        assert made.settings in lane.settings.artefacts
        written.extend(outs)
        return [0] * len(outs)

    async def holds(*_: object) -> bool:
        return bool(written)

    client: Any = SimpleNamespace(topic=str)
    outbox: Any = SimpleNamespace(write=write)
    ownership: Any = SimpleNamespace(holds=holds)
    part: Any = SimpleNamespace(lanes={"m": lane}, epoch=1, number=0)
    nothing: Any = SimpleNamespace(decisions=[])
    wish = Wish("m", "0.5", "baseline", body)
    results = asyncio.run(Commands(client, outbox, ownership).obey(part, wish, nothing, nothing))
    if there:
        assert not results and [out.topic for out in written] == ["decision"]
        assert [decision.body["baseline"] for decision in lane._decisions] == [made.settings]
    else:
        (letter,) = results
        assert isinstance(letter, DeadLetter) and "elsewhere" in letter.error and not written
