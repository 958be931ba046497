"""What a person can get wrong: one readable line that names the file, the key and the mend, and exit code 2."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.cli.main import main
from pipeline.errors import ROOT
from tests.signals import own_signals

__all__ = ["own_signals"]

CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[status]
enabled = false
[[machine]]
name = "m"
  [[machine.sensor]]
  name = "acc"
  modality = "vibration"
  rate_hz = 2000
  unit = "mg"
  source = { type = "playback", files = ["x.npz"], speed = 0, start_ns = 1700000000000000000 }
[[sink]]
type = "jsonl"
path = "results.jsonl"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that works, of three seconds."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.standard_normal((6000, 1)).astype(np.float32), fs=2000)
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


def stethos(*args: str | Path) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as done:
        main([str(arg) for arg in args])
    return int(done.value.code or 0)


def run(config: Path) -> int:
    """`stethos run` on it."""
    return stethos("run", "--config", config, "--quiet", "--for", "3", "--journal", config.parent / "journal.jsonl")


def test_the_configuration_works_unless_spoilt(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or the tests below would prove nothing."""
    assert run(config) == 0
    assert len(capsys.readouterr().out.strip()) == 64
    assert (config.parent / "results.jsonl").read_text()


def test_a_run_tells_at_its_end_what_it_could_not_use(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A camera of three colours where one channel was declared: silence would read as "all is well"; once a run."""
    frames = config.parent / "frames"
    frames.mkdir()
    for n in range(4):
        Pillow.new("RGB", (8, 8), (n, n, n)).save(frames / f"{n}.png")
    camera = """
  [[machine.sensor]]
  name = "cam"
  modality = "frames"
  rate_hz = 4
  unit = "image"
  source = { type = "playback", files = ["frames"], speed = 0, start_ns = 1700000000000000000 }
[[sink]]"""
    config.write_text(CONFIG.replace("[[sink]]", camera))
    run(config)
    said = capsys.readouterr().err
    assert "could not be used: wrong_channels, first: " in said
    config.write_text(CONFIG)
    assert run(config) == 0
    assert "could not be used" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rate_hz = 2000", "rate_khz = 2", ["c.toml", "rate_khz", "unknown key", "did you mean 'rate_hz'"]),
        ("[recording]", "[recordings]", ["c.toml", "recordings", "unknown key", "recording"]),
        ("rate_hz = 2000", 'rate_hz = "fast"', ["c.toml", "rate_hz", "fast"]),
        ("rate_hz = 2000", "rate_hz = -1", ["c.toml", "rate_hz", "-1"]),
        ("  [[machine.sensor]]", "align = true\n  [[machine.sensor]]", ["'m'", "align needs two sensors", "1000 Hz"]),
        ('"vibration"\n  rate_hz = 2000', '"acoustic"\n  rate_hz = 2000.1', ["rate_hz of m/acc", "at 2000 Hz"]),
        ('unit = "mg"', "", ["c.toml", "unit", "required"]),
        ("[engine]", "[engine", ["c.toml", "not valid TOML"]),
        ("schema_version = 1", "schema_version = 9", ["schema_version = 9", "newer", "update"]),
        ('unit = "mg"', 'unit = "mg"\nbaseline = "nowhere"', ["nowhere"]),
        ('state_dir = "state"', 'state_dir = "x.npz/state"', ["x.npz/state", "cannot be used", "engine.state_dir"]),
        ('folder = "recordings"', 'folder = "x.npz/rec"', ["x.npz/rec", "cannot be used"]),
    ],
)
def test_a_configuration_that_cannot_be_used(
    config: Path, old: str, new: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started."""
    config.write_text(CONFIG.replace(old, new))
    assert run(config) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how to begin."""
    assert run(tmp_path / "nowhere.toml") == 2
    said = capsys.readouterr().err
    assert "nowhere.toml: no such file" in said
    assert "stethos config example" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"x.npz"', '"gone.npz"', ["gone.npz", "acc"]),
        ("rate_hz = 2000", "rate_hz = 4000", ["x.npz", "2000", "4000"]),
        ('path = "results.jsonl"', 'path = "x.npz/results.jsonl"', ["sink jsonl-0", "x.npz/results.jsonl"]),
    ],
)
def test_what_goes_wrong_later_is_told_at_the_end(
    config: Path, old: str, new: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine runs, because other machines do."""
    config.write_text(CONFIG.replace(old, new))
    assert run(config) == 1
    said = capsys.readouterr().err
    assert "error: " in said
    if words[0] != "sink jsonl-0":
        assert "problem: " in said  # as soon as it comes up
    for word in words:
        assert word in said


def test_a_recording_that_is_cut_off_is_replayed_as_far_as_it_goes(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is said that it is damaged; nonsense is refused."""
    assert run(config) == 0
    (whole,) = (config.parent / "recordings").glob("*.mcap")
    cut = config.parent / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    stethos("replay", cut, "--journal", config.parent / "cut.jsonl")
    said = capsys.readouterr()
    assert "cut.mcap" in said.err + said.out
    cut.write_bytes(b"nonsense" * 100)
    assert stethos("replay", cut, "--journal", config.parent / "cut.jsonl") == 2
    assert "cut.mcap" in capsys.readouterr().err


def test_an_excerpt_is_checked_like_a_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it exists, and where it does not."""
    for name, code, words in (("x.npz", 0, "c.toml: fine"), ("gone.npz", 2, "gone.npz: no such file")):
        config.write_text(CONFIG.replace('["x.npz"]', f'[{{ path = "{name}", start_s = 1, end_s = 2 }}]'))
        assert stethos("config", "check", config) == code
        said = capsys.readouterr()
        assert words in said.out + said.err


def test_a_check_opens_what_is_to_be_played(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what `run` would say later; also beside a fast lane, whose broker it does not look for."""
    wrong = CONFIG.replace("rate_hz = 2000", "rate_hz = 4000")
    fast = wrong.replace("[[machine.sensor]]", "fast_lane = true\n[machine.drill]\n[[machine.sensor]]")
    for text in (wrong, fast + '[fast_lane.mqtt]\nhost = "localhost"\n'):
        config.write_text(text)
        assert stethos("config", "check", config) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "x.npz" in said and said.count("\n") == 1


def test_a_check_makes_the_sinks(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An authority that is not there is told before anything runs."""
    sink = (
        '[[sink]]\ntype = "influxdb"\nurl = "https://x"\nca_file = "gone.pem"\norg = "o"\nbucket = "b"\ntoken = "t"\n'
    )
    config.write_text(CONFIG + sink)
    assert stethos("config", "check", config) == 2
    said = capsys.readouterr().err
    assert f"the authority {config.parent / 'gone.pem'} cannot be used" in said and said.count("\n") == 1


def test_a_migration_of_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, a folder, or not UTF-8."""
    (tmp_path / "latin.toml").write_bytes("site = 'Köln'".encode("latin-1"))
    for path, words in (
        (tmp_path / "gone.toml", "no such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.toml", "cannot be read as UTF-8"),
    ):
        assert stethos("config", "migrate", path) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path}: ") and words in said and said.count("\n") == 1


def test_a_migration_keeps_line_ends(config: Path) -> None:
    """And the old file, to the byte."""
    old = CONFIG.replace("schema_version = 1\n", "").replace("[[machine", "[[machines").replace("\n", "\r\n").encode()
    config.write_bytes(old)
    assert stethos("config", "migrate", config) == 0
    assert config.with_suffix(".toml.bak").read_bytes() == old
    assert b'[[machine]]\r\nname = "m"\r\n' in config.read_bytes()


def test_a_file_in_place_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the system says, with the file's name, and no traceback."""
    (tmp_path / "out").write_text("")
    assert stethos("simulate", "bearing", "--minutes", "0.1", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error: {tmp_path / 'out'}") and said.endswith(": Not a directory") and "\n" not in said


def test_a_pipe_that_is_closed_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`stethos ... | head` ends quietly."""

    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("pipeline.cli.configuration.click.echo", closed)
    assert stethos("config", "schema") == 1
    assert capsys.readouterr().err == ""


def test_two_simulated_sets_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is given as a folder of recordings would be taken for one set."""
    out = tmp_path / "set"
    assert stethos("simulate", "bearing", "--minutes", "0.1", "--out", out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert stethos("simulate", "bearing", "--seed", "2", "--minutes", "0.1", "--out", out) == 2
    assert f"{out}: is not empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_simulated_shop_is_not_written_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recording may be all that is left of a comparison."""
    assert stethos("simulate", "shop", "--minutes", "0.02", "--out", tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert stethos("simulate", "shop", "--seed", "2", "--minutes", "0.02", "--out", tmp_path) == 2
    assert f"{tmp_path / 'shop.mcap'}: exists already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "line",
    [
        "simulate chatter --minutes inf --out x",
        "simulate shop --normal-s nan --out x",
        "run --for nan",
        "replay --speed nan .",
        "commission --live --minutes nan",
        "demo --for nan",
    ],
)
def test_a_number_that_is_none(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No comparison finds `nan` outside a range: it would be a run without end, or a traceback."""
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert any(reason in said for reason in ("is no number", "is not in the range", "a real-time factor above 0"))


def test_modules_of_other_programs(tmp_path: Path) -> None:
    """On PYTHONPATH, in the place of stethos' own: the line names the file."""
    (tmp_path / "config.py").write_text("x = 1")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    code = "from pipeline.cli.main import main; main(['doctor'])"
    done = subprocess.run([sys.executable, "-Pc", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/config.py: stands in the place of stethos' own config: take")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("replay .", "name --journal OUT.jsonl"),
        ("replay --journal J.jsonl", "name at least one recording"),
        ("replay", "name at least one recording and --journal OUT.jsonl"),
        ("comission", "No such command 'comission'. Did you mean 'commission'?"),
        ("frobnicate", "No such command 'frobnicate'."),
        (f"commission --manifest x.csv --out {__file__}", "is a file"),
    ],
)
def test_what_is_missing_or_misspelt(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only that is asked for, and the nearest command is named."""
    assert stethos(*line.split()) == 2
    assert capsys.readouterr().err.strip().removesuffix(".").endswith(said.removesuffix("."))


def test_baselines_that_a_full_disk_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's error names no file then; the line does."""
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((60_000, 1)).astype(np.float32), fs=2000)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,label,group,modality,unit\nx.npz,normal,a,vibration,mg\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pipeline.cli.learn.save_all", full)
    assert stethos("commission", "--manifest", manifest, "--out", tmp_path / "b") == 2
    assert f"error: {tmp_path / 'b'}: the baselines cannot be written: No space left" in capsys.readouterr().err
