"""Bad clips, manifests and packages against the commands that learn and judge, as a person meets them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import models.probe.run
from models.packages import load
from pipeline.cli.main import main
from tests.models.probe.rig import encoder, manifest, sound

TONES = {"idle": 300.0, "cutting": 2500.0}
UNUSABLE = {
    "silent.wav": "silent clips were left out",
    "short.wav": "0.20 s is less than half a window of a second",
    "nan.wav": "holds a number that is not finite",
    "inf.wav": "holds a number that is not finite",
    "gone.wav": "there is no file",
    "text.wav": "is no readable WAV or FLAC file",
    "wrong-rate.wav": "has 22050 Hz, but 44100 Hz was declared",
}
"""Recording → what is said of it."""
USABLE = ("clipped.wav", "slow.wav", "stereo.wav")


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two states on three occasions of two seconds, and every kind of bad clip."""
    folder = tmp_path_factory.mktemp("shop")
    for label, hz in TONES.items():
        for g in range(3):
            sound(folder / f"{label}{g}.wav", 2.0, hz, seed=g)
    tone = 0.5 * np.sin(np.arange(96_000) * 2 * np.pi * 300 / 48_000)
    soundfile.write(folder / "silent.wav", np.zeros(96_000), 48_000)
    soundfile.write(folder / "clipped.wav", np.clip(5 * tone, -1, 1), 48_000)
    sound(folder / "short.wav", 0.2, 300.0)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        bad = tone.astype(np.float32)
        bad[5_000] = value  # no whole second lies before it
        soundfile.write(folder / f"{name}.wav", bad, 48_000, subtype="FLOAT")
    (folder / "text.wav").write_text("no sound at all")
    sound(folder / "wrong-rate.wav", 2.0, 300.0, rate=22_050)
    sound(folder / "slow.wav", 2.0, 300.0, rate=11_025)
    sound(folder / "stereo.wav", 2.0, 300.0, seed=9, channels=2)
    return folder


def rows(*bad: str) -> list[dict[str, object]]:
    """The good recordings, then bad ones under the label `idle`."""
    good = [(f"{label}{g}.wav", label) for label in TONES for g in range(3)]
    found: list[dict[str, object]] = [
        {"path": name, "label": label, "group": name, "rate_hz": ""}
        for name, label in (*good, *((name, "idle") for name in bad))
    ]
    for row in found:
        row["rate_hz"] = 44_100 if row["path"] == "wrong-rate.wav" else ""
    return found


@pytest.fixture(scope="module")
def head(shop: Path) -> Path:
    """Taught on the good recordings."""
    m = manifest(shop / "good.csv", rows())
    assert run("train", "head", "--manifest", m, "--encoder", "logmel", "--kind", "linear", "--out", shop / "head") == 0
    return shop / "head"


# clips --------------------------------------------------------------------------------------------------------------


def test_a_head_learns_from_what_is_usable(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each unusable clip is named on the card, in the report and on the screen; the others teach."""
    m = manifest(shop / "all.csv", rows(*UNUSABLE, *USABLE))
    args = ("--manifest", m, "--encoder", "logmel", "--kind", "linear", "--out", tmp_path / "head")
    assert run("train", "head", *args) == 0
    training = load(tmp_path / "head").card.training
    assert training["clips"] == {"cutting": 6, "idle": 6 + 2 * len(USABLE)}
    said, page = capsys.readouterr().out, (tmp_path / "head.html").read_text("utf-8")
    for name, why in UNUSABLE.items():
        (note,) = (note for note in training["notes"] if name in note)
        assert why in note and note in said and name in page
    assert any("clipped.wav: 2 clips reach full scale" in note for note in training["notes"])


def test_a_benchmark_judges_what_is_usable(shop: Path, tmp_path: Path) -> None:
    """The same notes stand in its summary."""
    m = manifest(shop / "all.csv", rows(*UNUSABLE, *USABLE))
    args = ("--manifest", m, "--head", "logistic", "--repeats", 2, "--out", tmp_path / "b")
    assert run("bench", "impact", *args) == 0
    (problem,) = json.loads((tmp_path / "b" / "summary.json").read_text("utf-8"))["problems"].values()
    assert problem["clips"] == 12 + 2 * len(USABLE)
    for name, why in UNUSABLE.items():
        assert any(name in note and why in note for note in problem["notes"])


def test_a_validation_scores_what_is_usable(
    shop: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every recording is scored, or named with the reason."""
    m = manifest(shop / "all.csv", rows(*UNUSABLE, *USABLE))
    assert run("validate", "--manifest", m, "--model", head, "--normal", "idle", "--out", tmp_path / "v") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(USABLE)} recordings scored, {len(UNUSABLE)} could not be" in said
    page = (tmp_path / "v" / "report.html").read_text("utf-8")
    for name, why in UNUSABLE.items():
        assert name in page and why.replace("silent clips were left out", "not silent") in page
    assert "not scored: silent.wav: " in said


def test_nothing_usable_at_all(shop: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and a sentence; no package, no figures."""
    bad = [{"path": name, "label": f"l{i % 2}", "group": name} for i, name in enumerate(("silent.wav", "nan.wav"))]
    m = manifest(shop / "bad.csv", bad)
    for command, says in (
        (("train", "head"), "no clip to learn from is usable"),
        (("bench", "impact"), "no clip could be used"),
        (("validate", "--model", head), "none of 2 recordings could be scored"),
    ):
        assert run(*command, "--manifest", m, "--out", tmp_path / "out") == 2
        assert says in " ".join(capsys.readouterr().err.split())
        assert not list(tmp_path.glob("out/summary.json")) and not list(tmp_path.glob("out/card.json"))


# manifests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["head", "bench", "validate"])
def test_manifests_without_sense(
    shop: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """An empty label, a column that lacks, no rows: the file, the line and the key."""
    with_command: dict[str, tuple[object, ...]] = {
        "head": ("train", "head"), "bench": ("bench", "impact"), "validate": ("validate", "--model", head),
    }  # fmt: skip
    texts = {
        "line 2, label = '': must not be empty": "path,label,group\nidle0.wav,,a\n",
        "the column 'group' is missing": "path,label\nidle0.wav,idle\n",
        "has no rows": "path,label,group\n",
        "no such file": "",
    }
    for i, (says, text) in enumerate(texts.items()):
        path = tmp_path / f"{i}.csv"
        if text:
            path.write_text(text)
        assert run(*with_command[command], "--manifest", path, "--out", tmp_path / "out") == 2
        said = " ".join(capsys.readouterr().err.split())
        assert says in said or (not text and str(path) in said), said
        assert not (tmp_path / "out").exists()


def test_one_class_or_one_occasion(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One class teaches and proves nothing; one occasion teaches, and no accuracy of it is told."""
    one_class = manifest(shop / "class.csv", [row for row in rows() if row["label"] == "idle"])
    one_group = manifest(shop / "group.csv", [row | {"group": "g"} for row in rows()])
    learn = ("train", "head", "--encoder", "logmel", "--kind", "linear", "--manifest")
    probe = ("bench", "impact", "--head", "logistic", "--repeats", 2, "--manifest")
    for command, m, says in (
        (learn, one_class, "all are labelled 'idle'; label two classes"),
        (probe, one_class, "all clips are labelled 'idle'; a probe needs two classes"),
        (probe, one_group, "the accuracy would mean nothing; add recordings of other occasions"),
    ):
        assert run(*command, m, "--out", tmp_path / "out") == 2
        assert says in " ".join(capsys.readouterr().err.split())
        assert not list(tmp_path.glob("out/summary.json")) and not list(tmp_path.glob("out/card.json"))
    assert run(*learn, one_group, "--out", tmp_path / "alone") == 0
    assert "No accuracy is reported" in (said := capsys.readouterr().out) and "mean F1" not in said
    assert load(tmp_path / "alone").card.scores["evaluation"] == "none, one occasion only"


def test_a_validation_says_what_its_figures_are_worth(
    shop: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label that was never taught counts as wrong, and one group gives no interval: both are said."""
    sound(shop / "odd.wav", 2.0, 7000.0)
    odd = [{"path": name, "label": label, "group": "g"} for name, label in (("stereo.wav", "idle"), ("odd.wav", "odd"))]
    m = manifest(tmp_path / "m.csv", [row | {"path": shop / str(row["path"])} for row in odd])
    assert run("validate", "--manifest", m, "--model", head, "--normal", "idle", "--out", tmp_path / "v") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Labels that the head was never taught count as wrong: odd" in said
    assert "All recordings are of one group, 'g': the figures say nothing about another" in said
    assert "macro_f1: 0.333 (too few groups, n = 2)" in said
    assert json.loads((tmp_path / "v" / "summary.json").read_text())["auc"]["low"] is None


# packages -----------------------------------------------------------------------------------------------------------


def of_another_version(folder: Path) -> Path:
    """The package with a card of a schema that is yet to come, its sums in order."""
    card = json.loads((folder / "card.json").read_text())
    data = json.dumps(card | {"schema": 99}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (folder / "card.json").write_bytes(data)
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    own = f"{hashlib.sha256(data).hexdigest()}  card.json"
    (folder / "SHA256SUMS").write_text("\n".join(own if line.endswith("card.json") else line for line in sums) + "\n")
    return folder


def test_packages_of_another_version(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused by every command that would read one, with both versions and the mend."""
    m = manifest(shop / "good.csv", rows())
    newer = of_another_version(encoder(tmp_path / "newer").folder)
    args = ("--manifest", m, "--out", tmp_path / "out")
    for command in (
        ("train", "head", "--encoder", newer),
        ("bench", "impact", "--encoder", newer),
        ("validate", "--model", newer),
        ("models", "verify", newer),
    ):
        code = run(*command, *(() if command[0] == "models" else args))
        told = capsys.readouterr()
        assert code in {1, 2}
        assert "schema 99, this version reads 1; upgrade stethos" in " ".join((told.out + told.err).split())
        assert not (tmp_path / "out").exists()


# stopped ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["models.probe.features.LogMelMean.vectors", "models.heads.export.graph"])
def test_a_training_that_is_stopped_leaves_no_half_package(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """While it hears the clips, or while it writes: exit 130, no package, and the same command does it again."""
    args = ("--encoder", "logmel", "--kind", "linear", "--out", tmp_path / "head")
    m = manifest(shop / "good.csv", rows())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        assert run("train", "head", "--manifest", m, *args) == 130
    assert not (tmp_path / "head").exists()
    assert run("train", "head", "--manifest", m, *args) == 0
    assert load(tmp_path / "head").card.labels == ("cutting", "idle") and (tmp_path / "head.html").exists()


def test_a_benchmark_that_is_stopped_goes_on_to_the_same_figures(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first of its models; what was left half written is made again."""
    m = manifest(shop / "good.csv", rows())
    args = ("bench", "impact", "--manifest", m, "--head", "logistic", "--repeats", 2, "--out")
    assert run(*args, tmp_path / "whole") == 0
    from pipeline.cli import bench_impact

    judged, real = [], models.probe.run.judge

    def judge(*of: object) -> object:
        judged.append(of)
        if len(judged) > 1:
            raise KeyboardInterrupt
        return real(*of)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(bench_impact, "judge", judge)
        assert run(*args, tmp_path / "cut") == 130
    assert not (tmp_path / "cut" / "summary.json").exists()
    (done,) = (tmp_path / "cut" / "runs").rglob("*.npz")
    (features,) = (tmp_path / "cut" / "features").rglob("*.npz")
    features.write_bytes(features.read_bytes()[:100])
    before = done.read_bytes()
    assert run(*args, tmp_path / "cut") == 0
    problems = [json.loads((tmp_path / n / "summary.json").read_text())["problems"] for n in ("whole", "cut")]
    assert problems[0] == problems[1] and done.read_bytes() == before
