"""What `stethos doctor` finds in a configuration, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from connectors.portaudio import Device
from pipeline import errors
from pipeline.cli.main import stethos
from tests.config.test_config import GOOD

FOLDERS = (("engine", "state_dir"), ("recording", "folder"), ("evidence", "folder"), ("kafka", "spool_folder"))


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


def test_an_address_of_ipv6(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Usable where the status page could listen on it; a taken port is told, and a box without IPv6."""
    if not Path("/proc/net/if_inet6").exists():
        config.write_text(GOOD + '[status]\nhost = "::1"\nport = 0\n')
        assert findings(config, capsys)[1]["status port"][0] == "bad"
        return
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        for port, state in ((0, "ok"), (taken.getsockname()[1], "bad")):
            config.write_text(GOOD + f'[status]\nhost = "::1"\nport = {port}\n')
            said = findings(config, capsys)[1]["status port"]
            assert said[0] == state and ("name another status.port" in said[1]) == (state == "bad")


def test_the_device_that_a_pattern_means(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the first run: what is there, or why nothing fits; that is no obstacle, the engine tries again."""
    monkeypatch.setattr("connectors.portaudio.devices", lambda: (Device(0, "USB Audio", "ALSA", "1-1", 1, 48000.0),))
    for pattern, state, text in (("USB*", "ok", "'USB Audio'"), ("USB", "note", "no input fits device 'USB'")):
        config.write_text(
            GOOD + f'source = {{ type = "microphone", device = "{pattern}" }}\n[status]\nport = 0\n', encoding="utf-8"
        )
        code, found = findings(config, capsys)
        assert code == 0 and found["lathe/mic"][0] == state and text in found["lathe/mic"][1]


def test_a_folder_whose_name_is_not_utf8(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its paths could not be written into results; absolute ones elsewhere can."""
    folder = config.parent.rename(os.fsdecode(os.fsencode(config.parent) + b"\xe9"))
    code, found = findings(folder / "c.toml", capsys)
    assert code == 1
    state, text = found["configuration"]
    assert state == "bad" and "state_dir = 'var/state'" in text and "is not UTF-8: rename it" in text
    assert text.isprintable() and text.encode()
    (folder / "c.toml").write_text(
        GOOD + "".join(f'[{s}]\n{k} = "/tmp/{s}"\n' for s, k in FOLDERS) + "[status]\nport = 0\n"
    )
    assert findings(folder / "c.toml", capsys)[1]["configuration"][0] == "ok"


def test_how_an_extra_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a checkout by its uv, to an installed wheel by the Python that runs it."""
    assert str(errors.MissingExtra("mqtt", "this")).endswith("-e '.[mqtt]'")
    monkeypatch.setattr(errors, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", "/opt/a b/python")
    said = str(errors.MissingExtra("mqtt", "this"))
    assert said == "this needs the extra 'mqtt'; '/opt/a b/python' -m pip install 'stethos[mqtt]'"
