"""A small encoder learns a teacher's band-pooled features, and the command does all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from models.impact.checkpoint import load_encoder, newest
from models.impact.curves import read_log
from models.impact.distil import Distiller, Pupil, Teacher, teacher_from
from models.impact.pooling import pool as pooled
from models.impact.pretrain import Pretrainer
from pipeline.cli.main import main
from pipeline.errors import BadInput, ConfigError, StateError
from tests.models.impact.conftest import TINY, TINY_EDGE, batches, pool, settings


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    folder = tmp_path_factory.mktemp("teacher")
    made = settings(epochs=1)
    Pretrainer(made, TINY, batches(made), folder).run()
    return folder


def test_features_are_the_teachers_bands(teacher: Path) -> None:
    """Tokens of the checkpoint's encoder, pooled by band."""
    found = teacher_from(teacher)
    images = pool(4).astype(np.float32)
    encoder, _ = load_encoder(teacher)
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(images)[:, None]).numpy()
    assert (found.features(images) == pooled(tokens, "band", (4, 4), True)).all()
    assert found.name == "tiny, step 4"


def test_pupil_learns(teacher: Path, tmp_path: Path) -> None:
    """It explains a good share of the standardised features' variance, and resumes to the bit."""
    made = settings(epochs=20, lr_per_256=0.2, log_every=8)
    run = Distiller(made, TINY_EDGE, batches(made), tmp_path / "whole", teacher_from(teacher))
    run.run()
    log = read_log(tmp_path / "whole")
    assert log[0]["loss"] > 0.7
    assert log[-1]["loss"] < 0.5
    assert log[-1]["alarms"] == []
    for until in (7, None):
        Distiller(made, TINY_EDGE, batches(made), tmp_path / "parts", teacher_from(teacher)).run(until=until)
    whole, parts = newest(tmp_path / "whole"), newest(tmp_path / "parts")
    assert whole is not None
    assert parts is not None
    assert (whole / "state.safetensors").read_bytes() == (parts / "state.safetensors").read_bytes()
    encoder, facts = load_encoder(tmp_path / "whole")
    assert (encoder.grid, encoder.cls) == ((8, 8), False)
    assert facts["data"]["teacher"] == "tiny, step 4"
    other = teacher_from(teacher)._replace(name="tiny, step 5")
    same = teacher_from(teacher)._replace(digest="of another run")
    with pytest.raises(StateError, match="had other weights of the teacher"):
        Distiller(made, TINY_EDGE, batches(made), tmp_path / "parts", same)
    with pytest.raises(StateError, match=r"had other teacher \(tiny, step 4, not tiny, step 5\)"):
        Distiller(made, TINY_EDGE, batches(made), tmp_path / "whole", other)


def test_bands_of_the_pupil_stay_apart() -> None:
    """A row of the teacher is predicted from the pupil's rows of the same frequencies alone."""
    pupil = Pupil(TINY_EDGE, 4, 4 * 32)
    bands = torch.randn(1, 8 * 16)
    other = bands.clone()
    other[:, :32] += 1.0
    moved = (pupil.map(bands[..., None]) - pupil.map(other[..., None]))[0, :, 0].abs() > 1e-7
    assert moved[:32].any()
    assert not moved[32:].any()
    with pytest.raises(ValueError, match="grouped"):
        Pupil(TINY_EDGE, 3, 96)


def test_no_teacher_in_a_folder(tmp_path: Path) -> None:
    """A folder without run or package is refused."""
    with pytest.raises(BadInput, match="no checkpoint"):
        teacher_from(tmp_path)
    assert Teacher._fields == ("name", "tokens", "grid", "cls", "digest")


def sounds(folder: Path) -> Path:
    """Two sensors' recordings."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        soundfile.write(folder / name / "x.wav", 0.1 * rng.standard_normal(100_000), 44_100)
    return folder


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrain, stop, go on, export; distil `edge` from the package; both load."""
    from models.packages import load

    monkeypatch.setattr("pipeline.cli.packaging.CALIBRATION", 16)
    manifest = sounds(tmp_path / "sound")
    config = tmp_path / "c.toml"
    config.write_text("clips_per_epoch = 16\nepochs = 2\nbatch = 8\npool_clips = 16\nlog_every = 1\nthreads = 1\n")
    args = ["train", "impact", "--manifest", str(manifest), "--config", str(config)]
    small = [*args, "--size", "small", "--out", str(tmp_path / "small")]
    for more, said in ((["--until", "1"], "not finished"), ([], "going on from step 1")):
        with pytest.raises(SystemExit) as done:
            main([*small, *more])
        assert done.value.code == 0
        assert said in capsys.readouterr().out
    card = load(tmp_path / "small").card
    assert (card.name, card.grid, card.cls) == ("impact-small", (4, 4), True)
    assert card.training["steps"] == 4
    assert card.training["data"]["hours"] == {"a": 0.0006, "b": 0.0006}
    assert (tmp_path / "small.training" / "curves.png").is_file()
    with pytest.raises(SystemExit) as done:
        main([*args, "--size", "edge", "--out", str(tmp_path / "edge"), "--teacher", str(tmp_path / "small")])
    assert done.value.code == 0
    edge = load(tmp_path / "edge").card
    assert edge.training["data"]["teacher"] == "impact-small 1"
    assert json.loads(edge.json())["grid"] == [8, 8]


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edge` without teacher, an unknown key, a missing folder: exit 2 and a sentence."""
    config = tmp_path / "c.toml"
    config.write_text("learning_rate = 1\n")
    out = ["--out", str(tmp_path / "o")]
    for more, said in (
        (["--manifest", str(tmp_path), "--size", "edge"], "--teacher"),
        (["--manifest", str(tmp_path), "--config", str(config)], "learning_rate: unknown key"),
        (["--manifest", str(tmp_path / "nowhere")], "no such folder"),
    ):
        with pytest.raises(SystemExit) as done:
            main(["train", "impact", *more, *out])
        assert done.value.code == 2
        assert said in capsys.readouterr().err


def test_configuration_and_settings_agree(tmp_path: Path) -> None:
    """Equal keys, equal defaults; values without sense are refused by name."""
    from config.pretrain import load_pretrain
    from models.impact.settings import Pretraining
    from pipeline.cli.train_impact import settings_of

    assert settings_of(load_pretrain(None)) == Pretraining()
    for text, said in (("batch = 1", "batch"), ("[mixing]\nmix_db = [3, 1]", "lowest"), ("size = 'x'", "size")):
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_pretrain(path)


def test_document_shows_the_defaults() -> None:
    """The settings in the how-to are those of the code, all of them."""
    import re
    import tomllib

    from config.pretrain import PretrainConfig

    text = (Path(__file__).parents[3] / "docs/how-to/pretrain.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(size = .*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = tomllib.loads(block)
    assert PretrainConfig.model_validate(shown) == PretrainConfig()
    assert set(shown) == set(PretrainConfig.model_fields) - {"data_seed", "threads"}


@pytest.mark.parametrize("name", ["small", "edge", "base"])
def test_shipped_configurations_are_valid(name: str) -> None:
    """The files that made the weights."""
    from config.pretrain import load_pretrain

    assert load_pretrain(Path(__file__).parents[3] / f"scripts/pretrain_{name}.toml").size == name
