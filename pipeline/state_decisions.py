"""Decisions in the durable state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from pipeline.messages import Decision
from pipeline.state_file import Connection
from pipeline.state_tables import FACT, ON_FACTS

_HERE = f"FROM decision INDEXED BY decision_fact WHERE {ON_FACTS} AND {FACT}"


class Decisions:
    """That part of the durable state."""

    _db: Connection

    def decide(self, decision: Decision) -> None:
        """Make a decision durable before anything is computed under it."""
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "INSERT OR IGNORE INTO decision (machine, id, t_ns, kind, body) VALUES (?, ?, ?, ?, ?)",
            (decision.machine, decision.id, decision.t_ns, decision.kind, orjson.dumps(decision.body)),
        )
        self._db.execute("PRAGMA synchronous=NORMAL")

    def decisions(self, kind: str | None = None) -> list[Decision]:
        """All decisions, or those of a kind, in the order in which they were made."""
        where, of = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        rows = self._db.execute(f"SELECT machine, id, t_ns, kind, body FROM decision{where} ORDER BY seq", of)  # noqa: S608
        return [Decision(r[0], r[1], r[2], r[3], orjson.loads(r[4])) for r in rows]

    def outdated(self, keep_ns: int) -> list[Decision]:
        """As `contexts.outdated` says of all `decisions`, which may be hundreds of thousands."""
        old: list[Decision] = []
        for fact in self._facts():
            (newest_ns,) = self._db.execute(f"SELECT max(t_ns) {_HERE} = ?", (fact,)).fetchone()
            told = f"SELECT machine, id, t_ns, kind, body {_HERE} = ? AND t_ns < ? ORDER BY t_ns, kind = 'abandon', seq"
            rows = self._db.execute(told, (fact, newest_ns - keep_ns)).fetchall()
            old += [Decision(r[0], r[1], r[2], r[3], orjson.loads(r[4])) for r in rows[:-1]]
        return old

    def given_up(self) -> set[tuple[str, str]]:
        """(machine, name) of the facts that nobody tells: their newest decision gave them up."""
        newest = f"SELECT machine, body, kind {_HERE} = ? ORDER BY t_ns DESC, kind = 'abandon' DESC LIMIT 1"
        rows = [self._db.execute(newest, (fact,)).fetchone() for fact in self._facts()]
        return {(machine, str(orjson.loads(body).get("context"))) for machine, body, kind in rows if kind == "abandon"}

    def _facts(self) -> Iterator[str]:
        """Those that decisions are about, as `FACT` has them, without reading all of these."""
        fact = ""
        while fact := self._db.execute(f"SELECT min({FACT}) {_HERE} > ?", (fact,)).fetchone()[0]:
            yield fact

    def forget(self, decisions: Iterable[Decision]) -> None:
        """Drop decisions that nothing asks for any more."""
        gone = orjson.dumps([decision.id for decision in decisions]).decode()
        self._db.execute("DELETE FROM decision WHERE id IN (SELECT value FROM json_each(?))", (gone,))
