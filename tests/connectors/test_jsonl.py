"""Results as JSON lines: each line stands for itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from connectors.jsonl import JsonLinesSink
from pipeline.errors import SinkBusy
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


def lines(folder: Path) -> dict[str, list[int]]:
    """Places of the log by file."""
    return {
        path.name: [json.loads(line)["seq"] for line in path.read_text().splitlines()]
        for path in sorted(folder.iterdir())
        if path.suffix != ".gz"
    }


def test_the_files_stay_within_their_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk is not filled by results; what goes is the oldest, said each time, and no line is there twice."""
    sink = JsonLinesSink(tmp_path / "results.jsonl", most_bytes=40_000)
    with caplog.at_level(logging.WARNING):
        for k in range(1000):
            sink.write([score(k, T0 + k, 0.5)])
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000
    found = lines(tmp_path)
    names = ["results.jsonl", *(f"results.jsonl.{k}" for k in range(1, len(found)))]
    assert sorted(found) == names and len(names) == 8
    left = [seq for name in reversed(names) for seq in found[name]]
    assert left == [*range(1000 - len(left), 1000)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 30_000
    gone = [record for record in caplog.records if "most_bytes" in record.getMessage()]
    assert len(gone) == (1000 - len(left)) / len(found["results.jsonl.1"])


def test_a_file_of_before_the_bound_survives_the_first_write(tmp_path: Path) -> None:
    """However large it is: it is the newest of the old ones, and goes one rotation later."""
    path = tmp_path / "results.jsonl"
    path.write_text('{"seq":0}\n' * 2000)
    sink = JsonLinesSink(path, most_bytes=8000)
    sink.write([score(1, T0, 0.5)] * 2)
    assert lines(tmp_path) == {"results.jsonl": [1, 1], "results.jsonl.1": [0] * 2000}
    sink.write([score(2, T0, 0.5)] * 2)
    assert lines(tmp_path) == {"results.jsonl": [2, 2], "results.jsonl.1": [1, 1]}


def test_other_files_beside_it_are_not_touched(tmp_path: Path) -> None:
    """Of another name, packed by somebody, or behind a number that is missing after a power cut."""
    path = tmp_path / "results.jsonl"
    for name in ("results.jsonl.1.gz", "results.jsonl.bak", "results.jsonl.01", "other.jsonl.1"):
        (tmp_path / name).write_text("theirs")
    (tmp_path / "results.jsonl.3").write_text("old")
    sink = JsonLinesSink(path, most_bytes=8000)
    for k in range(8):
        sink.write([score(k, T0 + k, 0.5)] * 2)
    assert (tmp_path / "results.jsonl.01").read_text() == (tmp_path / "results.jsonl.1.gz").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir() if p.name != "results.jsonl.3" and p.read_text() == "old"]


def test_a_linked_file_is_rotated_where_it_lies(tmp_path: Path) -> None:
    """On the large disk, not where the link is."""
    (tmp_path / "large").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "results.jsonl").symlink_to(tmp_path / "large" / "all.jsonl")
    sink = JsonLinesSink(tmp_path / "etc" / "results.jsonl", most_bytes=8000)
    for k in range(3):
        sink.write([score(k, T0 + k, 0.5)] * 2)
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["results.jsonl"]
    assert set(lines(tmp_path / "large")) >= {"all.jsonl", "all.jsonl.1"}


def test_a_file_that_cannot_be_renamed_holds_the_results_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the batch is written; it comes again, and is there once."""
    sink = JsonLinesSink(tmp_path / "results.jsonl", most_bytes=8000)
    sink.write([score(1, T0, 0.5)] * 2)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(SinkBusy, match=r"results\.jsonl: Permission denied"):
            sink.write([score(2, T0 + 1, 0.5)] * 2)
        assert lines(tmp_path) == {"results.jsonl": [1, 1]}
    sink.write([score(2, T0 + 1, 0.5)] * 2)
    assert lines(tmp_path) == {"results.jsonl": [2, 2], "results.jsonl.1": [1, 1]}
