"""The classifier as a package says what the classifier says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from models.drill.arms import NONE, Arm
from models.drill.classifiers import Bands
from models.drill.data import Sound, centred
from models.drill.export import train_classifier, write_classifier
from models.drill.train import Training
from models.packages import load
from pipeline.errors import BadInput


def test_package_gives_the_probabilities_of_the_model(sounds: list[Sound], tmp_path: Path) -> None:
    model, levels, scores = train_classifier(sounds, Arm("classical", 1.0), Training(), tmp_path / "work", folds=3)
    assert levels.shape == (48, 21)
    assert {"auc, none", "auc, classical 1x"} <= set(scores)
    made = write_classifier(tmp_path / "drill", model, levels, {"sounds": 24}, scores)
    package = load(tmp_path / "drill")
    assert package.digest == made.digest and package.card.kind == "classifier"
    x = Bands().features(list(centred(sounds)))
    logits = package.session().run(x.astype(np.float32))["logits"]
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], model.logit(x), atol=2e-3)


def test_command(folder: Path, tmp_path: Path) -> None:
    from pipeline.cli.train_drill import drill

    line = ["--sounds", str(folder), "--out", str(tmp_path / "drill"), "--folds", "3"]
    result = CliRunner().invoke(drill, line, standalone_mode=False)
    assert result.exception is None and "auc, none" in result.output
    assert load(tmp_path / "drill").card.training["added"] == "none"
    line[3] = str(tmp_path / "other")
    wrong = CliRunner().invoke(drill, [*line, "--arm", "vae 7x"], standalone_mode=False)
    assert isinstance(wrong.exception, BadInput)
    assert NONE.name == "none"


def test_what_cannot_be_trained_is_told_before_the_work(folder: Path, tmp_path: Path) -> None:
    """A package that is there, and options without a meaning."""
    from pipeline.cli.train_drill import drill

    (tmp_path / "drill").mkdir()
    line = ["--sounds", str(folder), "--out", str(tmp_path / "drill")]
    there = CliRunner().invoke(drill, line, standalone_mode=False)
    assert isinstance(there.exception, BadInput) and there.exception.reason == "exists"
    for option, value in (("--warm-up", "-3"), ("--stft", "-1"), ("--stft", "nan")):
        assert CliRunner().invoke(drill, [*line, option, value]).exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["drill"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("0.wav,good,other,,\n", "the same seconds of 0.wav"),
        ("0.wav,fracture,g0,0.5,train\n", "are labelled"),
        ("1.wav,good,g0,,test\n", "the group 'g0' stands in more than one split"),
    ],
)
def test_holes_that_would_be_learned_and_judged_are_refused(tmp_path: Path, more: str, message: str) -> None:
    from pipeline.cli.train_drill import drill

    (tmp_path / "m.csv").write_text(f"path,label,group,onset_s,split\n0.wav,good,g0,,train\n{more}")
    line = ["--manifest", str(tmp_path / "m.csv"), "--out", str(tmp_path / "drill")]
    wrong = CliRunner().invoke(drill, line, standalone_mode=False)
    assert isinstance(wrong.exception, BadInput) and wrong.exception.reason == "leak"
    assert message in str(wrong.exception)


def test_command_names_the_hole_that_cannot_teach(tmp_path: Path) -> None:
    from pipeline.cli.train_drill import drill

    soundfile.write(tmp_path / "hole.wav", np.zeros(192_000), 48_000)
    (tmp_path / "m.csv").write_text("path,label,group,start_s,onset_s\nhole.wav,fracture,a,2,1\n")
    line = ["--manifest", str(tmp_path / "m.csv"), "--out", str(tmp_path / "drill")]
    wrong = CliRunner().invoke(drill, line, standalone_mode=False)
    assert isinstance(wrong.exception, BadInput)
    assert "hole.wav: onset_s lies -1 s after start_s" in str(wrong.exception)


def test_recordings_of_one_kind_teach_nothing(tmp_path: Path) -> None:
    from pipeline.cli.train_drill import drill

    noise = np.random.default_rng(0).normal(0, 0.1, (5, 48_000))
    for i, x in enumerate(noise):
        soundfile.write(tmp_path / f"{i}.wav", x, 48_000)
    rows = "".join(f"{i}.wav,good,g{i}\n" for i in range(5))
    (tmp_path / "m.csv").write_text("path,label,group\n" + rows)
    line = ["--manifest", str(tmp_path / "m.csv"), "--out", str(tmp_path / "drill")]
    wrong = CliRunner().invoke(drill, line, standalone_mode=False)
    assert isinstance(wrong.exception, BadInput)
    assert "0 groups with a fracture and 5 with whole holes alone" in str(wrong.exception)
