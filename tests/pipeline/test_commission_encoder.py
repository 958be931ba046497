"""`stethos commission --encoder`: the embedding beside the log-Mel where left-out starts allow it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.anomaly.chain import windows
from models.anomaly.embedding import EmbeddingScore
from models.anomaly.store import load_all
from models.anomaly.vectors import extraction
from models.impact.pooling import pool
from pipeline.cli.main import main
from pipeline.clips import read_clip
from pipeline.manifest import read_manifest
from tests.models.probe.rig import encoder, manifest, sound


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


def starts(folder: Path, count: int) -> Path:
    """Recordings of normal running, one a start, and two of a strange tone to score."""
    rows = []
    for i in range(count + 2):
        label = "good" if i < count else "bad"
        sound(folder / f"{i}.wav", 8.0, 400.0 if label == "good" else 5000.0, seed=i)
        split = "train" if i < count else "test"
        rows.append({"path": f"{i}.wav", "label": label, "group": f"start {i}", "split": split, "machine": "m"})
    return manifest(folder / "m.csv", rows)


@pytest.mark.parametrize(("count", "joins"), [(3, True), (1, False)])
def test_left_out_starts_decide(tmp_path: Path, count: int, joins: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Starts alike: it joins, under the package's digest. One start: it stays out. Both are said in a sentence."""
    tiny = encoder(tmp_path / "tiny")
    m = starts(tmp_path, count)
    out = tmp_path / "baselines"
    assert run("commission", "--manifest", m, "--encoder", tiny.folder, "--pooling", "mean", "--out", out) == 0
    (baseline,) = load_all(out).values()
    said = " ".join(capsys.readouterr().out.split())
    assert ("The embedding judges beside the log-Mel" in said) == joins
    assert ("The embedding was left out" in said) == (not joins)
    assert (baseline.encoder, baseline.pooling) == ((tiny.digest, "mean") if joins else ("", ""))
    args = ("validate", "--manifest", m, "--baseline", out, "--out", tmp_path / "v")
    assert run(*args) == 0
    assert (f"package {tiny.digest[:16]}, is not at hand" in " ".join(capsys.readouterr().out.split())) == joins
    assert json.loads((tmp_path / "v" / "summary.json").read_text())["recall"]["value"] == 1.0


def test_the_embedding_is_judged_as_in_the_lane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its encoder at hand: every second window, by the scores that the operator gives to the same embedding."""
    tiny = encoder(tmp_path / "tiny")
    m = starts(tmp_path, 3)
    out, figures = tmp_path / "baselines", tmp_path / "v"
    assert run("commission", "--manifest", m, "--encoder", tiny.folder, "--pooling", "mean", "--out", out) == 0
    args = ("validate", "--manifest", m, "--baseline", out, "--search", tiny.folder, "--out", figures)
    assert run(*args) == 0
    assert "embedding was judged on every 2nd window" in " ".join(capsys.readouterr().out.split())
    with (figures / "scores.csv").open() as file:
        told = [row for row in csv.DictReader(file) if row["path"] == "3.wav"]
    (baseline,) = load_all(out).values()
    (row,) = [row for row in read_manifest(m) if row.name == "3.wav"]
    clip = read_clip(row)
    scorer = EmbeddingScore(baseline, tiny.digest, "mean", lambda _: row.state)
    found = [w for piece in clip.pieces for w in windows(clip.stream, extraction(clip.stream), piece.segments())][::2]
    images = np.stack([window.values for window in found])
    tokens = tiny.session().run(images[:, None])["tokens"]
    assert tiny.card.grid is not None
    x = pool(tokens, "mean", tiny.card.grid, tiny.card.cls, images)
    own = [next(iter(scorer.process(replace(w, values=v)))) for w, v in zip(found, x, strict=True)]
    said = [float(row["score"]) for row in told if row["detector"] == "embedding"]
    assert said == pytest.approx([score.value for score in own])
    assert {row["detector"] for row in told} == {"anomaly", "level", "embedding"}
    assert run(*args, "--detector", "embedding") == 0
    with (figures / "scores.csv").open() as file:
        assert {row["detector"] for row in csv.DictReader(file)} == {"embedding"}
    assert run("validate", "--manifest", m, "--baseline", out, "--detector", "embedding", "--out", figures) == 2
    assert "its encoder is not at hand" in " ".join(capsys.readouterr().err.split())


def test_wrong_encoders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with the reason, nothing written."""
    m = starts(tmp_path, 2)
    args = ("commission", "--manifest", m, "--out", tmp_path / "b", "--encoder")
    assert run(*args, "no-such") == 2
    assert "no model package" in " ".join(capsys.readouterr().err.split())
    assert run(*args, encoder(tmp_path / "slow", rate_hz=16_000).folder) == 2
    assert "reads sound at 16000 Hz" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "b").exists()


def test_vibration_is_said_to_be_learned_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sensor that no encoder hears is named; where there is no other, the command is refused before it begins."""
    tiny, m = encoder(tmp_path / "tiny"), starts(tmp_path, 2)
    rng = np.random.default_rng(0)
    for n in range(2):
        np.savez(tmp_path / f"{n}.npz", x=rng.normal(size=(24_000, 3)).astype(np.float32), fs=2000)
    shaking = [{"path": f"{n}.npz", "label": "good", "group": f"v{n}", "unit": "m/s2", "machine": "m"} for n in (0, 1)]
    with m.open(newline="", encoding="utf-8") as file:
        both = manifest(tmp_path / "both.csv", [*csv.DictReader(file), *shaking])
    end = ("--encoder", tiny.folder, "--out", tmp_path / "baselines")
    assert run("commission", "--manifest", manifest(tmp_path / "v.csv", shaking), *end) == 2
    assert "encoders hear sound; leave out --encoder" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "baselines").exists()
    assert run("commission", "--manifest", both, *end) == 0
    assert "m/vibration: vibration, which no encoder hears" in capsys.readouterr().out


def test_a_name_that_no_configuration_can_say_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At once, and not when the baseline is to be used."""
    sound(tmp_path / "a.wav", 8.0, 400.0)
    rows = [{"path": "a.wav", "label": "good", "group": "a", "machine": "Fräse 1"}]
    m = manifest(tmp_path / "m.csv", rows)
    assert run("commission", "--manifest", m, "--out", tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "No configuration can name the machine 'Fräse 1'" in said and "the sensor" not in said
