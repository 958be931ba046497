"""The demonstration's simulated machines: what is true in their sounds is alarmed, and they say what they are."""

from __future__ import annotations

import os
import signal
import socket
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import soundfile

import config as configuration
from config.schema import Status
from models.packages import load
from models.packages.shipped import locate
from pipeline.app import STATE_FILE, shelf_of
from pipeline.claim import claim
from pipeline.cli import demo
from pipeline.cli.demo import EXPECTED, prepare
from pipeline.errors import ConfigError, StateError
from pipeline.machine_models import configured
from pipeline.messages import NS, Alarm, Anchor, Chunk, MachineState, Rate, Stream
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from pipeline.web import try_port

DATA = Path(str(resources.files("pipeline.demo").joinpath("recordings")))
TRUTH = {"mill-simulated": ("chatter", 9.278, 13.5), "drill-simulated": ("drill_break", 16.696, 17.0)}
"""Detector, onset, and until when the alarm must have been raised, in s of the file."""


def settings_of(name: str, folder: Path) -> LaneSettings:
    """The lane of a machine of the demonstration."""
    out = prepare(folder, DATA, 0)
    return LaneSettings(next(m for m in configuration.load(out / "demo.toml").machines if m.name == name))


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_the_alarm_comes_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """Within the first minute, after the onset, with a reason in words; nothing before it."""
    lane = Lane(settings_of(name, tmp_path))
    sensor = lane.settings.machine.sensors[0]
    x, rate = soundfile.read(DATA / f"simulated-{name.split('-')[0]}.flac", dtype="int16", always_2d=True)
    assert rate == sensor.rate_hz
    stream = Stream(name, sensor.name, 0, "acoustic", Rate(rate), 1, "<i2", "FS", 2.0**-15)
    step = round(0.1 * rate)
    said = [
        result
        for i in range(0, len(x), step)
        for result in lane.process(Chunk(stream, Anchor(0, 0), i, i // step, x[i : i + step]))
    ]
    raised = [alarm for alarm in said if isinstance(alarm, Alarm) and alarm.transition == "raised"]
    detector, onset_s, until_s = TRUTH[name]
    assert [alarm.detector for alarm in raised] == [detector]
    assert onset_s < raised[0].t_ns / NS < until_s
    assert ("next stable speeds" if detector == "chatter" else "of the cutting energy lost") in raised[0].text


def test_credits_tell_the_truth_of_the_simulated_sounds() -> None:
    """With the seed that makes them again."""
    credits_of = tomllib.loads((DATA.parent / "credits.toml").read_text())["recording"]
    told = {c["files"]: c["credit"] for c in credits_of}
    for name, (_, onset_s, _) in TRUTH.items():
        credit = told[f"simulated-{name.split('-')[0]}.flac"]
        assert "simulated (seed 20)" in credit
        assert f"{onset_s:.3f} s" in credit


def test_they_are_expected_small_and_named_as_what_they_are() -> None:
    """A few hundred kB each; every machine that is not real says so in its name."""
    simulated = {machine for machine, _ in EXPECTED if machine.endswith("-simulated")}
    assert simulated == set(TRUTH)
    assert sum(path.stat().st_size for path in DATA.glob("simulated-*.flac")) < 3_000_000


def test_the_lathe_tells_states_from_an_embedding(tmp_path: Path) -> None:
    """Normal, then too fast, by the shipped encoder and a head that reads it and was taught on other seconds."""
    out = prepare(tmp_path, DATA, 0)
    settings = configuration.load(out / "demo.toml")
    machine = next(m for m in settings.machines if m.name == "lathe")
    assert machine.model is not None
    models = configured("lathe", machine.model, shelf_of(settings))
    ((name, digest),) = models.first.active.heads
    assert name == "state"
    head = models.shelf.get(digest).card
    assert head.encoder == models.first.active.encoder == load(locate("impact-small")).digest
    assert head.training["clips"] == {"normal": 60, "too_fast": 60}
    lane = Lane(LaneSettings(machine, models=models))
    for file, state in (("normal", "normal"), ("too-fast", "too_fast")):
        x, rate = soundfile.read(DATA / f"lathe-play-{file}.flac", dtype="int16", always_2d=True, frames=8 * 32_000)
        epoch = 0 if file == "normal" else 1
        stream = Stream("lathe", "microphone", epoch, "acoustic", Rate(rate), 1, "<i2", "FS", 2.0**-15)
        anchor = Anchor(0, epoch * 60 * NS)
        said = []
        for i in range(0, len(x), rate):
            said += lane.process(Chunk(stream, anchor, i, i // rate, x[i : i + rate]))
            said += lane.collect()
        told = [r.state for r in said if isinstance(r, MachineState)]
        assert told[-1] == state


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual one gives way to a free one; one that was asked for is refused before anything is removed."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert configuration.load(prepare(tmp_path, DATA, 0) / "demo.toml").status.port == 0
        kept = tmp_path / "recordings" / "former.mcap"
        kept.parent.mkdir()
        kept.touch()
        with pytest.raises(ConfigError, match=rf"--port {taken}: Address already in use: choose another"):
            prepare(tmp_path, DATA, taken)
        assert kept.exists()
        (tmp_path / "demo.toml").unlink()
        monkeypatch.setattr(demo, "try_port", lambda host, _: try_port(host, taken))
        assert configuration.load(prepare(tmp_path, DATA, None) / "demo.toml").status.port == 0
        assert not kept.exists()
    monkeypatch.setattr(demo, "try_port", lambda host, _: try_port(host, 0))
    assert configuration.load(prepare(tmp_path, DATA, None) / "demo.toml").status.port == demo.PORT == Status().port


def test_a_second_one_in_the_same_folder(tmp_path: Path) -> None:
    """Told to take another `--out`: nobody writes the demonstration's configuration."""
    state = tmp_path / "state" / STATE_FILE
    there = os.fork()
    if there == 0:
        with claim(state):
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(there, os.WUNTRACED)
        with pytest.raises(
            StateError, match=rf"process {there}\): end that one first, or give this one another --out$"
        ):
            prepare(tmp_path, DATA, 0)
    finally:
        os.kill(there, signal.SIGKILL)
        os.waitpid(there, 0)
