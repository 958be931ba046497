"""`stethos train impact` on what cannot be learned from: a sentence before a step is made, and nothing half done."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
import torch

from models.impact.pretrain import Pretrainer
from pipeline.cli import train_impact
from pipeline.cli.main import main
from tests.models.probe.rig import manifest, sound

SETTINGS = 'size = "small"\nclips_per_epoch = 4\nepochs = 1\nbatch = 2\nthreads = 1\n'


def run(*args: object) -> int:
    """The exit code of stethos."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return int(stop.value.code or 0)


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> int:
    """The exit code of a run of two steps that is told a signal in the first."""
    sound(tmp_path / "good.wav", 2.0, 300.0)
    (tmp_path / "t.toml").write_text(SETTINGS)
    whole = Pretrainer.after_step

    def told(self: Pretrainer, step: int) -> None:
        whole(self, step)
        if step == 0:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Pretrainer, "after_step", told)
    m = manifest(tmp_path / "m.csv", [{"path": "good.wav", "label": "a", "group": "g"}])
    return run("train", "impact", "--manifest", m, "--config", tmp_path / "t.toml", "--out", tmp_path / "out")


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C counts, as it does not where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def steps(tmp_path: Path) -> list[str]:
    """Checkpoints of the run."""
    return [path.name for path in (tmp_path / "out.training").glob("step-*")]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("gone.wav", "1 of 2 files are missing, the first is"),
        ("text.wav", "text.wav: cannot be read as sound"),
        ("short.wav", "holds no WAV, FLAC or MCAP recording of at least"),
        ("silent.wav", "silent.wav, hold only silence"),
        ("nan.wav", "nan.wav: holds infinite or not-a-number samples"),
        ("wrong-rate.wav", "the file says 22050 Hz, the manifest 44100 Hz; mend one"),
    ],
)
def test_what_cannot_be_learned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, says: str) -> None:
    """Exit 2 with the file and the reason; no package, no checkpoint."""
    sound(tmp_path / "good.wav", 2.0, 300.0)
    (tmp_path / "text.wav").write_text("no sound at all")
    sound(tmp_path / "short.wav", 0.1, 300.0)
    soundfile.write(tmp_path / "silent.wav", np.zeros(96_000), 48_000)
    soundfile.write(tmp_path / "nan.wav", np.full((96_000, 1), np.nan, np.float32), 48_000, subtype="FLOAT")
    sound(tmp_path / "wrong-rate.wav", 2.0, 300.0, rate=22_050)
    (tmp_path / "t.toml").write_text(SETTINGS)
    names = ["good.wav", bad] if bad in {"gone.wav", "text.wav"} else [bad]
    rates = {"wrong-rate.wav": 44_100}
    rows = [{"path": name, "label": "a", "group": name, "rate_hz": rates.get(name, "")} for name in names]
    m = manifest(tmp_path / "m.csv", rows)
    args = ("--manifest", m, "--config", tmp_path / "t.toml", "--until", 1, "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("*.safetensors"))


def test_what_the_first_step_does_not_meet_is_told_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that is none in the last sample of a minute: no run is begun that could not go on."""
    x = 0.1 * np.random.default_rng(0).standard_normal(60 * 8_000)
    x[-1] = np.nan
    soundfile.write(tmp_path / "late.wav", x, 8_000, subtype="FLOAT")
    (tmp_path / "t.toml").write_text(SETTINGS)
    m = manifest(tmp_path / "m.csv", [{"path": "late.wav", "label": "a", "group": "g"}])
    args = ("--manifest", m, "--config", tmp_path / "t.toml", "--until", 1, "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert "late.wav: holds infinite or not-a-number samples" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.training").exists()


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Stopped in the first of two steps: it ends, is saved, says how to go on, and handlers are as before."""
    before = signal.getsignal(number)
    assert stopped(tmp_path, monkeypatch, number) == 128 + number
    assert "run the same command to go on" in capsys.readouterr().out
    assert steps(tmp_path) == ["step-00000001"]
    assert not (tmp_path / "out").exists() and signal.getsignal(number) == before


@pytest.mark.usefixtures("heeded")
def test_a_step_is_saved_though_nobody_reads_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the `tee` behind it, too."""
    echo = click.echo

    def broken(message: str, err: bool = False) -> None:
        if err:
            raise BrokenPipeError
        echo(message)

    monkeypatch.setattr(click, "echo", broken)
    assert stopped(tmp_path, monkeypatch, signal.SIGINT) == 128 + signal.SIGINT
    assert steps(tmp_path) == ["step-00000001"]


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C is of what a script has put into the background: it is meant for others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(train_impact, "_package", lambda *_: None)
    try:
        assert stopped(tmp_path, monkeypatch, signal.SIGINT) == 0
    finally:
        assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
    assert steps(tmp_path) == ["step-00000002"]


@pytest.mark.parametrize(
    ("option", "setting", "says"),
    [
        ("--teacher", "", "holds no checkpoint"),
        ("--widen", "", "holds no checkpoint"),
        ("--pool", 'device = "cuda"', "no GPU is at hand"),
    ],
)
def test_what_is_refused_at_once_is_not_kept_for_after_the_reading(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    setting: str,
    says: str,
) -> None:
    """Told in place of the recording that the reading would refuse, hours later."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 8_000, subtype="FLOAT")
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.toml").write_text(SETTINGS + setting + "\n")
    m = manifest(tmp_path / "m.csv", [{"path": "nan.wav", "label": "a", "group": "g"}])
    args = ("--manifest", m, "--config", tmp_path / "t.toml", option, tmp_path / "empty", "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_wider_student_has_no_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the two would be ignored."""
    both = ("--widen", tmp_path / "small", "--teacher", tmp_path / "base")
    assert run("train", "impact", "--manifest", tmp_path, *both, "--out", tmp_path / "out") == 2
    assert "name one of them" in " ".join(capsys.readouterr().err.split())


def test_settings_that_do_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file, the key and what is known."""
    (tmp_path / "t.toml").write_text("bach = 2\n")
    args = ("--manifest", tmp_path, "--config", tmp_path / "t.toml", "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert "t.toml: bach: unknown key" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("mask_ratio = 0.99", "leaves 0 of 16 tokens visible"),
        ("block = 8", "choose a smaller block"),
        ('device = "cuda"', "no GPU is at hand"),
    ],
)
def test_settings_that_cannot_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, setting: str, says: str
) -> None:
    """Refused with the reason, in place of a traceback at the first step; of a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sound(tmp_path / "good.wav", 2.0, 300.0)
    m = manifest(tmp_path / "m.csv", [{"path": "good.wav", "label": "a", "group": "g"}])
    (tmp_path / "t.toml").write_text(SETTINGS + setting + "\n")
    args = ("--manifest", m, "--config", tmp_path / "t.toml", "--until", 1, "--out", tmp_path / "out")
    assert run("train", "impact", *args) == 2
    assert says in " ".join(capsys.readouterr().err.split())
