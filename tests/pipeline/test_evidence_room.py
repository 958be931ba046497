"""Evidence takes no more room than it may."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.evidence import index, make_room


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
    assert make_room(tmp_path, 3 * size) == 2
    assert list(index(tmp_path)) == ["3", "4", "5"]
    assert len(list(tmp_path.glob("*.wav"))) == 3
    assert make_room(tmp_path, 3 * size) == 0
    assert make_room(tmp_path, 1) == 2
    assert list(index(tmp_path)) == ["5"]
    assert (tmp_path / "notes.txt").exists() and (tmp_path.parent / "outside.wav").exists()


def test_what_a_run_left_that_ended_while_it_was_writing_goes(tmp_path: Path) -> None:
    """No JSON tells of it; a person's own files stay."""
    name = "20260101T000000Z_mill_chatter_0123abcd"
    for left in (f"{name}_mic.wav", f"{name}_mic.png.part", f"{name}.json.part"):
        (tmp_path / left).write_bytes(b"0" * 1000)
    for mine in ("notes.wav", f"copy of {name}_mic.wav"):
        (tmp_path / mine).write_bytes(b"0" * 1000)
    make_room(tmp_path, 10**9)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.wav", f"copy of {name}_mic.wav"}
