"""The lock files hold what pyproject.toml asks for: what one of them lacks is missed on a fresh machine alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("demo", "test")


def normal(requirement: str) -> str:
    """The package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[=<>!~;]", requirement, maxsplit=1)[0]).lower()


def locked(name: str) -> dict[str, set[str]]:
    """Versions by package."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "locks" / f"{name}.lock").read_text(encoding="utf-8").splitlines():
        if (pin := re.match(r"([\w.-]+)(?:\[.*\])?==([^\s;]+)", line)) is not None:
            found.setdefault(normal(pin[1]), set()).add(pin[2])
    return found


def recipe(name: str) -> str:
    """The line of the Makefile that writes a lock."""
    (line,) = re.findall(rf"^.*pip compile.* pyproject\.toml .*-o locks/{name}\.lock$", _read("Makefile"), re.MULTILINE)
    return str(line)


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_all_that_it_is_made_of(name: str) -> None:
    """The package's own dependencies, those of the extras and of the groups that its recipe names."""
    project = tomllib.loads(_read("pyproject.toml"))
    asked = list(project["project"]["dependencies"])
    for extra in re.findall(r"--extra (\S+)", recipe(name)):
        asked += project["project"]["optional-dependencies"][extra]
    for group in re.findall(r"--group (\S+)", recipe(name)):
        asked += project["dependency-groups"][group]
    asked = [one for one in asked if not one.startswith("stethos")]
    assert len(asked) > 10
    assert {normal(one) for one in asked} <= set(locked(name))


def test_both_locks_agree() -> None:
    """What the tests run on is what the demonstration runs on."""
    demo, test = (locked(name) for name in LOCKS)
    assert demo and {name: test.get(name) for name in demo} == demo
