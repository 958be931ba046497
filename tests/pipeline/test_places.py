"""Where recordings that are played go on after a restart: in the same files, never within others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import config as configuration
from connectors.base import Resume
from pipeline import app
from pipeline.clock import HostClock
from pipeline.live import Live
from pipeline.messages import Anchor
from pipeline.places import Places
from pipeline.state import Position, Store
from tests.signals import own_signals

__all__ = ["own_signals"]

RATE = 8000
KEY = ("lathe", "mic")
CONFIG = """schema_version = 1
[engine]
state_dir = "state"
[recording]
enabled = false
[status]
enabled = false
[[machine]]
name = "lathe"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 8000
unit = "FS"
source = { type = "playback", files = ["FILE"], speed = 0 }
"""


def levels(folder: Path, file: str) -> list[float]:
    """Run the configuration with this file; the levels of all windows that the state has of all runs, in dB."""
    (folder / "c.toml").write_text(CONFIG.replace("FILE", file))
    live = Live(app.plan(configuration.load(folder / "c.toml")), HostClock())
    live.run(None)
    live.close()
    store = Store(folder / "state" / "stethos.sqlite")
    features = [r.body["values"] for r in store.read(0, ["feature"]) if r.body["name"] == "level"]
    found = [values["level_db"] for values in features if values]
    store.close()
    return found


def sine(path: Path, seconds: float, amplitude: float) -> None:
    """A file of one level."""
    t = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, amplitude * np.sin(2 * np.pi * 440.0 * t), RATE, subtype="PCM_16")


def test_another_file_is_played_from_its_start(tmp_path: Path) -> None:
    """As long as the one before, longer, or the same name written anew; the same file is not played twice."""
    sine(tmp_path / "monday.wav", 6.0, 0.5)
    sine(tmp_path / "tuesday.wav", 6.0, 0.05)
    monday = levels(tmp_path, "monday.wav")
    assert len(monday) >= 4
    assert levels(tmp_path, "monday.wav") == monday
    both = levels(tmp_path, "tuesday.wav")
    assert len(both) == 2 * len(monday)
    assert min(monday) - max(both[len(monday) :]) == pytest.approx(20.0, abs=0.5)
    sine(tmp_path / "tuesday.wav", 6.0, 0.005)
    os.utime(tmp_path / "tuesday.wav", (1.0, 1.0))
    assert len(levels(tmp_path, "tuesday.wav")) == 3 * len(monday)


class Tape:
    """A source that says what it plays."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def contents(self) -> dict[tuple[str, str], str]:
        """One stream."""
        return {KEY: self.digest}


def test_a_run_that_stored_nothing_begins_anew_once_more(tmp_path: Path) -> None:
    """The position of the files before holds no longer, whatever came of the run that noticed; devices just go on."""
    store = Store(tmp_path / "s.sqlite")
    there = Position(*KEY, 0, 700, Anchor(0, 5), True)
    assert Places(store, [Tape("a"), object()]).begin() == {}
    store.commit([], None, [there, Position("lathe", "acc", 3, 40, Anchor(0, 5), False)])
    goes_on = {KEY: Resume(0, Anchor(0, 5), 700), ("lathe", "acc"): Resume(3, Anchor(0, 5), 40)}
    assert Places(store, [Tape("a")]).begin() == goes_on
    for _ in range(2):
        places = Places(store, [Tape("b")])
        assert places.begin()[KEY] == Resume(1, Anchor(0, 0), 0, fresh=True)
        assert set(places.now()) == {("lathe", "acc")}
    assert Places(store, [Tape("c")]).begin()[KEY].epoch == 2
    store.commit([], None, [Position(*KEY, 2, 10, Anchor(0, 9), False)])
    places = Places(store, [Tape("c")])
    assert places.begin()[KEY] == places.now()[KEY] == Resume(2, Anchor(0, 9), 10)
    store.close()


def test_where_a_device_was_is_no_place_in_a_recording(tmp_path: Path) -> None:
    """Under the same name, before the recording was ever played, or between two times that it was."""
    store = Store(tmp_path / "s.sqlite")
    store.commit([], None, [Position(*KEY, 4, 900, Anchor(0, 5), False)])
    assert Places(store, [Tape("a")]).begin()[KEY] == Resume(5, Anchor(0, 0), 0, fresh=True)
    store.commit([], None, [Position(*KEY, 5, 300, Anchor(0, 7), False)])
    assert Places(store, [Tape("a")]).begin()[KEY] == Resume(5, Anchor(0, 7), 300)
    assert Places(store, [object()]).begin()[KEY] == Resume(5, Anchor(0, 7), 300)
    store.commit([], None, [Position(*KEY, 6, 4800, Anchor(0, 8), False)])  # what the device has said
    assert Places(store, [Tape("a")]).begin()[KEY] == Resume(7, Anchor(0, 0), 0, fresh=True)
    store.close()
