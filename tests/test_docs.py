"""The documents say what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import _COMMANDS, stethos

ROOT = Path(__file__).parent.parent


def test_generated_parts_are_up_to_date() -> None:
    """The table of topics and the graph of stages."""
    subprocess.run([sys.executable, "scripts/generate_docs.py", "--check"], cwd=ROOT, check=True)


def test_links_lead_somewhere() -> None:
    """Every relative link of every document has its file."""
    dead = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        here = [link for link in links if not link.startswith(("http://", "https://"))]
        dead += [f"{path.relative_to(ROOT)}: {link}" for link in here if not (path.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_every_command_has_help(name: str) -> None:
    """And it says something."""
    command = stethos.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None and command.help
