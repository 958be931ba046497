"""`stethos commission --encoder`: the embedding beside the log-Mel where left-out starts allow it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.anomaly.store import load_all
from pipeline.cli.main import main
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
        sound(folder / f"{i}.wav", 8.0, 400.0 if label == "good" else 5000.0, seed=0 if label == "good" else i)
        split = "train" if i < count else "test"
        rows.append({"path": f"{i}.wav", "label": label, "group": f"start {i}", "split": split, "machine": "m"})
    return manifest(folder / "m.csv", rows)  # type: ignore[arg-type]


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
    assert run("validate", "--manifest", m, "--baseline", out, "--out", tmp_path / "v") == 0
    assert json.loads((tmp_path / "v" / "summary.json").read_text())["recall"]["value"] == 1.0


def test_live_and_wrong_encoders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with the reason, nothing written."""
    assert run("commission", "--live", "--encoder", "impact-small") == 2
    assert "--encoder needs --manifest" in " ".join(capsys.readouterr().err.split())
    m = starts(tmp_path, 2)
    args = ("commission", "--manifest", m, "--out", tmp_path / "b", "--encoder")
    assert run(*args, "no-such") == 2
    assert "no model package" in " ".join(capsys.readouterr().err.split())
    assert run(*args, encoder(tmp_path / "slow", rate_hz=16_000).folder) == 2
    assert "reads sound at 16000 Hz" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "b").exists()
