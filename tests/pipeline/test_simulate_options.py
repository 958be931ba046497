"""`stethos simulate`: an option that would have no effect is refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.simulate import simulate


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("drill --microphones 2", "--microphones is of a head of many spindles"),
        ("drill --microphones 4", "--microphones is of a head of many spindles"),  # also where it is the default
        ("drill --spindles 1 --microphones 2", "--microphones is of a head of many spindles"),
        ("chatter --microphones 2", "--microphones is of a head of many spindles"),
        ("shop --microphones 2", "--microphones is of a head of many spindles"),
        ("chatter --normal-s 5", "--normal-s is of shop"),
        ("drill --spindles 10 --normal-s 5", "--normal-s is of shop"),
        ("drill --tool-life --spindles 10", "--tool-life is of drill with one spindle"),
        ("chatter --tool-life", "--tool-life is of drill with one spindle"),
        ("bearing --lobes {out}.png", "only chatter has stability lobes"),
        ("chatter --lobes {out}.png --spindles 10", "only drill has a head of many spindles"),
        ("chatter --lobes {out}.png --normal-s 5", "--normal-s is of shop"),
    ],
)
def test_an_option_of_another_kind_is_refused(line: str, says: str, tmp_path: Path) -> None:
    """Before anything is written, and with what it belongs to."""
    told = CliRunner().invoke(simulate, [*line.format(out=tmp_path / "x").split(), "--out", str(tmp_path / "x")])
    assert told.exit_code == 2
    assert says in " ".join(told.output.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("drill --minutes 0.05", "manifest.csv"),
        ("drill --minutes 0.05 --tool-life", "manifest.csv"),
        ("drill --minutes 0.05 --spindles 10 --microphones 2", "manifest.csv"),
        ("shop --minutes 0.02 --normal-s 1", "shop.mcap"),
    ],
)
def test_an_option_of_this_kind_is_taken(line: str, made: str, tmp_path: Path) -> None:
    """And a default that is not used is no reason to refuse anything."""
    told = CliRunner().invoke(simulate, [*line.split(), "--out", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert (tmp_path / made).exists()
