"""The picture in a terminal."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from connectors.evidence import evidence_name
from pipeline.messages import NS
from pipeline.state import Store
from pipeline.view import View, render
from tests.connectors.result_records import alarm as alarm_record

NOW = time.time_ns()


def state(**other: Any) -> dict[str, Any]:
    """What `overview` gives of a plant in which nothing happens."""
    nothing = {"machines": {}, "conditions": {}, "health": [], "levels": {}, "states": [], "alarms": [], "active": 0}
    return {**nothing, "evidence": {}, "alive": None, "newest_ns": None, "quiet": "", **other}


def picture(**other: Any) -> str:
    """What a person reads."""
    screen = Console(width=160, file=io.StringIO(), record=True)
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


@pytest.mark.parametrize(
    ("value", "threshold", "full", "colour"),
    [
        (0.0, 2.0, 0, "green"),
        (1.0, 2.0, 6, "green"),
        (2.0, 2.0, 12, "green"),
        (2.5, 2.0, 15, "red"),
        (9.0, 2.0, 24, "red"),
        (-1.0, 2.0, 0, "green"),
        (3.0, 0.0, 0, "red"),
        (None, 2.0, 0, "dim"),
        (3.0, None, 0, "dim"),
    ],
)
def test_a_bar_is_half_full_at_the_threshold(
    value: float | None, threshold: float | None, full: int, colour: str
) -> None:
    """Twelve of 24 places; full at twice the threshold; red above it; dim where there is nothing to compare."""
    screen = Console(width=120, file=io.StringIO(), record=True, color_system="standard", force_terminal=True)
    shown = {"mill": {"mic · anomaly": [[0, value, threshold]]}}
    screen.print(render(state(machines=shown, conditions={"mill": "normal"})))
    (line,) = (line for line in screen.export_text(clear=False).splitlines() if "anomaly" in line)
    bar = "█" * full + "·" * (24 - full)
    assert line.count("█") == full and bar in line
    code = {"green": "32", "red": "31", "dim": "2"}[colour]
    assert f"\x1b[{code}m{bar}" in screen.export_text(styles=True)
    assert all(f"{number:.2f}" in line for number in (value, threshold) if number is not None)
    assert line.count("–") == 1 + [value, threshold].count(None)  # its sensor's health is not known either


def test_a_row_says_which_machine_condition_sensor_level_and_health() -> None:
    """Under its headings; a sensor without a detector has a row of its own, one with a detector has none beside it."""
    told = {"machine": "mill", "sensors": ["acc", "mic"], "detector": "state", "state": "milling"}
    shown = picture(
        machines={"mill": {"mic · anomaly": [[0, 0.2, 1.0]], "mic · chatter": [[0, 0.3, 1.0]]}},
        conditions={"mill": "sensor"},
        levels={"mill/mic": "-20.5 dB", "mill/acc": "3.1 mm/s"},
        states=[{**told, "probability": 0.93}, {**told, "machine": "press", "probability": None}],
        health=[
            {"machine": "mill", "sensor": "mic", "state": "normal", "reasons": []},
            {"machine": "mill", "sensor": "acc", "state": "out_of_range", "reasons": ["clipping", "offset"]},
            {"machine": "press", "sensor": "cam", "state": "failure", "reasons": ["no_data"]},
        ],
    ).splitlines()
    words = [" ".join(line.strip("│ ").split()) for line in shown[1:6]]
    bars = ["██" + "·" * 22, "████" + "·" * 20]
    assert words == [
        "machine condition sensor · detector level score threshold sensor health",
        f"mill sensor mic · anomaly -20.5 dB 0.20 1.00 {bars[0]} normal",
        f"mill mic · chatter -20.5 dB 0.30 1.00 {bars[1]} normal",
        "mill acc+mic · state milling 93%",
        "mill acc 3.1 mm/s out of range: clipping, offset",
    ]
    assert not any("press" in line for line in shown)
    unsure = picture(machines={"mill": {}}, conditions={"mill": "normal"}, states=[{**told, "probability": None}])
    assert "milling" in unsure and "%" not in unsure


def test_the_view_of_a_run_shows_what_its_state_its_evidence_and_its_problems_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last picture stays on the screen, with what came after the one before."""
    store, folder, problems = Store(tmp_path / "state.sqlite"), tmp_path / "evidence", ["nothing yet"]
    folder.mkdir()
    view = View(store.path, "http://127.0.0.1:8080", folder, lambda: problems)
    view.update()
    raised = alarm_record(1, NOW, "raised", 0, NOW)
    store.commit([raised])
    file = f"{evidence_name(raised.body)}.json"
    parts = [{"sensor": "mic", "sound": "a.wav", "picture": "a.png"}, {"sensor": "acc", "picture": "b.png"}]
    (folder / file).write_text(json.dumps({"alarm": raised.body["alarm"], "file": file, "parts": parts, "missing": []}))
    problems[0] = "the broker is away"
    view.close()
    said = capsys.readouterr().out
    assert "the broker is away" in said and "nothing yet" not in said
    assert "http://127.0.0.1:8080" in said and raised.body["text"] in said and "alarms: 1 active" in said
    lines = [line.strip("│ ") for line in said.splitlines()]
    assert "listen: a.wav   look: a.png" in lines and "look: b.png" in lines
