"""`stethos validate --model`: a head on sound judges recordings; what it cannot judge is refused or named."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.heads.head import softmax
from models.packages import load
from operators.logmel import clip
from operators.mel import PAPER
from pipeline.cli.main import main
from pipeline.contents import contents_of, held
from pipeline.manifest import read_manifest
from tests.models.probe.rig import encoder, manifest, sound

TONES = {"idle": 300.0, "cutting": 2500.0, "chatter": 7000.0}


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three states on three occasions each, a head on the log-Mel and one on a tiny encoder."""
    folder = tmp_path_factory.mktemp("taught")
    rows = []
    for label, tone in TONES.items():
        for g in range(3):
            sound(folder / f"{label}{g}.wav", 3.0, tone, seed=g)
            rows.append({"path": f"{label}{g}.wav", "label": label, "group": f"{label}{g}"})
    m = manifest(folder / "m.csv", rows)
    tiny = encoder(folder / "encoders" / "tiny")
    for name, reads in (("plain", "logmel"), ("learned", tiny.folder)):
        args = ("--encoder", reads, "--pooling", "band", "--kind", "linear", "--out", folder / "heads" / name)
        assert run("train", "head", "--manifest", m, *args) == 0
    for label, tone in TONES.items():
        for seed in (7, 11):
            sound(folder / f"new-{label}{seed}.wav", 3.0, tone, seed=seed)
            rows.append({"path": f"new-{label}{seed}.wav", "label": label, "group": f"new {label}{seed}"})
    manifest(folder / "new.csv", rows)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_only_groups_that_it_did_not_learn_from_are_judged(taught: Path, tmp_path: Path) -> None:
    """Six new recordings of nine known ones; probabilities are the head's own, the score what is not normal."""
    model = taught / "heads" / "plain"
    args = ("--model", model, "--normal", "idle,cutting", "--out", tmp_path)
    assert run("validate", "--manifest", taught / "new.csv", *args) == 0
    recordings = table(tmp_path / "recordings.csv")
    assert [r["path"][:4] for r in recordings] == ["new-"] * 6
    assert [(r["decision"], r["windows"]) for r in recordings] == [(r["label"], "3") for r in recordings]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["macro_f1"]["value"] == summary["auc"]["value"] == 1.0 and summary["auc"]["n"] == 6
    x = soundfile.read(taught / "new-chatter7.wav", dtype="float32")[0][48_000:96_000]
    package = load(model)
    p = softmax(package.session().run(clip(x, 48_000, PAPER).values.mean(axis=1)[None])["logits"].astype(float))[0]
    row = next(r for r in table(tmp_path / "scores.csv") if r["path"] == "new-chatter7.wav" and "2000" in r["t_end_ns"])
    assert [float(row[label]) for label in package.card.labels] == pytest.approx(p.tolist(), abs=1e-4)
    assert float(row["score"]) == pytest.approx(p[list(package.card.labels).index("chatter")], abs=1e-4)


def test_what_taught_is_known_again_from_another_folder(taught: Path, tmp_path: Path) -> None:
    """By content where the manifest gives other names and groups; other seconds of the same file are new."""
    rows = [
        {"path": taught / name, "label": "idle", "group": "", "start_s": start, "end_s": end}
        for name, start, end in (("idle0.wav", 0, 2), ("idle1.wav", "", ""), ("new-idle7.wav", 0, 2))
    ]
    m = manifest(tmp_path / "m.csv", rows)
    args = ("--model", taught / "heads" / "plain", "--normal", "idle", "--out", tmp_path / "v")
    assert run("validate", "--manifest", m, *args) == 0
    assert [Path(r["path"]).name for r in table(tmp_path / "v" / "recordings.csv")] == ["new-idle7.wav"]
    (row,) = (row for row in read_manifest(m) if row.path.name == "idle0.wav")
    parts = {end: contents_of([replace(row, start_s=1.0, end_s=end)]) for end in (1.5, None)}
    assert [held(row, parts[1.5]), held(replace(row, start_s=1.5), parts[1.5])] == [True, False]
    assert [held(replace(row, end_s=1.0), parts[None]), held(replace(row, end_s=None), parts[None])] == [False, True]


def test_the_encoder_must_be_at_hand(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found under --search, or beside the head; else the digest is named."""
    args = ("validate", "--manifest", taught / "new.csv", "--model", taught / "heads" / "learned", "--out", tmp_path)
    assert run(*args, "--search", taught / "encoders") == 0
    assert "head learned 1: 6 recordings scored" in capsys.readouterr().out
    assert run(*args) == 2
    digest = load(taught / "encoders" / "tiny").digest[:16]
    assert f"the model package {digest} is not found" in " ".join(capsys.readouterr().err.split())
    shutil.copytree(taught / "encoders" / "tiny", taught / "heads" / "tiny")
    assert run(*args) == 0


def test_what_cannot_be_judged_is_named(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Silence, samples that are not finite and vibration beside a good recording; an encoder is no head."""
    sound(tmp_path / "good.wav", 2.0, TONES["idle"], seed=9)
    soundfile.write(tmp_path / "silent.wav", np.zeros(96_000), 48_000)
    soundfile.write(tmp_path / "nan.wav", np.full((96_000, 1), np.nan, np.float32), 48_000, subtype="FLOAT")
    np.savez(tmp_path / "acc.npz", x=np.random.default_rng(0).normal(size=(8000, 3)), fs=2000)
    names = ("good.wav", "silent.wav", "nan.wav", "acc.npz", "gone.wav")
    m = manifest(tmp_path / "m.csv", [{"path": n, "label": "idle", "group": n} for n in names])
    args = ("validate", "--manifest", m, "--out", tmp_path / "v", "--model")
    assert run(*args, taught / "heads" / "plain") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 recordings scored, 4 could not be" in said
    for why in ("no second that is not silent", "not finite", "is not what this head was taught on", "no file"):
        assert why in said
    assert run(*args, taught / "encoders" / "tiny") == 2
    assert "is a encoder" not in (said := " ".join(capsys.readouterr().err.split())) and "judges by a head" in said


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((), "name --baseline DIR, --detector NAME or --model PKG"),
        (("--model", "h", "--detector", "chatter"), "--model judges alone"),
        (("--detector", "chatter", "--search", "x"), "--search is for the encoder"),
    ],
)
def test_forms_do_not_mix(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], why: str
) -> None:
    """Exit 2 and a sentence."""
    assert run("validate", "--manifest", taught / "m.csv", "--out", tmp_path, *more) == 2
    assert why in " ".join(capsys.readouterr().err.split())
