"""The drill classifier on a machine: loaded and refused, in a shard and its replay, alike on the hostile engine."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import config
from models.drill.export import write_classifier
from models.drill.levels import BANDS
from models.drill.live import CLASSIFIER
from models.logistic import Logistic
from models.packages import Package
from operators.breakage_detector import BREAK
from pipeline import app, drill_model, stages_physics
from pipeline.cli.replay import play
from pipeline.clock import ManualClock
from pipeline.errors import ConfigError, StateError
from pipeline.journal import write_journal
from pipeline.messages import Input, Record
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream

RATE = 48_000
MIC, ACC = stream("mic", "acoustic", RATE), stream("acc", "vibration", 8000)
HOLE_S = 1.6
BREAK_S = 5 * HOLE_S + 0.75
CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[status]
enabled = false
[[machine]]
name = "m"
  [machine.drill]
  classifier = "louder"
  rule = "both"
  [[machine.sensor]]
  name = "mic"
  modality = "acoustic"
  rate_hz = 48000
  unit = "FS"
"""


def louder(folder: Path, stream: bool = True, bands: int = BANDS) -> Package:
    """A fracture is what makes the mean of the bands 8 dB louder than 20 ms before."""
    model = Logistic(np.zeros(bands), np.ones(bands), np.full(bands, 1.0 / bands), -8.0)
    levels = np.random.default_rng(0).normal(0.0, 6.0, (50, bands))
    return write_classifier(folder, model, levels, {}, {}, stream=stream)


def drilling(fracture: bool = True) -> np.ndarray:
    """Five whole holes, one whose cutting noise ends with a burst of 3 ms (or without), and air. Counts."""
    t = np.arange(round(7 * HOLE_S * RATE)) / RATE
    into = t % HOLE_S
    level = np.where((into > 0.3) & (into < 1.4) & (t < 6 * HOLE_S), 0.05, 0.001)
    level[(t > BREAK_S) & (t < 6 * HOLE_S)] = 0.001
    if fracture:
        level[(t > BREAK_S) & (t < BREAK_S + 0.003)] = 0.9
    x = level * np.clip(np.random.default_rng(3).standard_normal(len(t)), -3.0, 3.0) / 3.0
    return np.round(x * 32767).astype("<i2")[:, None]


@cache
def log(fracture: bool) -> list[Input]:
    """What the microphone published, 20 ms at a time."""
    x = drilling(fracture)
    return [*chunks(MIC, x, 0.02), end(MIC, len(x))]


def lane_of(folder: Path, rule: str = "both", *sensors: object) -> LaneSettings:
    """Of a machine with a classifier."""
    if not (folder / "louder").exists():
        louder(folder / "louder")
    said = {"classifier": str(folder / "louder"), "rule": rule}
    announced = machine(*(sensors or (MIC,)), drill=said)  # type: ignore[arg-type]
    return LaneSettings(announced, classifier=drill_model.configured(announced, Shelf()))


def bodies(records: list[Record], topic: str, detector: str) -> list[dict[str, Any]]:
    """Results of a detector in order of time."""
    found = [r for r in records if r.topic == topic and r.body["detector"] == detector]
    return [dict(r.body) for r in sorted(found, key=lambda r: r.t_ns)]


def raised(records: list[Record], detector: str) -> list[float]:
    """When alarms of a detector were raised, in seconds."""
    alarms = bodies(records, "alarm", detector)
    return [(a["t_ns"] - T0) / 1e9 for a in alarms if a["transition"] == "raised"]


def test_a_break_that_both_heard_raises_its_alarm(tmp_path: Path) -> None:
    """Within 200 ms of the fracture; the classifier's advice stands beside it from the fracture on."""
    records = run_straight(lane_of(tmp_path), {"mic": log(True)})
    (stop,) = raised(records, BREAK)
    (advice,) = raised(records, CLASSIFIER)
    assert BREAK_S < advice < stop < BREAK_S + 0.2
    severities = {a["detector"]: a["severity"] for a in (r.body for r in records if r.topic == "alarm")}
    assert (severities[BREAK], severities[CLASSIFIER]) == ("critical", "advisory")


def test_a_loss_without_a_fracture_is_a_break_by_physics_alone(tmp_path: Path) -> None:
    """Under rule `both` it is told and not raised."""
    quiet = run_straight(lane_of(tmp_path), {"mic": log(False)})
    assert raised(quiet, BREAK) == raised(quiet, CLASSIFIER) == []
    assert any("classifier heard no fracture" in s["reasons"]["text"] for s in bodies(quiet, "score", BREAK))
    loud = run_straight(lane_of(tmp_path, "advisory"), {"mic": log(False)})
    assert len(raised(loud, BREAK)) == 1


@pytest.mark.parametrize("seed", range(2))
def test_the_hostile_engine_gives_the_same_answer(tmp_path: Path, seed: int) -> None:
    """Chunks cut at random, the lane rebuilt between messages."""
    settings = lane_of(tmp_path)
    straight = run_straight(settings, {"mic": log(True)})
    hostile = run_hostile(settings, {"mic": log(True)}, seed, rebuild=0.01)
    for topic in ("score", "alarm"):
        for detector in (BREAK, CLASSIFIER):
            assert bodies(hostile, topic, detector) == bodies(straight, topic, detector)


def test_sensors_that_it_cannot_hear_have_physics_alone(tmp_path: Path) -> None:
    """An accelerometer of 8 kHz beside the microphone."""
    settings = lane_of(tmp_path, "both", MIC, ACC)
    frames = [stages_physics.drill(settings, s) for s in (MIC, ACC)]
    assert [type(f._inner).__name__ for f in frames if f is not None] == ["LearnedFrames", "BreakFeatures"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration with its package."""
    louder(tmp_path / "louder")
    (tmp_path / "stethos.toml").write_text(CONFIG)
    return tmp_path


def test_a_shard_and_the_replay_of_its_recording_agree(site: Path) -> None:
    """The recording names the package by its hash, wherever it lies then; without it the replay says so."""
    plan = app.plan(config.load(site / "stethos.toml"))
    clock = ManualClock(T0)
    shard = app.ShardBuilder(plan, clock, record=True)("shard-0", plan.lanes)
    for message in log(True):
        shard.take(message)
        clock.sleep(0.02)
        shard.tick()
    shard.close()
    store = Store(plan.state)
    live = write_journal(store.journal_records(), site / "live.jsonl", {})
    assert f'"detector":"{CLASSIFIER}"' in (site / "live.jsonl").read_text()
    digest, _ = play((site / "recordings",), site / "replayed.jsonl")
    assert digest == live
    (site / "louder").rename(site / "away")
    with pytest.raises(StateError, match=r"model package [0-9a-f]{16} is not found"):
        play((site / "recordings",), site / "again.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"louder"', '"nowhere"', "is no folder"),
        ('"louder"', '"clips"', "not the level differences"),
        ('"louder"', '"few"', "not the level differences"),
        ("48000", "44100", "hears sound at 96000 or 48000 Hz, and no sensor has it"),
        ('"acoustic"', '"vibration"', "no sensor has it"),
        ('classifier = "louder"', "", "name its package"),
        ('"both"', '"always"', "rule"),
        ('rule = "both"', "threshold = 1.5", "threshold"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_starts(site: Path, old: str, new: str, says: str) -> None:
    """With the machine or the key, and the reason."""
    louder(site / "clips", stream=False)
    louder(site / "few", bands=7)
    text = (site / "stethos.toml").read_text()
    assert old in text
    (site / "stethos.toml").write_text(text.replace(old, new))
    with pytest.raises((ConfigError, StateError), match=re.escape(says)):
        app.plan(config.load(site / "stethos.toml"))
