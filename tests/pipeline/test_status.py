"""The status page: what a person sees of machines, sensors and alarms, in words and in a real browser."""

from __future__ import annotations

import io
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from rich.console import Console

from config.schema import Machine, Spindle
from connectors.evidence import evidence_name
from pipeline.errors import ConfigError
from pipeline.messages import NS, Record
from pipeline.outlets import known
from pipeline.stages_physics import unasked
from pipeline.state import Store
from pipeline.status import StatusServer, condition, overview
from pipeline.view import render
from tests.connectors.result_records import T0, alarm, feature, health, score
from tests.servers.browser import Chromium
from tests.servers.web import request, request_json

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c636060f8cfc000000301"
    "0100c9fe92ef0000000049454e44ae426082"
)


def of(machine: str, record: Record, **body: Any) -> Record:
    """The same result of another machine."""
    made = {**record.body, "machine": machine, "sensors": ["mic"], **body}
    return Record(0, record.topic, machine, record.t_ns, f"{machine}|{record.id}", made)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A plant: one machine in alarm, one normal, one whose only sensor has died, one that is not judged."""
    made = Store(tmp_path / "state.sqlite")
    made.enrol({machine: ["mic"] for machine in ("lathe", "mill", "press", "drill")}, {})
    made.commit([
        *(of("lathe", score(k, T0 + k * NS, 0.5 if k < 20 else 3.0)) for k in range(40)),
        *(of("mill", score(k, T0 + k * NS, 0.2)) for k in range(40)),
        *(of("press", score(k, T0 + k * NS, 5.0)) for k in range(5)),
        of("press", score(5, T0 + 5 * NS, float("nan"), complete=False), value=None, complete=False),
        of("lathe", feature(1, T0, "level", {"level_db": -20.5})),
        of("lathe", alarm(1, T0 + 30 * NS, "raised", 0, T0 + 30 * NS), alarm="lathe|mic|chatter|1"),
        of("mill", alarm(2, T0 + 5 * NS, "raised", 0, T0 + 5 * NS), alarm="mill|mic|chatter|1"),
        of("mill", alarm(3, T0 + 9 * NS, "cleared", 1, T0 + 5 * NS), alarm="mill|mic|chatter|1"),
        of("press", health(1, T0 + 6 * NS, "failure", "no_data"), sensor="mic"),
        of("mill", health(2, T0 + 6 * NS, "normal"), sensor="mic"),
    ])  # fmt: skip
    return made


def evidence(folder: Path, raised: Record) -> Path:
    """A picture and a sound of an alarm."""
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    (folder / "a.wav").write_bytes(b"RIFF")
    (folder / "secret.toml").write_text("token")
    part = {"sensor": "mic", "picture": "a.png", "sound": "a.wav"}
    file = f"{evidence_name(raised.body)}.json"
    told = {
        "alarm": "lathe|mic|chatter|1",
        "file": file,
        "parts": [part],
        "missing": ["mic: 0.5 s from +2.0 s: silent"],
    }
    (folder / file).write_text(json.dumps(told))
    return folder


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[StatusServer]:
    """The page of that plant, with a problem."""
    raised = next(r for r in store.latest("alarm") if r.machine == "lathe")
    made = StatusServer(
        store.path, evidence(tmp_path / "evidence", raised), lambda: (b"# metrics\n", "text/plain; version=0.0.4"),
        lambda: True, problems=lambda: ["sink influxdb-0: is away"],
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


def address(server: StatusServer, path: str = "") -> str:
    """Of the page or something on it."""
    return f"http://{server.host}:{server.port}/{path}"


def test_machines_in_one_word_each(store: Store) -> None:
    """Also those of which nothing is known; an alarm comes before everything else."""
    found = overview(store)
    assert found["conditions"] == {"lathe": "alarm", "mill": "normal", "press": "no data", "drill": "not judged"}
    assert found["active"] == 1
    assert [a["raised"]["machine"] for a in found["alarms"]] == ["lathe", "mill"]
    assert found["machines"]["press"]["mic · chatter"][0][1] is None
    assert found["levels"] == {"lathe/mic": "-20.5 dB"}
    screen = Console(width=100, file=io.StringIO(), record=True)
    screen.print(render(found, problems=["source mic: no input fits [USB*]"]))  # the terminal's picture of the same
    shown = screen.export_text()
    assert "press" in shown and "no input fits [USB*]" in shown


def test_what_stands_of_machines_that_were_taken_out_is_past(store: Store) -> None:
    """Nobody would ever clear it; its history stays, and what is told from now on counts, whoever tells it."""
    store.enrol({"mill": ["mic"], "press": ["other"]}, {})
    found = overview(store)
    assert set(found["conditions"]) == {"mill", "press"}
    assert found["active"] == 0 and found["health"][0]["machine"] == "mill" and len(found["health"]) == 1
    assert [a["raised"]["machine"] for a in found["alarms"]] == ["mill"]  # was cleared
    assert {r.machine for r in known(store)} == {"mill"}
    store.commit([of("saw", alarm(1, T0 + 31 * NS, "raised", 0, T0 + 31 * NS), alarm="saw|mic|chatter|1")])
    assert overview(store)["conditions"]["saw"] == "alarm"
    topics = ("alarm", "health")
    for now in (0, 11):
        store.prune(now, 10, topics)
    assert {r.machine for r in store.read(0, topics)} == {"lathe", "mill", "press", "saw"}
    store.enrol({machine: ["mic"] for machine in ("lathe", "mill", "press")}, {})
    again = {(r.topic, r.machine) for r in store.standing()}
    assert again == {("alarm", "lathe"), ("health", "mill"), ("health", "press")}  # as their lanes remember them


def test_what_stands_of_detectors_that_were_taken_out_is_past(store: Store) -> None:
    """As of machines: the lathe has no spindle any more that could stop chattering."""
    mic = {"name": "mic", "modality": "acoustic", "rate_hz": 48_000, "unit": "FS"}
    lathe = Machine.model_validate({"name": "lathe", "sensor": [mic]})
    assert overview(store)["conditions"]["lathe"] == "alarm"
    store.enrol({"lathe": ["mic"]}, {"lathe": unasked(lathe)})
    found = overview(store)
    assert found["conditions"]["lathe"] != "alarm" and found["active"] == 0
    turns = lathe.model_copy(update={"spindle": Spindle(rpm=9000, teeth=3)})
    store.enrol({"lathe": ["mic"]}, {"lathe": unasked(turns)})
    assert overview(store)["active"] == 1


@pytest.mark.parametrize(
    ("alarmed", "sensors", "scores", "word"),
    [
        (True, ["failure"], {}, "alarm"),
        (False, ["failure", "failure"], {"d": [[0, 9.0, 1.0]]}, "no data"),
        (False, ["failure", "normal"], {"d": [[0, 9.0, 1.0]]}, "sensor"),
        (False, ["out_of_specification"], {}, "sensor"),
        (False, ["normal"], {"d": [[0, 2.0, 1.0]]}, "abnormal"),
        (False, ["normal"], {"d": [[0, 1.0, 1.0]]}, "normal"),
        (False, [], {"d": [[0, None, 1.0]]}, "not judged"),
        (False, [], {"d": [[0, 9.0, None]]}, "not judged"),
        (False, [], {"c": [[0, 9.0, None]], "d": [[0, 2.0, 1.0]]}, "abnormal"),
    ],
)
def test_what_a_person_should_look_at_first(
    alarmed: bool, sensors: list[str], scores: dict[str, Any], word: str
) -> None:
    """Dead sensors before numbers that come of them."""
    assert condition(alarmed, sensors, scores) == word


def test_what_is_served_and_what_is_not(server: StatusServer) -> None:
    """The page, its JSON, metrics, health, evidence by name; nothing else of the disk."""
    status, page = request(address(server))
    assert status == 200 and b"<title>stethos</title>" in page
    body = request_json(address(server, "api/status"))
    assert body["problems"] == ["sink influxdb-0: is away"]
    assert request(address(server, "metrics")) == (200, b"# metrics\n")
    assert request(address(server, "healthz")) == (200, b"ok\n")
    assert request(address(server, "healthz"), method="HEAD") == (200, b"")
    assert request(address(server, "evidence/a.png")) == (200, PNG)
    long, none = f"evidence/{'a' * 300}.png", "evidence/%00.png"
    for path in (
        "evidence/secret.toml",
        "evidence/..%2Fstate.sqlite",
        "evidence/nothing.png",
        "evidence/",
        "x",
        long,
        none,
    ):
        assert request(address(server, path))[0] == 404
    assert request(address(server), method="POST", body=b"x")[0] == 501
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        plain.sendall(b"GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert plain.makefile("rb").readline().split()[1] == b"404"


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200), ("LOCALHOST:8420", 200), ("127.0.0.1:1", 200), ("[::1]:8420", 200),
        ("evil.example:8420", 421), ("localhost.evil.example", 421), ("[", 421), ("", 421),
    ],
)  # fmt: skip
def test_no_foreign_page_is_led_here_by_its_own_name(server: StatusServer, host: str, code: int) -> None:
    """A name whose owner makes it point at this host (DNS rebinding) gets nothing; without a name nobody was led."""
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        plain.sendall(f"GET /api/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert plain.makefile("rb").readline().split()[1] == b"%d" % code
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert plain.makefile("rb").readline().split()[1] == b"200"


def test_readers_that_go_away_leave_nothing_on_the_terminal(
    server: StatusServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """It belongs to the machines."""
    for _ in range(5):
        with socket.create_connection((server.host, server.port), timeout=10) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
            plain.sendall(b"GET /api/status HTTP/1.1\r\nHost: x\r\n")
    assert request(address(server, "healthz"))[0] == 200
    assert capfd.readouterr().err == ""


def test_an_engine_that_does_not_work_is_not_healthy(store: Store, tmp_path: Path) -> None:
    """For service managers and load balancers."""
    server = StatusServer(store.path, tmp_path, lambda: (b"", ""), lambda: False)
    server.start()
    try:
        assert request(address(server, "readyz"))[0] == 503
    finally:
        server.stop()


def test_a_port_that_is_taken_names_the_key(server: StatusServer, store: Store, tmp_path: Path) -> None:
    """And the mend."""
    with pytest.raises(ConfigError, match=r"status\.port = \d+: .*choose another"):
        StatusServer(store.path, tmp_path, lambda: (b"", ""), lambda: True, port=server.port)


def test_a_state_that_cannot_be_read_is_a_problem_on_the_page(tmp_path: Path) -> None:
    """The server goes on and says so."""
    (tmp_path / "state.sqlite").write_bytes(b"no database" * 1000)
    server = StatusServer(tmp_path / "state.sqlite", tmp_path, lambda: (b"", ""), lambda: True)
    server.start()
    try:
        status, body = request(address(server, "api/status"))
        assert status == 503
        assert "state.sqlite" in json.loads(body)["problems"][0]
    finally:
        server.stop()


def test_a_record_that_nobody_can_read_is_a_problem_on_the_page(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its reason, not a closed connection; the rest of the server goes on."""
    monkeypatch.setattr("pipeline.status.level_text", lambda body: body["nothing"])
    status, body = request(address(server, "api/status"))
    assert status == 500
    assert json.loads(body)["problems"] == ["KeyError: 'nothing'"]
    assert request(address(server, "healthz"))[0] == 200


def test_a_score_without_a_threshold_is_shown(store: Store, server: StatusServer) -> None:
    """Another program may write one; it says nothing about the condition."""
    store.commit([of("drill", score(1, T0, 3.0), threshold=None)])
    found = request_json(address(server, "api/status"))
    assert found["machines"]["drill"] == {"mic · chatter": [[T0, 3.0, None]]}
    assert found["conditions"]["drill"] == "not judged"
    screen = Console(width=100, file=io.StringIO(), record=True)
    screen.print(render(overview(store)))
    assert "3.00" in screen.export_text()


def test_in_a_browser(server: StatusServer, store: Store, tmp_path: Path) -> None:
    """All machines, the alarm with picture and sound, the dead sensor, the problem; the page follows what happens."""
    with Chromium() as browser:
        page = browser.page()
        page.goto(address(server))
        page.wait_for_selector("#machines .card")
        badges = {
            c.inner_text().split("\n")[0]: c.locator(".badge").inner_text()
            for c in page.locator("#machines .card").all()
        }
        assert badges == {"lathe": "alarm", "mill": "normal", "press": "no data", "drill": "not judged"}
        assert "failure: no data" in page.locator("#machines").inner_text()
        assert page.locator("#badge").inner_text() == "1 active alarm"
        assert page.locator("#problems").inner_text() == "sink influxdb-0: is away"
        first = page.locator("#alarms .card").first
        assert "Chatter at 812 Hz" in first.inner_text()
        assert "missing: mic: 0.5 s from +2.0 s: silent" in first.inner_text()
        expect(first.locator("img")).to_have_js_property("naturalWidth", 1)
        assert first.locator("audio").get_attribute("src") == "/evidence/a.wav"
        assert "cleared" in (page.locator("#alarms .card").nth(1).get_attribute("class") or "")
        cleared = of("lathe", alarm(9, T0 + 50 * NS, "cleared", 1, T0 + 30 * NS), alarm="lathe|mic|chatter|1")
        store.commit([cleared])
        expect(page.locator("#badge")).to_have_text("no active alarm")
        assert browser.errors == []
        server.stop()
        expect(page.locator("#badge")).to_have_text("no connection")
