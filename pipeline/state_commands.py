"""Commands in the durable state: what the command line asks of a running engine, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.state_file import Connection

_ASKED = "asked_ns"


@dataclass(frozen=True, slots=True)
class Command:
    """A wish of the command line, waiting for its decision; `asked_ns` by the host's clock, None where not known."""

    seq: int
    machine: str
    kind: str
    body: Mapping[str, Any]
    asked_ns: int | None


class Commands:
    """That part of the durable state."""

    _db: Connection

    def ask(self, machine: str, kind: str, body: Mapping[str, Any]) -> int:
        """Leave a command for the running engine; returns its number."""
        cursor = self._db.execute(
            "INSERT INTO command (machine, kind, body) VALUES (?, ?, ?)",
            (machine, kind, orjson.dumps({**body, _ASKED: time.time_ns()})),
        )
        return int(cursor.lastrowid or 0)

    def open_commands(self) -> list[Command]:
        """Commands without a decision or an error yet."""
        rows = self._db.execute(
            "SELECT seq, machine, kind, body FROM command WHERE decision IS NULL AND error IS NULL ORDER BY seq"
        )
        wishes = [(seq, machine, kind, orjson.loads(body)) for seq, machine, kind, body in rows]
        return [Command(seq, machine, kind, body, body.pop(_ASKED, None)) for seq, machine, kind, body in wishes]

    def answer(self, seq: int, decision: str | None = None, error: str | None = None) -> None:
        """Close a command with the decision that it became, or with the reason why it became none."""
        self._db.execute("UPDATE command SET decision = ?, error = ? WHERE seq = ?", (decision, error, seq))

    def command_state(self, seq: int) -> tuple[str | None, str | None]:
        """(decision, error) of a command."""
        row = self._db.execute("SELECT decision, error FROM command WHERE seq = ?", (seq,)).fetchone()
        return (row[0], row[1]) if row else (None, "no such command")
