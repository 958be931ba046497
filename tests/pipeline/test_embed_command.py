"""`stethos embed`: one row per second of a manifest's recordings, read without unpickling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from models.impact.export import Facts, export_package
from models.impact.pooling import pool, time_mean
from models.packages import Package
from operators.logmel import clip
from operators.mel import PAPER
from pipeline.cli.embed import embed
from pipeline.errors import BadInput, ConfigError
from tests.models.impact.test_export import TINY, images, trained


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("weights") / "impact-tiny"
    return export_package(trained(TINY), folder, images(8), Facts(name="impact-tiny", version="0"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "three.wav", 0.1 * rng.standard_normal(3 * 48_000), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.flac", 0.1 * rng.standard_normal((2 * 44_100, 2)), 44_100)
    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000), 48_000)
    lines = ["path,label,group", "three.wav,on,a", "stereo.flac,off,b", "silent.wav,off,c"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(site: Path, *args: object, manifest: str = "manifest.csv") -> Result:
    line = ["--manifest", site / manifest, "--out", site / "E.npz", *args]
    return CliRunner().invoke(embed, [str(a) for a in line], standalone_mode=False, catch_exceptions=True)


def read(site: Path) -> dict[str, np.ndarray]:
    with np.load(site / "E.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_a_row_per_second(site: Path, package: Package) -> None:
    assert run(site, "--model", package.folder).exception is None
    found = read(site)
    assert found["path"].tolist() == ["three.wav"] * 3 + ["stereo.flac"] * 2 + ["silent.wav"]
    assert found["start_s"].tolist() == [0, 1, 2, 0, 1, 0]
    assert found["label"].tolist() == ["on"] * 3 + ["off"] * 3
    assert found["silent"].tolist() == [False] * 5 + [True]
    assert found["embedding"].shape == (6, 4 * 32)
    assert found["embedding"].dtype == np.float32


def test_where_to_is_asked_first(site: Path, package: Package) -> None:
    done = run(site, "--model", package.folder, "--out", site / "gone" / "E.npz")
    assert isinstance(done.exception, ConfigError) and "there is no folder" in str(done.exception)


@pytest.mark.parametrize("how", ["cls", "mean", "band", "band+logmel"])
def test_the_embedding_is_the_clips(site: Path, package: Package, how: str) -> None:
    run(site, "--model", package.folder, "--pooling", how)
    sound, _ = soundfile.read(site / "three.wav", dtype="float32")
    image = clip(sound[48_000:96_000], 48_000, PAPER).values[None]
    tokens = package.session().run(image[:, None])["tokens"]
    assert package.card.grid is not None
    np.testing.assert_array_equal(read(site)["embedding"][1], pool(tokens, how, package.card.grid, True, image)[0])


def test_the_baseline_needs_no_package(site: Path) -> None:
    assert run(site, "--model", "logmel").exception is None
    sound, _ = soundfile.read(site / "three.wav", dtype="float32")
    wanted = time_mean(clip(sound[:48_000], 48_000, PAPER).values[None])[0]
    np.testing.assert_array_equal(read(site)["embedding"][0], wanted)


def test_a_bad_recording_stops_or_is_left_out(site: Path) -> None:
    (site / "bad.csv").write_text("path,label,group\nthree.wav,on,a\nmissing.wav,on,b\n")
    result = run(site, "--model", "logmel", manifest="bad.csv")
    assert isinstance(result.exception, BadInput)
    assert not (site / "E.npz").exists()
    assert run(site, "--model", "logmel", "--skip", manifest="bad.csv").exception is None
    assert len(read(site)["embedding"]) == 3


@pytest.mark.parametrize(
    "args",
    [("--model", "no-such-package"), ("--model", "logmel", "--pooling", "band")],
)
def test_wrong_use_is_told(site: Path, args: tuple[str, ...]) -> None:
    assert isinstance(run(site, *args).exception, ConfigError)


def test_vibration_is_no_sound(site: Path) -> None:
    np.savez(site / "x.npz", x=np.random.default_rng(0).standard_normal((48_000, 1)), fs=48_000.0)
    (site / "bad.csv").write_text("path,label,group\nx.npz,on,a\n")
    assert isinstance(run(site, "--model", "logmel", manifest="bad.csv").exception, BadInput)
