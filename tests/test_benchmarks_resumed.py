"""`make test-full` goes on where it stopped, and leaves out nothing that was not tested as it is now."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import test_full


class Tree:
    """A checkout with two files of tests, one of which speaks of documents; pytest is played."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._patch, self._ran = path, monkeypatch, list[str]()
        self.code = 0
        for folder in ("scripts", "tests", "docs", "pipeline"):
            (path / folder).mkdir()
        (path / "tests" / "test_code.py").write_text("def test_one(): pass\ndef test_two(): pass\n")
        (path / "tests" / "test_words.py").write_text("def test_docs(): pass\n")
        monkeypatch.setattr(test_full, "ROOT", path)
        monkeypatch.setattr(test_full, "DONE", path / "var" / "test-full.json")
        monkeypatch.setattr(test_full, "run", self._pytest)

    def _pytest(self, test: Path, _args: Sequence[str]) -> int:
        self._ran.append(test.name.removeprefix("test_"))
        return self.code

    def run(self, *args: str) -> list[str]:
        """The files that a call ran."""
        self._ran = []
        self._patch.setattr(sys, "argv", ["test_full.py", *args])
        assert test_full.main() == (1 if self.code else 0)
        return self._ran


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Of which everything has passed."""
    made = Tree(tmp_path, monkeypatch)
    assert made.run() == ["code.py", "words.py"] and made.run() == []
    return made


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("scripts/x.py", ["code.py", "words.py"]),
        ("pyproject.toml", ["code.py", "words.py"]),
        ("pipeline/data.bin", ["code.py", "words.py"]),
        ("docs/x.md", ["words.py"]),
        ("README.md", ["words.py"]),
        (".cache/x", []),
        ("var/x", []),
    ],
)
def test_what_has_changed_is_tested_again(tree: Tree, changed: str, again: list[str]) -> None:
    """Documents concern only those who read them; what is made here concerns nobody."""
    (tree.path / changed).parent.mkdir(exist_ok=True)
    (tree.path / changed).write_text("new\n")
    assert tree.run() == again
    assert tree.run() == []


def test_a_part_of_a_file_is_not_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for some tests says nothing of the others, and takes nothing from a call for all."""
    made = Tree(tmp_path, monkeypatch)
    assert made.run("-k", "one") == ["code.py", "words.py"] and made.run("-k", "one") == []
    assert made.run() == ["code.py", "words.py"] and made.run("-k", "one") == []
    assert made.run("--afresh") == ["code.py", "words.py"]


@pytest.mark.parametrize(
    "left", ['{"passed": {"tests/te', '{"tree": "x", "passed": {"tests/test_code.py": 1.0}}', "[]"]
)
def test_what_cannot_be_read_is_forgotten(tree: Tree, left: str) -> None:
    """Half a file, and one of an earlier version."""
    (tree.path / "var" / "test-full.json").write_text(left)
    assert tree.run() == ["code.py", "words.py"]
    assert json.loads((tree.path / "var" / "test-full.json").read_text())["passed"]


def test_what_failed_or_was_edited_meanwhile_is_tested_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not passed as it is now."""
    (tree.path / "pipeline" / "new.py").write_text("")
    tree.code = 1
    assert tree.run() == tree.run() == ["code.py", "words.py"]
    tree.code = 0
    trees = iter([("a", "a"), ("b", "b"), ("b", "b")])
    with monkeypatch.context() as patch:
        patch.setattr(test_full, "fingerprints", lambda: next(trees))
        assert tree.run() == ["code.py", "words.py"]
    assert list(json.loads(test_full.DONE.read_text())["passed"]["tests/test_words.py"]) == ["b"]
    assert "a" not in json.loads(test_full.DONE.read_text())["passed"]["tests/test_code.py"]
