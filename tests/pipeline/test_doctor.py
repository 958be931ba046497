"""What `stethos doctor` finds in a configuration, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.cli.main import stethos
from tests.config.test_config import GOOD


def findings(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and by name what was found and how it was told."""
    code = stethos.main(["doctor", "--json", "--config", str(config)], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    return int(code or 0), {one["name"]: (one["state"], one["text"]) for one in told}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "plant" / "c.toml"
    path.parent.mkdir()
    path.write_text(GOOD + "[status]\nport = 0\n")
    return path


def test_a_check_makes_no_folders(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They would belong to whoever asks, root mostly, and the service could not write into them."""
    code, found = findings(config, capsys)
    assert code == 0
    assert found["configuration"][0] == found["state folder"][0] == found["recording folder"][0] == "ok"
    assert [path.name for path in config.parent.iterdir()] == ["c.toml"]
    (config.parent / "var").write_text("in the way")
    code, found = findings(config, capsys)
    assert code == 1
    assert found["state folder"][0] == "bad" and "cannot be made" in found["state folder"][1]


def test_a_folder_of_somebody_else(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the service finds out."""
    if os.geteuid() == 0:
        assert "by root" in findings(config, capsys)[1]["state folder"][1]
        return
    config.parent.chmod(0o555)
    try:
        assert findings(config, capsys)[1]["state folder"][0] == "bad"
    finally:
        config.parent.chmod(0o755)


def test_it_refuses_what_the_check_refuses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is played and is not there."""
    config.write_text(GOOD + '[machine.sensor.source]\ntype = "playback"\nfiles = ["gone.wav"]\n')
    code, found = findings(config, capsys)
    assert code == 1
    assert found["configuration"][0] == "bad" and "gone.wav: no such file" in found["configuration"][1]
