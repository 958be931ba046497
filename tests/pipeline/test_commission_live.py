"""`stethos commission --live` looks whether anything runs before it waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal
from models.anomaly.store import load_all
from pipeline import live_commissioning
from pipeline.app import STATE_FILE
from pipeline.cli import learn
from pipeline.cli.main import main
from pipeline.clips import read_clip
from pipeline.errors import BadInput, StateError
from pipeline.manifest import Row
from pipeline.messages import NS, Alarm, Rate, Record
from pipeline.results import record_of
from pipeline.state import Store

CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "mg"
"""


def commission(config: Path, minutes: float = 30.0) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as done:
        main(["commission", "--live", "--minutes", str(minutes), "--config", str(config)])
    return int(done.value.code or 0)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that nothing runs on."""
    monkeypatch.setattr(learn, "_SIGN_S", 0.5)
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


def test_without_a_state_a_recording_or_an_engine(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It does not wait for half an hour to say so."""
    began = time.monotonic()
    assert commission(config) == 2
    assert "no such file: start `stethos run`" in capsys.readouterr().err
    Store(config.parent / "state" / STATE_FILE).close()
    assert commission(config) == 2
    assert "no engine works on it: start `stethos run`" in capsys.readouterr().err
    config.write_text(CONFIG + "[recording]\nenabled = false\n")
    assert commission(config) == 2
    assert "recording.enabled is false" in capsys.readouterr().err
    assert time.monotonic() - began < 60.0


def test_an_engine_that_works_is_waited_for(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counters move."""
    store = Store(config.parent / "state" / STATE_FILE)
    sleep = time.sleep

    def slept(seconds: float) -> None:
        store.put_metrics("shard-0", {"counts": {"x": 1}})
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", slept)
    monkeypatch.setattr(live_commissioning, "commission_live", lambda *_: ["learned"])
    assert commission(config, 0.03) == 0


def test_an_engine_that_ends_meanwhile_is_noticed(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is learned: it would be what was recorded before the command."""
    store = Store(config.parent / "state" / STATE_FILE)
    sleep, until = time.sleep, time.monotonic() + 1.0

    def slept(seconds: float) -> None:
        if time.monotonic() < until:
            store.put_metrics("shard-0", {"counts": {"x": time.monotonic_ns()}})
        sleep(min(seconds, 0.1))

    monkeypatch.setattr(time, "sleep", slept)
    monkeypatch.setattr(live_commissioning, "commission_live", lambda *_: ["learned"])
    assert commission(config) == 2
    assert "has ended or hangs; nothing was learned" in capsys.readouterr().err


def test_a_short_time_waits_for_a_sign_of_the_engine(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a baseline of an old run would be in force at the next start."""
    Store(config.parent / "state" / STATE_FILE).close()
    assert commission(config, 0.001) == 2
    assert "no engine works on it" in capsys.readouterr().err


def test_results_from_kafka_are_no_recordings(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would find nothing after half an hour; the line says what leads there."""
    store = Store(config.parent / "state" / STATE_FILE)
    sleep = time.sleep

    def slept(seconds: float) -> None:
        store.commit([Record(0, "health", "m", 1, f"m|{time.monotonic_ns()}", {})])
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", slept)
    assert commission(config) == 2
    assert "baseline use FOLDER --engine kafka" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--manifest", "m.csv"), ("--normal", "quiet")])
def test_what_belongs_to_a_manifest_is_refused(config: Path, capsys: pytest.CaptureFixture[str], more: Any) -> None:
    """It would be ignored."""
    with pytest.raises(SystemExit) as done:
        main(["commission", "--live", "--config", str(config), *more])
    assert done.value.code == 2
    assert "leave out --manifest and --normal" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Learns sensors of machine m from made-up recordings, none of the sensor `silent`; notes what is in force."""
    Store(tmp_path / STATE_FILE).close()
    forced: list[tuple[str, str]] = []
    asked: list[tuple[int, int]] = []

    def recorded(_folder: Path, machine: str, sensor: str, t0: int, t1: int) -> list[Normal]:
        asked.append((t0, t1))
        path = tmp_path / "x.npz"
        np.savez(path, x=np.random.default_rng(len(forced)).normal(size=(40_000, 1)))
        row = Row("x", path, "good", "g", machine, sensor, "vibration", Rate(2000))
        return [] if sensor == "silent" else [Normal("x", "g", "", read_clip(row).pieces)]

    def put_in_force(_settings: object, baseline: Baseline, _folder: Path) -> str:
        if baseline.sensor == "refused":
            raise StateError("the engine refused the baseline")
        forced.append((baseline.sensor, baseline.settings))
        return "in force"

    def learn(*sensors: str) -> Any:
        made = [SimpleNamespace(name=name, modality="vibration") for name in sensors]
        settings: Any = SimpleNamespace(
            engine=SimpleNamespace(state_dir=tmp_path), recording=SimpleNamespace(folder=tmp_path)
        )
        machines: Sequence[Any] = [SimpleNamespace(name="m", sensors=made)]
        return live_commissioning.commission_live(settings, machines, 20.0, tmp_path / "out", {"m": 500 * NS})

    monkeypatch.setattr(live_commissioning, "recorded", recorded)
    monkeypatch.setattr(live_commissioning, "put_in_force", put_in_force)
    return SimpleNamespace(learn=learn, forced=forced, asked=asked, out=tmp_path / "out", state=tmp_path / STATE_FILE)


def test_one_silent_sensor_leaves_everything_as_it_was(live: Any) -> None:
    """Nothing is in force and nothing is written before all have been learned."""
    with pytest.raises(BadInput, match="m/silent: nothing recorded"):
        list(live.learn("a", "silent"))
    assert live.forced == [] and not live.out.exists()


def test_what_was_learned_last_is_the_folders_current_baseline(live: Any) -> None:
    """As after `commission --manifest`."""
    for _ in range(2):
        list(live.learn("a"))
        assert load_all(live.out)["m", "a"].settings == live.forced[-1][1]
    assert len(set(live.forced)) == 2


def test_what_is_in_force_is_said_before_another_is_refused(live: Any) -> None:
    """The first sensor's result is not lost with the second's."""
    said: list[str] = []
    with pytest.raises(StateError, match="refused"):
        said.extend(live.learn("a", "refused"))
    assert "in force" in said


@pytest.mark.parametrize(("newest_s", "first_s"), [(600, 580), (510, 500)])
def test_only_what_came_behind_the_command_is_learned(live: Any, newest_s: int, first_s: int) -> None:
    """The last 20 s, or what there is of them since it was given; an alarm that stands is told."""
    store = Store(live.state)
    raised = Alarm("m", ("a",), "level", newest_s * NS, "raised", 0, newest_s * NS, "warning", "x", 2.0, 1.0, "s")
    store.commit([record_of(raised)])
    store.enrol({"m": ["a"]}, {})
    said = list(live.learn("a"))
    assert live.asked == [(first_s * NS, newest_s * NS)]
    assert "an alarm stands" in said[0]
