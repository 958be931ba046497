"""Recordings and configurations that do not fit, or would be lost: said in words, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.test_wrong_use import CONFIG, config, own_signals, run, stethos

__all__ = ["config", "own_signals"]


@pytest.fixture
def recording(config: Path) -> Path:
    """Three seconds of the machine m, sensor acc."""
    assert run(config) == 0
    (made,) = (config.parent / "recordings").glob("*.mcap")
    return made


def replayed(recording: Path, candidate: str) -> int:
    """The exit code of a replay under another configuration."""
    path = recording.parents[1] / "candidate.toml"
    path.write_text(candidate)
    return stethos("replay", recording, "--config", path, "--journal", path.parent / "candidate.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "m"', 'name = "other"', "unknown_machine, first: the configuration has no machine 'm'"),
        ("rate_hz = 2000", "rate_hz = 4000", "wrong_rate, first: "),
        ('unit = "mg"', 'unit = "g"', "wrong_unit, first: "),
    ],
)
def test_a_candidate_that_does_not_fit_the_recording(
    recording: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silence would read as "no alarms"."""
    assert replayed(recording, CONFIG.replace(old, new)) == 1
    assert f"messages could not be used: {words}" in capsys.readouterr().err


def test_a_candidate_that_fits_one_of_two_machines(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is told, the rest counts."""
    other = CONFIG[CONFIG.index("[[machine]]") : CONFIG.index("[[sink]]")].replace('"m"', '"n"')
    assert replayed(recording, CONFIG + other) == 0
    assert "could not be used" not in capsys.readouterr().err
    both = recording.parents[1] / "both.toml"
    both.write_text(CONFIG.replace("recordings", "two").replace('"state"', '"state2"') + other)
    assert run(both) == 0
    capsys.readouterr()
    (two,) = (both.parent / "two").glob("*.mcap")
    assert replayed(two, CONFIG) == 0
    assert "unknown_machine, first: the configuration has no machine 'n'" in capsys.readouterr().err


def test_recover_keeps_what_is_there(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Above all the only copy of what it is to save."""
    cut, other = tmp_path / "cut.mcap", tmp_path / "other.mcap"
    data = recording.read_bytes()[: recording.stat().st_size // 2]
    cut.write_bytes(data)
    other.write_bytes(b"mine")
    for target in (cut, other):
        assert stethos("recover", cut, target) == 2
        assert f"{target}: exists already" in capsys.readouterr().err
    assert (cut.read_bytes(), other.read_bytes()) == (data, b"mine")
    assert stethos("recover", cut, tmp_path / "new.mcap") == 0


@pytest.mark.parametrize("name", ["a.mcap", "a.mcap.part"])
def test_record_keeps_what_is_there(config: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished recording, or what a crash has left of one."""
    there = config.parent / name
    there.write_bytes(b"mine")
    assert stethos("record", config.parent / "a.mcap", "--config", config) == 2
    assert f"{there}: exists already" in capsys.readouterr().err
    assert there.read_bytes() == b"mine"


@pytest.mark.parametrize("command", [["run"], ["record", "new.mcap"]])
def test_a_configuration_without_any_source(
    config: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would ever come, so nothing is started."""
    config.write_text("".join(line for line in CONFIG.splitlines(keepends=True) if "source =" not in line))
    assert stethos(*command, "--config", config) == 2
    said = capsys.readouterr().err
    assert "no sensor has a source: add source = {...} to a [[machine.sensor]], or" in said
    assert ("run --engine kafka" if command == ["run"] else "record --from-kafka") in said
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize("option", [["--role", "worker"], ["--name", "w0"]])
def test_roles_are_kafkas(config: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded engine has none."""
    assert stethos("run", *option, "--config", config) == 2
    assert "--role and --name need --engine kafka" in capsys.readouterr().err
