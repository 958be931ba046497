"""What the page takes for now: clocks that were wrong, engines that stopped, machines that fell silent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from pipeline.messages import NS, Alarm, Feature, Health, MachineState, Score
from pipeline.results import record_of
from pipeline.state import Store
from pipeline.status import SHOWN, StatusServer, overview
from tests.connectors.result_records import T0
from tests.servers.browser import Chromium
from tests.servers.web import request_json

MINUTE = 60 * NS


def score(machine: str, t_ns: int, value: float, detector: str = "anomaly") -> Any:
    """A score of its microphone with the threshold 1."""
    return record_of(Score(machine, ("mic",), detector, t_ns, value, 1.0, "s"))


def level(machine: str, t_ns: int, db: float) -> Any:
    """How loud its microphone is."""
    return record_of(Feature(machine, ("mic",), "level", t_ns, {"level_db": db}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of a run with two machines that has not told anything yet."""
    made = Store(tmp_path / "state.sqlite")
    made.enrol({"lathe": ["mic"], "press": ["mic"]}, {})
    return made


def test_a_clock_that_was_ahead_hides_nothing(store: Store) -> None:
    """Neither the other machines nor what its own says since it was set right."""
    ahead = T0 + 60 * MINUTE
    store.commit([score("press", ahead + k * NS, 0.2) for k in range(2100)])
    store.commit([level("press", ahead + k * NS, -60.0) for k in range(600)])
    store.commit([record_of(MachineState("press", ("mic",), "state", ahead, "idle", "s"))])
    store.commit([record_of(Health("press", "mic", 0, ahead, "normal", ()))])
    store.commit([score(machine, T0 + k * NS, 9.0) for k in range(300) for machine in ("press", "lathe")])
    store.commit([level(machine, T0, -20.0) for machine in ("press", "lathe")])
    store.commit([record_of(MachineState("press", ("mic",), "state", T0, "cut", "s"))])
    found = overview(store)
    assert found["conditions"] == {"lathe": "abnormal", "press": "abnormal"}
    assert found["machines"]["press"]["mic · anomaly"][0] == [T0 + 299 * NS, 9.0, 1.0]
    assert {len(series["mic · anomaly"]) for series in found["machines"].values()} == {SHOWN}
    assert found["levels"] == {"lathe/mic": "-20.0 dB", "press/mic": "-20.0 dB"}
    assert [state["state"] for state in found["states"]] == ["cut"]
    store.commit([record_of(Health("press", "mic", 1, T0 + 300 * NS, "failure", ("no_data",)))])
    assert overview(store)["conditions"]["press"] == "no data"


def test_an_engine_that_has_stopped_says_nothing_about_now(store: Store, tmp_path: Path) -> None:
    """The page says so, and no machine reads as if it were watched; with words and times as people read them."""
    stopped = time.time_ns() - 3 * 24 * 60 * MINUTE
    store.commit([score("press", stopped + k * NS, 0.2) for k in range(9)])
    alive = True
    server = StatusServer(store.path, tmp_path, lambda: (b"", ""), lambda: alive)
    server.start()
    try:
        address = f"http://{server.host}:{server.port}/"
        told = request_json(address + "api/status")
        assert (told["alive"], told["quiet"], told["newest_ns"]) == (True, "", stopped + 8 * NS)
        assert told["conditions"]["press"] == "normal"  # its event times are old: it may be a recording
        alive = False
        told = request_json(address + "api/status")
        assert (told["alive"], told["quiet"]) == (False, "engine stopped")
        assert set(told["conditions"].values()) == {"no data"}
        with Chromium() as browser:
            page = browser.browser.new_context(locale="en-US", timezone_id="America/New_York").new_page()
            page.goto(address)
            expect(page.locator("#quiet")).to_have_text("engine stopped")
            assert ", 2" in page.locator("#when").inner_text().split("·")[0]  # the newest result, with its date
            assert page.locator("#when").inner_text().endswith(("EST", "EDT"))
            today = "new Date(new Date().setHours(0, 3, 7, 0)).getTime()"
            assert page.evaluate(f"time({today} * 1e6)") == "00:03:07"
            assert page.evaluate("time(1764565387 * 1e9)") == "Dec 1, 2025, 00:03:07"
            alive = True
            expect(page.locator("#quiet")).to_be_hidden()
    finally:
        server.stop()


def test_nothing_was_stored_for_long(store: Store) -> None:
    """As `stethos watch` sees it, which does not know whether an engine runs."""
    store.commit([score("press", T0, 0.2)])
    now = time.time_ns()
    assert overview(store, now_ns=now)["quiet"] == ""
    assert overview(store, now_ns=now + 4 * MINUTE)["quiet"] == "no results for 4 min"
    assert overview(store, now_ns=now + 4 * MINUTE)["conditions"]["press"] == "normal"
    for minutes, words in ((6, "no results for 6 min"), (180, "no results for 3 h"), (4320, "no results for 3 d")):
        found = overview(store, now_ns=now + minutes * MINUTE + NS)
        assert found["quiet"].startswith(words) and set(found["conditions"].values()) == {"no data"}


def test_a_machine_that_has_fallen_silent_beside_others(store: Store) -> None:
    """By when its results were stored; one that is heard, though nothing judges it, is not judged."""
    now = time.time_ns()
    store.commit([score(machine, T0, 0.2) for machine in ("lathe", "press", "saw")])
    store.prune(now - 6 * MINUTE, 60 * MINUTE, ())
    store.commit([score("lathe", T0 - 60 * MINUTE, 0.2), level("saw", T0 + MINUTE, -20.0)])
    assert overview(store)["conditions"] == {"lathe": "normal", "press": "no data", "saw": "not judged"}


def test_what_was_told_before_this_run_judges_nobody(store: Store) -> None:
    """Not as long as the machine says nothing in it; an alarm that was not cleared stands."""
    store.commit([score(machine, T0, 0.2) for machine in ("lathe", "press")])
    store.commit([record_of(Alarm("press", ("mic",), "anomaly", T0, "raised", 0, T0, "critical", "x", 2.0, 1.0, "s"))])
    store.enrol({"lathe": ["mic"], "press": ["mic"]}, {})
    assert overview(store)["conditions"] == {"lathe": "not judged", "press": "alarm"}
    store.commit([score("lathe", T0 + NS, 0.2)])
    assert overview(store)["conditions"]["lathe"] == "normal"
