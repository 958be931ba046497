"""Which packages were in force when, and what a rollback goes back to."""

from __future__ import annotations

import orjson

from pipeline.lineup import LOGMEL, Lineup, Standing, Standings
from pipeline.messages import NS, Decision

FIRST = Lineup("e1", (("loudness", "h2"), ("state", "h1")))
SECOND, THIRD = Lineup("e2", FIRST.heads), FIRST.with_head("state", "h3")


def decided(number: int, active: Lineup, action: str = "promote", shadow: Lineup | None = None) -> Decision:
    """In force for windows that end behind so many seconds."""
    body = {"action": action, "active": active.body(), "shadow": None if shadow is None else shadow.body()}
    return Decision("m", f"m|model|{number}", number * NS, "model", body)


def test_a_lineup_names_its_packages() -> None:
    """The time mean of the image is no package; another head takes the place of the one of its name."""
    assert FIRST.digests == ["e1", "h2", "h1"]
    assert Lineup(LOGMEL, FIRST.heads).digests == ["h2", "h1"]
    assert THIRD.heads == (("loudness", "h2"), ("state", "h3"))
    assert Lineup.of(orjson.loads(orjson.dumps(THIRD.body()))) == THIRD


def test_each_window_has_what_was_in_force_at_its_end() -> None:
    """A window that ends with the decision is the last one of what was before."""
    standings = Standings(Standing(FIRST))
    assert standings.newest == standings.at(("mic", 0), 99 * NS) == Standing(FIRST)
    standings.decide(decided(10, SECOND, shadow=THIRD))
    standings.decide(decided(20, THIRD))
    found = [standings.at(("mic", 0), at_ns) for at_ns in (10 * NS, 10 * NS + 1, 20 * NS, 20 * NS + 1)]
    assert found == [Standing(FIRST), Standing(SECOND, THIRD), Standing(SECOND, THIRD), Standing(THIRD)]
    assert standings.newest == Standing(THIRD)


def test_a_rollback_goes_back_step_by_step() -> None:
    """A new shadow beside the same packages is no step; behind the first ones there is nothing to go back to."""
    standings = Standings(Standing(FIRST))
    assert standings.before is None
    standings.decide(decided(1, SECOND))
    standings.decide(decided(2, SECOND, "shadow", THIRD))
    assert standings.before == FIRST
    standings.decide(decided(3, THIRD))
    assert standings.before == SECOND
    standings.decide(decided(4, SECOND, "rollback"))
    assert (standings.newest.active, standings.before) == (SECOND, FIRST)
    standings.decide(decided(5, FIRST, "rollback"))
    assert (standings.newest.active, standings.before) == (FIRST, None)
    standings.decide(decided(6, FIRST, "rollback"))
    standings.decide(decided(7, SECOND))
    assert standings.before == FIRST
