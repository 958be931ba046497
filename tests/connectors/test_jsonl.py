"""Results as JSON lines: each line stands for itself."""

from __future__ import annotations

import json
from pathlib import Path

from connectors.jsonl import JsonLinesSink
from pipeline.messages import Record
from tests.connectors.result_records import T0, score


def test_a_torn_line_stays_alone(tmp_path: Path) -> None:
    """The power went in the middle of a line: the next one begins behind it."""
    path = tmp_path / "out" / "results.jsonl"
    sink = JsonLinesSink(path)
    sink.write([score(1, T0, 0.5), score(2, T0 + 1, 0.5)])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 9)
    sink.write([score(3, T0 + 2, 0.5)])
    first, torn, last = path.read_text().splitlines()
    assert (json.loads(first)["seq"], json.loads(last)["seq"]) == (1, 3)
    assert not torn.endswith("}")


def test_a_dead_letter_is_told_from_what_it_was(tmp_path: Path) -> None:
    """It names the topic that it came from; the line is of the dead letters."""
    sink = JsonLinesSink(tmp_path / "results.jsonl")
    sink.write([Record(7, "dlq", "lathe", T0, "x", {"topic": "raw.acoustic", "reason": "damaged"})])
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert line == {"topic": "dlq", "seq": 7, "from_topic": "raw.acoustic", "reason": "damaged"}
