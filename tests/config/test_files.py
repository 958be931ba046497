"""Configuration files: older ones, odd ones, and what of them is a path or a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from pipeline.errors import ConfigError
from tests.config.test_config import GOOD, load

DRAFT = GOOD.replace("schema_version = 1\n", "").replace("[[machine", "[[machines")


def test_a_draft_is_read_as_it_is_and_as_it_was_migrated(tmp_path: Path) -> None:
    """Without a version and with `[[machines]]`."""
    assert load(tmp_path, DRAFT) == load(tmp_path, GOOD) == load(tmp_path, config.migrate_text(DRAFT, "c.toml"))


@pytest.mark.parametrize("version", ["2", '"1"', "1.0", "[1]"])
def test_a_version_that_is_not_known_is_refused(tmp_path: Path, version: str) -> None:
    """When it is read and when it is migrated."""
    text = GOOD.replace("schema_version = 1", f"schema_version = {version}")
    with pytest.raises(ConfigError, match=r"c\.toml: schema_version = .* is newer"):
        load(tmp_path, text)
    with pytest.raises(ConfigError, match=r"c\.toml: schema_version = .* is newer"):
        config.migrate_text(text, "c.toml")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder; text of another encoding, whose letters would be other names."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path)
    path = tmp_path / "c.toml"
    path.write_bytes((GOOD + "# Fräse\n").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.toml: cannot be read as UTF-8"):
        config.load(path)


def test_every_path_counts_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates, packages and folders, from wherever it is run; `logmel` is none."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load(
        tmp_path,
        GOOD + '[machine.model]\nencoder = "logmel"\nshadow = ["s"]\nhead = [{ package = "h" }]\n'
        '[machine.drill]\nclassifier = "c"\n[models]\nsearch = ["p", "/q"]\n'
        '[kafka]\ntls = true\nca_file = "ca.pem"\ncert_file = "me.pem"\nkey_file = "me.key"\n'
        '[[sink]]\ntype = "jsonl"\npath = "out.jsonl"\n',
    )
    machine, kafka = settings.machines[0], settings.kafka
    assert machine.model is not None and machine.drill is not None
    assert machine.model.encoder == "logmel"
    assert (machine.model.shadow, machine.model.heads[0].package) == ((tmp_path / "s",), tmp_path / "h")
    assert machine.drill.classifier == tmp_path / "c"
    assert settings.models.search == (tmp_path / "p", Path("/q"))
    assert (kafka.ca_file, kafka.cert_file) == (tmp_path / "ca.pem", tmp_path / "me.pem")
    assert kafka.key_file == tmp_path / "me.key"
    assert settings.sinks[0].type == "jsonl" and settings.sinks[0].path == tmp_path / "out.jsonl"


@pytest.mark.parametrize(("written", "meant"), [("env:STETHOS_P", "sesame"), ("envelope", "envelope"), ("", "")])
def test_a_password_is_read_from_the_environment_where_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    """And is taken as it is elsewhere."""
    monkeypatch.setenv("STETHOS_P", "sesame")
    kafka = load(tmp_path, f'{GOOD}[kafka]\nusername = "env:STETHOS_P"\npassword = "{written}"\n').kafka
    assert kafka.password is not None and kafka.password.get_secret_value() == meant
    assert kafka.username == "env:STETHOS_P"  # no secret


@pytest.mark.parametrize(("set_to", "folder"), [("/c", Path("/c/stethos")), ("", Path("/h/.cache/stethos"))])
def test_the_cache_lies_where_others_lie(monkeypatch: pytest.MonkeyPatch, set_to: str, folder: Path) -> None:
    """XDG Base Directory Specification: an empty variable counts as none."""
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", set_to)
    assert config.cache_home() == folder


def test_a_folder_whose_name_is_not_utf_8_is_said(tmp_path: Path) -> None:
    """What lies in it has no name that a database or a message could hold; an absolute path goes elsewhere."""
    folder = tmp_path / "w\udcfcrfel"
    folder.mkdir()
    with pytest.raises(ConfigError, match="the folder's name is not UTF-8: rename it"):
        load(folder, GOOD)


def test_a_line_about_a_mistake_is_no_page(tmp_path: Path) -> None:
    """A key pasted into the wrong place may be thousands of letters long."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace('"acoustic"', f'"{"x" * 5000}"'))
    assert len(str(caught.value)) <= 400
