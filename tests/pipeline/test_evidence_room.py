"""Evidence takes no more room than it may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.evidence import Room, index


def test_the_oldest_alarms_evidence_goes_first(tmp_path: Path) -> None:
    """Whole alarms, by the time in their names, never the newest; nothing that is not named in evidence."""
    (tmp_path.parent / "outside.wav").write_bytes(b"0" * 5000)
    for day in range(1, 6):
        name = f"2026010{day}T000000Z_mill_chatter_00000000"
        (tmp_path / f"{name}_mic.wav").write_bytes(b"0" * 1000)
        parts = [{"sound": f"{name}_mic.wav"}, {"picture": "../outside.wav"}]
        (tmp_path / f"{name}.json").write_text(json.dumps({"alarm": str(day), "file": f"{name}.json", "parts": parts}))
    (tmp_path / "notes.txt").write_bytes(b"0" * 9000)
    size = (tmp_path / "20260101T000000Z_mill_chatter_00000000.json").stat().st_size + 1000
    room = Room(tmp_path)
    assert room.make(3 * size) == 2
    assert list(index(tmp_path)) == ["3", "4", "5"]
    assert len(list(tmp_path.glob("*.wav"))) == 3
    assert room.make(3 * size) == 0 and room.make(1) == 2
    assert list(index(tmp_path)) == ["5"]
    assert (tmp_path / "notes.txt").exists() and (tmp_path.parent / "outside.wav").exists()


def test_what_a_run_left_that_ended_while_it_was_writing_goes(tmp_path: Path) -> None:
    """No JSON tells of it; a person's own files stay."""
    name = "20260101T000000Z_mill_chatter_0123abcd"
    for left in (f"{name}_mic.wav", f"{name}_mic.png.part", f"{name}.json.part"):
        (tmp_path / left).write_bytes(b"0" * 1000)
    for mine in ("notes.wav", f"copy of {name}_mic.wav"):
        (tmp_path / mine).write_bytes(b"0" * 1000)
    Room(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.wav", f"copy of {name}_mic.wav"}


def test_what_a_write_left_that_failed_goes(tmp_path: Path) -> None:
    """A full disk has the more room for the next try; other evidence of the moment stays."""
    other = tmp_path / f"{NAME[:-1]}e.json"
    other.write_text(json.dumps({**OURS, "file": other.name}))
    room = Room(tmp_path)
    (tmp_path / f"{NAME}_mic.wav").write_bytes(b"0" * 1000)
    with pytest.raises(OSError, match="full"), room.writing(NAME):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == [other] and not room.disturbed


NAME = "20260101T000000Z_mill_chatter_0123abcd"
OURS = {"alarm": "a", "file": f"{NAME}.json", "number": 7, "parts": []}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("report.json", {"alarm": "yes, twice"}),
        ("report.json", {**OURS, "file": "report.json"}),
        (f"copy of {NAME}.json", OURS),
        (f"{NAME}.json", {**OURS, "file": "../victim.txt"}),
        (f"{NAME}.json", {**OURS, "alarm": ["a"]}),
        (f"{NAME}.json", {"alarm": "a", "file": f"{NAME}.json"}),
        (f"{NAME}.json", {**OURS, "parts": ["a.wav"]}),
        (f"{NAME}.json", [OURS]),
        (f"{NAME}.json", "[" * 100_000),
    ],
)
def test_a_json_of_somebody_else_is_no_evidence(tmp_path: Path, name: str, body: Any) -> None:
    """It costs nobody his evidence, and tells of no file that may go."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    (tmp_path / "victim.txt").write_text("x" * 1000)
    (folder / name).write_text(body if isinstance(body, str) else json.dumps(body))
    assert index(folder) == {}
    room = Room(folder)
    assert room.make(1) == 0 and room.number == 0
    assert (tmp_path / "victim.txt").exists()


def test_parts_name_files_of_their_own_alarm(tmp_path: Path) -> None:
    """What else lies in the folder stays."""
    later = NAME.replace("2026", "2027")
    for name in ("notes.wav", f"{NAME}_mic.wav", f"{NAME}.json", f"{later}.json"):
        (tmp_path / name).write_text("x")
    parts = [{"sound": "notes.wav", "picture": f"{NAME}_mic.wav"}, {"sound": f"{later}.json"}]
    (tmp_path / f"{NAME}.json").write_text(json.dumps({**OURS, "parts": parts}))
    (tmp_path / f"{later}.json").write_text(json.dumps({**OURS, "alarm": "b", "file": f"{later}.json", "number": 8}))
    assert Room(tmp_path).make(1) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"notes.wav", f"{later}.json"}
