"""`stethos models list|show|verify`: what they print and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.packages import load
from models.packages.shipped import locate, packages_in
from pipeline.cli.main import main
from pipeline.errors import StateError
from tests.models.packages import rig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two packages, the second one damaged, and a folder that is none."""
    rig.package(tmp_path / "good")
    rig.package(tmp_path / "worse", version="2")
    (tmp_path / "worse" / "model.onnx").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_list_names_every_package(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "list", root)
    assert code == 1
    good, worse = out.splitlines()
    assert load(root / "good").digest[:16] in good
    assert "damaged" in worse
    assert "model.onnx" in worse


def test_list_for_machines(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "list", root / "good", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["kind"], row["labels"]) == ("state", "head", ["off", "on", "cutting"])


def test_an_empty_folder_holds_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "models", "list", root / "notes")[:2] == (0, "")


def test_show_prints_the_card(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "show", root / "good")
    assert code == 0
    assert "hours: 1.5" in out
    code, out, _ = run(capsys, "models", "show", root / "good", "--json")
    shown = json.loads(out)
    assert shown["digest"] == load(root / "good").digest
    assert shown["training"] == {"hours": 1.5, "sources": ["simulated"]}


def test_verify_says_what_holds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "verify", root / "good")
    assert code == 0
    assert "is whole" in out
    assert "same bits at every place" in out


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_damaged_package_ends_with_one(root: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, "models", command, root / "worse", "--json")
    assert code == 1
    found = json.loads(out)
    assert "does not match its hash" in (found[0] if command == "verify" else found)["error"]


@pytest.mark.parametrize("command", ["verify", "show", "list"])
def test_wrong_use_ends_with_two(root: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, _, err = run(capsys, "models", command, root / "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_a_missing_signature_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = root / "key.pub"
    key.write_text("untrusted comment: key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n")
    code, out, _ = run(capsys, "models", "verify", root / "good", "--public-key", key, "--json")
    assert code == 1
    assert json.loads(out)[0]["reason"] == "signature"


def test_packages_are_found_by_path_or_name(root: Path) -> None:
    assert [path.name for path in packages_in(root)] == ["good", "worse"]
    assert packages_in(root / "good") == [root / "good"]
    assert locate("good", [root]) == root / "good"
    assert locate(str(root / "good"), []) == root / "good"
    with pytest.raises(StateError, match="good, worse"):
        locate("best", [root])
