"""What the log's commands print of what others wrote: text, and nothing that a terminal would obey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.app import STATE_FILE
from pipeline.cli.results import alarms, dlq
from pipeline.messages import Alarm, DeadLetter, Result
from pipeline.results import record_of
from pipeline.state import Store

EVIL = "Fräse\x1b]0;owned\x07\x1b[2J\u202e\x9b1mno dead letters\nmill"
SHOWN = r"Fräse\x1b]0;owned\x07\x1b[2J\u202e\x9b1mno dead letters\nmill"
HEADERS = ((EVIL, EVIL.encode()), ("b", b"\xff\r"))


@pytest.mark.parametrize(
    ("message", "command", "lines"),
    [
        (
            DeadLetter("context", EVIL, "missing", EVIL, HEADERS, b"12"),
            [dlq, "list"],
            [f"       1  context         {SHOWN}missing           {SHOWN}"],
        ),
        (
            DeadLetter("context", EVIL, "missing", EVIL, HEADERS, b"12"),
            [dlq, "show", "1"],
            [
                "topic   context",
                "reason  missing",
                f"error   {SHOWN}",
                f"  {SHOWN}: {SHOWN}",
                "  b: �\\r",
                "value   2 bytes",
            ],
        ),
        (
            Alarm("m", ("acc",), "d", 0, "raised", 1, 0, "warning", EVIL, 2.0, 1.0, "h"),
            [alarms],
            [f"1970-01-01 00:00:00.000Z  raised  warning  {SHOWN}"],
        ),
    ],
)
def test_what_a_terminal_would_obey_is_shown(
    tmp_path: Path, message: Result, command: list[Any], lines: list[str]
) -> None:
    """Colours, titles, cursor movements, a direction of writing, a new line: one line each, letters as they are."""
    Store(tmp_path / STATE_FILE).commit([record_of(message, 0, 1)])
    done = CliRunner().invoke(command[0], [*command[1:], "--state", str(tmp_path)], color=True)
    assert done.output.splitlines() == lines
