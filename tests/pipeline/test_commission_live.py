"""`stethos commission --live` looks whether anything runs before it waits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline import live_commissioning
from pipeline.app import STATE_FILE
from pipeline.cli import learn
from pipeline.cli.main import main
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
