"""Public data as manifests: small inputs of the same layout, converted by the command that the documents name."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.clips import read_clip
from pipeline.manifest import Row, read_manifest, torn_groups

ROOT = Path(__file__).parent.parent.parent

H5PY = '''
"""Stands in for h5py, which only users of the CNC data need: a file of named arrays."""
import numpy as np

class File:
    def __init__(self, path, mode):
        assert mode == "r"
        self._file = np.load(open(path, "rb"))
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self._file.close()
    def __contains__(self, name):
        return name in self._file
    def __getitem__(self, name):
        return self._file[name]
'''


def script(name: str, *args: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a converter as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    line = [sys.executable, f"scripts/{name}.py", *map(str, args)]
    return subprocess.run(line, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def convert(name: str, manifest: Path, *args: object, path: Path | None = None) -> list[Row]:
    """Run a converter that must succeed and read its manifest."""
    done = script(name, *args, path=path)
    assert done.returncode == 0, done.stderr
    assert str(manifest) in done.stdout
    rows = read_manifest(manifest)
    assert torn_groups(rows) == []
    return rows


@pytest.fixture
def cnc(tmp_path: Path) -> Path:
    """The layout of CNC_Machining, and a module h5py that reads it."""
    (tmp_path / "h5py.py").write_text(H5PY)
    rng = np.random.default_rng(0)
    for name in ("M01/OP01/good/M01_Aug_2019_OP01_000", "M01/OP01/good/M01_Feb_2020_OP01_001",
                 "M01/OP01/bad/M01_Aug_2019_OP01_000", "M02/OP07/good/M02_Aug_2021_OP07_003"):  # fmt: skip
        path = tmp_path / "data" / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, vibration_data=rng.integers(-1200, 1200, (4000, 3)).astype(np.float64))
    return tmp_path / "data"


def test_cnc(cnc: Path, tmp_path: Path) -> None:
    """Groups are machine, operation and time frame; whole numbers stay what they are, as int16."""
    out = tmp_path / "out"
    rows = convert("convert_cnc", out / "manifest.csv", cnc, out, "--train", "M01/.*_2019", path=tmp_path)
    assert [(r.name, r.label, r.group, r.machine, r.state, r.split) for r in rows] == [
        ("bad/M01_Aug_2019_OP01_000.npz", "bad", "M01/OP01/Aug_2019", "M01", "OP01", "train"),
        ("good/M01_Aug_2019_OP01_000.npz", "good", "M01/OP01/Aug_2019", "M01", "OP01", "train"),
        ("good/M01_Feb_2020_OP01_001.npz", "good", "M01/OP01/Feb_2020", "M01", "OP01", "test"),
        ("good/M02_Aug_2021_OP07_003.npz", "good", "M02/OP07/Aug_2021", "M02", "OP07", "test"),
    ]
    with (cnc / "M02/OP07/good/M02_Aug_2021_OP07_003.h5").open("rb") as file, np.load(out / rows[3].name) as made:
        assert made["x"].dtype == np.int16 and int(made["fs"]) == 2000
        np.testing.assert_array_equal(made["x"], np.load(file)["vibration_data"])
    clip = read_clip(rows[3])
    assert (clip.stream.rate.hz, clip.stream.unit, clip.stream.channels, clip.seconds) == (2000, "mg", 3, 2.0)
    assert [(r.spindle_rpm, r.teeth) for r in rows[2:]] == [(15000.0, None), (12000.0, None)]


def test_cnc_with_teeth(cnc: Path, tmp_path: Path) -> None:
    """What the data do not tell is said by hand; an operation whose speed is not known gets none."""
    (cnc / "M01/OP01").rename(cnc / "M01/OP13")
    for path in (cnc / "M01/OP13").rglob("*.h5"):
        path.rename(path.with_name(path.name.replace("OP01", "OP13")))
    rows = convert("convert_cnc", tmp_path / "o/manifest.csv", cnc, tmp_path / "o", "--teeth", "2", path=tmp_path)
    assert [(r.state, r.spindle_rpm, r.teeth) for r in rows[2:]] == [("OP13", None, 2), ("OP07", 12000.0, 2)]


def test_cnc_keeps_fractions(cnc: Path, tmp_path: Path) -> None:
    """Nothing is rounded."""
    x = np.array([[0.5, 1.25, -1000.0], [70000.0, 0.0, 1.0]])
    with (cnc / "M02/OP07/good/M02_Aug_2021_OP07_003.h5").open("wb") as file:
        np.savez(file, vibration_data=x)
    convert("convert_cnc", tmp_path / "o/manifest.csv", cnc, tmp_path / "o", "--machine", "M02", path=tmp_path)
    with np.load(tmp_path / "o/good/M02_Aug_2021_OP07_003.npz") as made:
        assert made["x"].dtype == np.float32
        np.testing.assert_array_equal(made["x"], x)


def test_cnc_refuses_what_it_does_not_know(cnc: Path, tmp_path: Path) -> None:
    """Another name, another dataset, nothing that was asked for."""
    assert script("convert_cnc", cnc, tmp_path / "o", "--operation", "OP99", path=tmp_path).returncode == 1
    with (cnc / "M02/OP07/good/M02_Aug_2021_OP07_003.h5").open("wb") as file:
        np.savez(file, other=np.zeros((3, 3)))
    done = script("convert_cnc", cnc, tmp_path / "o", path=tmp_path)
    assert done.returncode == 1 and "holds no dataset 'vibration_data'" in done.stderr
    (cnc / "M02/OP07/good/x.h5").write_bytes(b"")
    done = script("convert_cnc", cnc, tmp_path / "o", path=tmp_path)
    assert done.returncode == 1 and "expected MACHINE/OPERATION" in done.stderr


def test_esc10(tmp_path: Path) -> None:
    """Chainsaws and helicopters are machines; clips of one recording stay together; ESC-50's others are left out."""
    clips = [
        ("1-19898-A-41.wav", "1", "41", "chainsaw", "True", "19898", "A"),
        ("1-19898-B-41.wav", "1", "41", "chainsaw", "True", "19898", "B"),
        ("2-37806-A-40.wav", "2", "40", "helicopter", "True", "37806", "A"),
        ("1-17367-A-10.wav", "1", "10", "rain", "True", "17367", "A"),
        ("1-100038-A-14.wav", "1", "14", "chirping_birds", "False", "100038", "A"),
    ]
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    with (tmp_path / "meta/esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        writer.writerows(clips)
    for name, *_ in clips:
        soundfile.write(tmp_path / "audio" / name, np.zeros(44100), 44100)
    rows = convert("convert_esc10", tmp_path / "manifest.csv", tmp_path, "--train", "1")
    assert [(r.name, r.label, r.group, r.split, r.extra["category"]) for r in rows] == [
        ("audio/1-19898-A-41.wav", "machine", "freesound 19898", "train", "chainsaw"),
        ("audio/1-19898-B-41.wav", "machine", "freesound 19898", "train", "chainsaw"),
        ("audio/2-37806-A-40.wav", "machine", "freesound 37806", "test", "helicopter"),
        ("audio/1-17367-A-10.wav", "other", "freesound 17367", "train", "rain"),
    ]
    assert read_clip(rows[0]).stream.rate.hz == 44100
    elsewhere = convert("convert_esc10", tmp_path / "m/e.csv", tmp_path, "--out", tmp_path / "m/e.csv")
    assert elsewhere[0].path.is_file() and elsewhere[0].split == ""
    (tmp_path / "audio/2-37806-A-40.wav").unlink()
    assert "2-37806-A-40.wav: no such file" in script("convert_esc10", tmp_path).stderr


def fan_table(path: Path, blocks: list[tuple[int, int]]) -> None:
    """A table of 100 rows per (weights, speed)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wconfid", "pctid", "x", "y", "z"])
        for weights, speed in blocks:
            for i in range(100):
                writer.writerow([weights, speed, 1.004, 0.09 + i / 1000, -speed / 1000])


def test_fan(tmp_path: Path) -> None:
    """A recording per weights and speed, in g at 50 Hz; red is normal."""
    table = tmp_path / "accelerometer.csv"
    fan_table(table, [(1, 20), (1, 100), (2, 20), (3, 20)])
    out = tmp_path / "fan"
    rows = convert("convert_fan", out / "manifest.csv", table, out, "--train", "normal/.*")
    assert [(r.name, r.label, r.state, r.split) for r in rows] == [
        ("normal/speed020.npz", "normal", "speed020", "train"),
        ("normal/speed100.npz", "normal", "speed100", "train"),
        ("perpendicular/speed020.npz", "perpendicular", "speed020", "test"),
        ("opposite/speed020.npz", "opposite", "speed020", "test"),
    ]
    clip = read_clip(rows[1])
    assert (clip.stream.rate.hz, clip.stream.unit, clip.stream.channels, clip.seconds) == (50, "g", 3, 2.0)
    with np.load(out / "normal/speed100.npz") as made:
        np.testing.assert_array_equal(made["x"][7], np.array([1.004, 0.09 + 7 / 1000, -0.1], np.float32))


def test_fan_refuses_a_table_that_is_not_whole(tmp_path: Path) -> None:
    """Rows out of order, or other columns."""
    table = tmp_path / "accelerometer.csv"
    fan_table(table, [(1, 20), (2, 20), (1, 20)])
    assert "do not follow each other" in script("convert_fan", table, tmp_path / "o").stderr
    table.write_text("a,b\n1,2\n")
    assert "the columns are" in script("convert_fan", table, tmp_path / "o").stderr


def test_the_demonstrations_data_need_all_of_their_sources(tmp_path: Path) -> None:
    """Nothing is cut before all is there; the line says what is missing."""
    none, wrong = script("demo_data"), script("demo_data", tmp_path / "right.flac", tmp_path / "fast.flac", tmp_path)
    assert (none.returncode, wrong.returncode) == (2, 2)
    assert "usage: demo_data.py [-h] LATHE_JUST_RIGHT.flac LATHE_TOO_FAST.flac CNC_FOLDER" in none.stderr
    assert wrong.stderr.endswith(f"error: {tmp_path / 'right.flac'}: no such file\n")
