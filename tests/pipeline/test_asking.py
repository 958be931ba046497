"""Asking an engine that does not answer: whether there is one is known without waiting for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from config.schema import Settings
from pipeline import asking
from pipeline.app import STATE_FILE
from pipeline.errors import StateError
from pipeline.state import Store
from tests.pipeline.test_claim import holding


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an engine that ran once."""
    machine = {"name": "m", "sensor": [{"name": "acc", "modality": "vibration", "rate_hz": 2000, "unit": "mg"}]}
    engine = {"state_dir": "state"}
    made = config.build({"schema_version": 1, "engine": engine, "machine": [machine]}, tmp_path / "c.toml")
    Store(made.engine.state_dir / STATE_FILE).close()
    return made


def asked(settings: Settings, wait_s: float) -> str:
    """Why nothing was decided."""
    with pytest.raises(StateError) as refused:
        asking.ask(settings, "m", "model", {"action": "promote"}, "embedded", wait_s)
    return str(refused.value)


def test_where_nothing_runs_that_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that the next start obeys: the command is there for it."""
    monkeypatch.setattr(asking, "GRACE_S", 0.05)
    state = settings.engine.state_dir / STATE_FILE
    assert asked(settings, 10.0).startswith(f"m: no engine runs on {state}; the command stays open for the next start")
    assert [command.machine for command in Store(state).open_commands()] == ["m"]


def test_an_engine_that_runs_has_its_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "GRACE_S", 0.05)
    with holding(settings.engine.state_dir / STATE_FILE):
        assert asked(settings, 0.3).startswith("m: no engine answered within 0.3 s; the command stays open")
