"""`stethos commission --live --encoder`: of the encoder that the machine runs, refused before anybody waits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import config
from models.anomaly.commission import Normal
from models.anomaly.store import load_all
from pipeline import app, live_commissioning
from pipeline.cli import learn
from pipeline.cli.main import main
from pipeline.messages import NS, Chunk, Decision
from pipeline.state import Store
from tests.engines.scenarios import chunks, learned_folder, normal_noise, stream

MIC, SHAKER = stream("mic", "acoustic", 32000), stream("acc", "vibration", 2000)
CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[[machine]]
name = "m"
[machine.model]
encoder = "encoder-1"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 32000
unit = "FS"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "m/s2"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that runs the first of two encoders, on a state that nothing works on."""
    for number in (1, 2):
        shutil.copytree(learned_folder() / f"encoder-{number}", tmp_path / f"encoder-{number}")
    (tmp_path / "c.toml").write_text(CONFIG)
    Store(tmp_path / "state" / app.STATE_FILE).close()
    monkeypatch.setattr(learn, "_SIGN_S", 0.1)
    return tmp_path


def commission(site: Path, encoder: str, *more: str) -> int:
    """The command's exit code."""
    named = str(site / encoder) if (site / encoder).is_dir() else encoder
    line = ["commission", "--live", "--minutes", "0.001", "--encoder", named, "--config", str(site / "c.toml"), *more]
    with pytest.raises(SystemExit) as done:
        main(line)
    return int(done.value.code or 0)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_what_the_engine_would_refuse_is_refused_at_once(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another encoder, another pooling, a machine without a model; what fits gets as far as the engine."""
    assert commission(site, "encoder-2") == 2
    assert "machine 'm' runs the encoder" in told(capsys)
    assert commission(site, "encoder-1", "--pooling", "mean") == 2
    assert "name that one and its --pooling" in told(capsys)
    assert commission(site, "encoder-1") == 2
    assert "no engine works on it" in told(capsys)
    (site / "c.toml").write_text(CONFIG.replace('[machine.model]\nencoder = "encoder-1"\n', ""))
    assert commission(site, "encoder-1") == 2
    assert "no machine embeds a sensor of sound" in told(capsys)


def test_the_encoder_is_the_one_that_was_promoted(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file says what ran first."""
    models = app.plan(config.load(site / "c.toml")).lanes[0].models
    assert models is not None
    body = models.verify({"action": "promote", "packages": [{"path": str(site / "encoder-2")}]})
    store = Store(site / "state" / app.STATE_FILE)
    store.decide(Decision("m", "m|model|1", NS, "model", body))
    store.close()
    assert commission(site, "encoder-1") == 2
    assert "machine 'm' runs the encoder" in told(capsys)
    assert commission(site, "encoder-2") == 2
    assert "no engine works on it" in told(capsys)


def test_restarts_of_the_sensor_are_starts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding joins, the lane takes what was learned, and vibration is learned without."""

    def recorded(_folder: Path, _machine: str, sensor: str, _t0: int, _t1: int) -> list[Normal]:
        of, found = (MIC if sensor == "mic" else SHAKER), []
        for epoch in range(3):
            s = replace(of, epoch=epoch)
            parts = tuple(cast("list[Chunk]", chunks(s, normal_noise(s, 12.0, epoch))))
            found.append(Normal(f"m/{sensor} #{epoch}", f"epoch {epoch}", "", (live_commissioning.Stretch(s, parts),)))
        return found

    monkeypatch.setattr(live_commissioning, "recorded", recorded)
    monkeypatch.setattr(live_commissioning, "put_in_force", lambda *_: "in force")
    settings = config.load(site / "c.toml")
    embedder = learn._embedder(str(site / "encoder-1"), "band")
    heard = live_commissioning.heard_by(settings, settings.machines, embedder)
    assert list(heard) == [("m", "mic")]
    said = list(live_commissioning.commission_live(settings, settings.machines, 36.0, site / "out", {"m": 0}, heard))
    assert said[0].startswith("m/acc: the engine makes no embedding of it")
    assert any("The embedding judges beside the log-Mel" in line for line in said)
    made = load_all(site / "out")
    assert (made["m", "mic"].encoder, made["m", "mic"].pooling) == (embedder.encoder, "band")
    assert made["m", "acc"].encoder == ""
    (lane,) = app.plan(settings).lanes
    for sensor in lane.machine.sensors:
        lane.check(sensor, made["m", sensor.name])
