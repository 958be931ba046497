"""The picture in a terminal."""

from __future__ import annotations

import io
import time
from typing import Any

from rich.console import Console

from pipeline.messages import NS
from pipeline.view import render

NOW = time.time_ns()


def state(**other: Any) -> dict[str, Any]:
    """What `overview` gives of a plant in which nothing happens."""
    nothing = {"machines": {}, "conditions": {}, "health": [], "levels": {}, "states": [], "alarms": [], "active": 0}
    return {**nothing, "evidence": {}, "alive": None, "newest_ns": None, "quiet": "", **other}


def picture(**other: Any) -> str:
    """What a person reads."""
    screen = Console(width=120, file=io.StringIO(), record=True)
    screen.print(render(state(**other)))
    return screen.export_text()


def alarm(number: int, t_ns: int, cleared: bool) -> dict[str, Any]:
    """One of the lathe's."""
    raised = {"alarm": f"a{number}", "machine": "lathe", "text": f"alarm {number}", "t_ns": t_ns}
    return {"raised": raised, "cleared": raised if cleared else None}


def test_an_active_alarm_is_shown_before_later_ones_that_are_cleared() -> None:
    """There is room for six, newest first."""
    alarms = [*(alarm(k, NOW - k * NS, cleared=True) for k in range(8)), alarm(8, NOW - 8 * NS, cleared=False)]
    shown = picture(alarms=alarms, active=1)
    assert [k for k in range(9) if f"alarm {k}" in shown] == [0, 1, 2, 3, 4, 8]
    assert shown.index("alarm 8") < shown.index("alarm 0")


def test_a_machine_that_says_nothing_has_a_row() -> None:
    """With its condition."""
    shown = picture(machines={"mute": {}}, conditions={"mute": "no data"})
    assert [line.strip("│ ").split("  ")[0] for line in shown.splitlines() if "no data" in line] == ["mute"]
    heard = picture(machines={"press": {"mic · anomaly": [[0, 0.2, 1.0]]}}, conditions={"press": "no data"})
    assert "normal" not in heard  # nobody has told its sensor's health


def test_names_are_no_markup() -> None:
    """Machines, sensors, detectors and states are called as people like."""
    told = {"machine": "m [x]", "sensors": ["a [/b]"], "detector": "state", "state": "cut [/stop]", "probability": 0.9}
    shown = picture(
        machines={"m [x]": {"a [/b] · anomaly": [[0, 0.2, 1.0]]}},
        conditions={"m [x]": "normal"},
        states=[told, {**told, "state": "tool [worn]"}],
        health=[{"machine": "m [x]", "sensor": "acc [y]", "state": "normal", "reasons": []}],
    )
    for name in ("m [x]", "a [/b] · anomaly", "cut [/stop]", "tool [worn]", "acc [y]"):
        assert name in shown


def test_times_of_other_days_have_a_date_and_the_foot_names_the_zone() -> None:
    """An alarm of three days ago is none of this morning; what is quiet is said."""
    old = NOW - 3 * 86_400 * NS
    today, then = (time.strftime("%Y-%m-%d", time.localtime(t_ns / 1e9)) for t_ns in (NOW, old))
    shown = picture(alarms=[alarm(0, old, False), alarm(1, NOW, False)], quiet="no results for 3 days", newest_ns=old)
    assert today not in shown and sum(then in line for line in shown.splitlines()) == 2
    assert "no results for 3 days; the newest result is of " + then in shown
    assert time.strftime("%Z") in shown.splitlines()[-1]
