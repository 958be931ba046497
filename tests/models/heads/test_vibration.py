"""Heads and probes on an accelerometer, and heads on recordings of their own kind only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import config
from connectors.rates import exact_rate
from models.anomaly.chain import windows
from models.anomaly.vectors import extraction
from models.heads.vibration import misfit, width
from models.packages import VIBRATION, load
from models.probe.vibration import shakes
from pipeline import app
from pipeline.cli.main import main
from pipeline.clips import read_clip
from pipeline.manifest import read_manifest
from pipeline.messages import Anchor, Chunk, Embedding, MachineState, Rate, Stream
from pipeline.runner import Lane
from tests.models.anomaly.rig import ACC, SLOW, running
from tests.models.probe.rig import encoder, manifest, sound

TONES = {"good": 0.0, "bad": 430.0}


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


def write(path: Path, stream: Stream, tone_hz: float, start: int) -> None:
    """Two windows of four seconds, as the converters write them."""
    x = running(stream, 8.0, start, tone_hz=tone_hz)
    np.savez(path, x=x.reshape(2, -1, stream.channels), fs=stream.rate.hz)


def shop(folder: Path, stream: Stream = ACC, starts: int = 5) -> Path:
    """Recordings of two labels; the last start of each tests."""
    rows = []
    for label, tone in TONES.items():
        for i in range(starts):
            start = i + 50 * (label == "bad")
            write(folder / f"{label}{i}.npz", stream, tone * stream.rate.hz / 2000, start)
            row = {"path": f"{label}{i}.npz", "label": label, "group": f"{label}{i}", "modality": "vibration"}
            rows.append({**row, "unit": "mg", "split": "test" if i == starts - 1 else "train"})
    return manifest(folder / "m.csv", rows)


def test_vectors_are_those_of_the_anomaly_detector(tmp_path: Path) -> None:
    """Window by window of the live lane, both detectors side by side; their time counts from the recording."""
    write(tmp_path / "a.npz", ACC, 0.0, 0)
    row = read_manifest(
        manifest(
            tmp_path / "m.csv", [{"path": "a.npz", "label": "x", "group": "g", "modality": "vibration", "unit": "mg"}]
        )
    )[0]
    clip = read_clip(row)
    features = extraction(clip.stream)
    expected = [
        np.concatenate([found["anomaly"], found["level"]])
        for piece in clip.pieces
        for window in windows(clip.stream, features, piece.segments())
        if (found := features.vectors(window))
    ]
    shaken = [shake for piece in clip.pieces for shake in shakes(piece)]
    assert np.array_equal(np.stack([s.vector for s in shaken]), np.stack(expected))
    assert min(s.start_s for s in shakes(clip.pieces[1])) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("stream", [ACC, SLOW])
def test_from_recordings_to_a_judged_head(tmp_path: Path, stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, then validate the package on what was held out; the card names the accelerometer's features."""
    m = shop(tmp_path, stream)
    assert run("train", "head", "--manifest", m, "--kind", "linear", "--out", tmp_path / "head") == 0
    card = load(tmp_path / "head").card
    features = extraction(read_clip(read_manifest(m)[0]).stream)
    width = sum(len(d) for d in features.dimensions.values())
    assert (card.encoder, card.input.features, card.input.rate_hz) == ("vibration", features.hash, stream.rate.hz)
    assert card.input.shape == (width,) and card.labels == ("bad", "good") and card.training["c"] <= 1.0
    assert f"{stream.rate.hz:g} Hz" in card.input.preset
    out = tmp_path / "v"
    assert run("validate", "--manifest", m, "--model", tmp_path / "head", "--out", out) == 0
    assert "head head 1: 2 recordings scored" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["macro_f1"]["value"] == 1.0 and summary["auc"]["value"] == 1.0
    assert (out / "scores.csv").read_text().splitlines()[0].endswith(",bad,good")


def test_other_accelerometers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other rates or axes: by training, and by the head that was taught."""
    m = shop(tmp_path, starts=3)
    assert run("train", "head", "--manifest", m, "--kind", "linear", "--out", tmp_path / "head") == 0
    write(tmp_path / "slow.npz", SLOW, 0.0, 9)
    slow = {"path": "slow.npz", "label": "good", "group": "s", "modality": "vibration"}
    two = manifest(tmp_path / "two.csv", [{**slow, "path": "good0.npz"}, slow])
    assert run("train", "head", "--manifest", two, "--out", tmp_path / "other") == 2
    assert "3 axes at 50 Hz, good0.npz has 2 at 2000 Hz" in " ".join(capsys.readouterr().err.split())
    only = manifest(tmp_path / "only.csv", [slow])
    assert run("validate", "--manifest", only, "--model", tmp_path / "head", "--out", tmp_path / "v") == 2
    assert "is not what this head was taught on" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("stream", [ACC, SLOW], ids=["fast", "slow"])
def test_on_a_running_machine(tmp_path: Path, stream: Stream) -> None:
    """Taught from recordings, configured, running: the numbers that training read, and the state that was labelled."""
    m = shop(tmp_path, stream)
    assert run("train", "head", "--manifest", m, "--kind", "linear", "--out", tmp_path / "head") == 0
    (tmp_path / "s.toml").write_text(
        f"""schema_version = 1
[[machine]]
name = "lathe"
[machine.model]
every = 1
[[machine.model.head]]
package = "head"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = {stream.rate.hz:g}
unit = "mg"
channels = {stream.channels}
"""
    )
    (settings,) = app.plan(config.load(tmp_path / "s.toml")).lanes
    live = replace(stream, machine="lathe", unit="mg")
    for label, tone in TONES.items():
        x = running(stream, 12.0, 77, tone_hz=tone * stream.rate.hz / 2000)
        np.savez(tmp_path / "fresh.npz", x=x, fs=stream.rate.hz)
        row = {"path": "fresh.npz", "label": "x", "group": "g", "modality": "vibration", "unit": "mg"}
        (piece,) = read_clip(read_manifest(manifest(tmp_path / "one.csv", [row]))[0]).pieces
        lane, found = Lane(settings), []
        for at in range(0, len(x), 333):
            found += lane.process(Chunk(live, Anchor(0, 10**18), at, 0, x[at : at + 333]))
        live_vectors = np.stack([r.values for r in found if isinstance(r, Embedding)])
        read = np.stack([shake.vector for shake in shakes(piece)])
        assert len(live_vectors) >= 9 and np.array_equal(live_vectors, read[: len(live_vectors)])
        assert {r.state for r in found if isinstance(r, MachineState)} == {label}


def test_a_head_taught_at_a_rounded_rate_fits_the_fraction_that_was_meant() -> None:
    """1666.667 Hz was that decimal in earlier versions; no other rate passes for it."""
    taught = replace(extraction(ACC), rate=Rate(1_666_667, 1000))
    made = SimpleNamespace(features=taught.hash, shape=(width(taught),), rate_hz=1666.667, preset="another rate")
    card: Any = SimpleNamespace(encoder=VIBRATION, input=made, training={"unit": "mg"})
    assert misfit(card, replace(taught, rate=exact_rate(1666.667, "rate_hz")), "mg") is None
    assert misfit(card, taught, "mg") is None
    assert misfit(card, replace(taught, rate=Rate(1666)), "mg") == "it reads another rate"


def test_units_are_part_of_what_was_taught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two units are refused; none is taken for recordings, and said to be of no use on a machine."""
    m = shop(tmp_path, starts=3)
    assert run("train", "head", "--manifest", m, "--kind", "linear", "--out", tmp_path / "head") == 0
    assert load(tmp_path / "head").card.training["unit"] == "mg"
    rows = m.read_text().splitlines()
    (tmp_path / "two.csv").write_text("\n".join([*rows[:-1], rows[-1].replace("mg", "g")]))
    assert run("train", "head", "--manifest", tmp_path / "two.csv", "--out", tmp_path / "two") == 2
    assert "differ in their unit" in capsys.readouterr().err
    (tmp_path / "g.csv").write_text("\n".join(row.replace("mg", "g") for row in rows))
    assert run("validate", "--manifest", tmp_path / "g.csv", "--model", tmp_path / "head", "--out", tmp_path / "v") == 2
    assert "is in g, this head was taught in mg" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "none.csv").write_text("\n".join(row.replace("mg", "") for row in rows))
    assert (
        run("train", "head", "--manifest", tmp_path / "none.csv", "--kind", "linear", "--out", tmp_path / "none") == 0
    )
    assert "No unit was told" in capsys.readouterr().out
    assert "unit" not in load(tmp_path / "none").card.training


def test_manifests_with_both_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left out in silence."""
    rows = []
    for label, tone in TONES.items():
        for i in range(2):
            sound(tmp_path / f"{label}{i}.wav", 2.0, 300.0 + tone, seed=i)
            write(tmp_path / f"{label}{i}.npz", ACC, tone, i)
            rows += [{"path": f"{label}{i}.{s}", "label": label, "group": f"{label}{i}"} for s in ("wav", "npz")]
    m = manifest(tmp_path / "m.csv", rows)
    for command in (("train", "head"), ("bench", "impact")):
        assert run(*command, "--manifest", m, "--out", tmp_path / "out") == 2
        assert "choose by --modality" in " ".join(capsys.readouterr().err.split())
    args = ("--manifest", m, "--kind", "linear", "--encoder", "logmel", "--out")
    assert run("train", "head", "--modality", "vibration", *args, tmp_path / "v") == 0
    assert "4 rows are no vibration and were left out" in capsys.readouterr().out
    assert run("train", "head", "--modality", "sound", *args, tmp_path / "s") == 0
    assert [load(tmp_path / name).card.encoder for name in "vs"] == ["vibration", "logmel"]


def test_probes_on_vibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both protocols with the accelerometer's features as baseline; encoders are refused."""
    m = shop(tmp_path, starts=4)
    args = ("bench", "impact", "--manifest", m, "--out", tmp_path / "out", "--head", "logistic", "--repeats", 2)
    assert run(*args) == 0
    protocols = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "logmel + logistic" in json.dumps(protocols)
    assert "machine, leak-free (groups)" in capsys.readouterr().out
    assert run(*args, "--encoder", encoder(tmp_path / "tiny").folder) == 2
    assert "encoders hear sound" in capsys.readouterr().err
