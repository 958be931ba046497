"""A running system as its users meet it: real recordings in, Prometheus and a browser on the other side."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import config as configuration
from config.schema import Machine
from models.anomaly.store import save_all
from pipeline import app
from pipeline.asking import ask
from pipeline.cli.demo import prepare
from pipeline.clock import HostClock, ManualClock
from pipeline.commissioning import commission_manifest
from pipeline.errors import BadInput, ConfigError, StateError, StethosError
from pipeline.live import ALIVE_NS, UNKEPT_NS, Live, _beside
from pipeline.manifest import read_manifest
from pipeline.messages import NS
from pipeline.state import Store
from tests.pipeline.test_claim import holding
from tests.servers.browser import Chromium
from tests.servers.prometheus import PrometheusServer
from tests.servers.web import request
from tests.signals import own_signals

__all__ = ["own_signals"]

DATA = Path(str(resources.files("pipeline.demo").joinpath("recordings")))
MACHINES = {"lathe", "mill", "mill-simulated", "drill-simulated"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's folder with its baselines, on a free port and at four times real speed."""
    folder = prepare(tmp_path_factory.mktemp("demo"), DATA, 0)
    save_all(commission_manifest(read_manifest(DATA / "manifest.csv")), folder / "baselines")
    text = (folder / "demo.toml").read_text()
    (folder / "demo.toml").write_text(text.replace("loop = true", "loop = true\n  speed = 4.0"))
    return folder


def changed(demo: Path, folder: Path, *changes: tuple[str, str]) -> app.Plan:
    """The demonstration with other words in its configuration, in a folder of its own."""
    text = (demo / "demo.toml").read_text().replace('"baselines"', f'"{(demo / "baselines").as_posix()}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "demo.toml").write_text(text)
    return app.plan(configuration.load(folder / "demo.toml"))


class Watcher:
    """Looks at a running system from outside, once a second; `done` when everything was seen once."""

    def __init__(self, live: Live, prometheus: PrometheusServer, page: Page) -> None:
        self.live, self.prometheus, self.page = live, prometheus, page
        self.seen: dict[str, float] = {}
        self.shown = False

    def look(self) -> None:
        """One look at both; ends the run when there is nothing more to wait for."""
        queries = {
            "up": 'up{job="stethos"}',
            "score": 'stethos_score{machine="lathe", detector="anomaly"} > stethos_score_threshold',
            "alarm": 'stethos_alarm_active{machine="lathe"} == 1',
            "health": 'stethos_sensor_health_state{machine="mill", state="normal"} == 1',
            "messages": 'stethos_messages_total{machine="mill"} > 10',
            "queue": 'stethos_queue_bytes{queue="intake"} >= 0',
            "delivered": 'stethos_sink_records_total{sink="prometheus"} > 0',
        }
        for name, query in queries.items():
            samples = self.prometheus.query(query)
            if samples:
                self.seen[name] = float(samples[0]["value"][1])
        pictures = self.page.locator("#alarms .card", has_text="lathe").locator("img")
        self.shown = self.shown or pictures.count() > 0
        if self.shown and self.seen.keys() == queries.keys():
            self.live.engine.stop()


def test_prometheus_and_a_person_see_the_alarm(demo: Path, tmp_path: Path) -> None:
    """A real Prometheus answers for a score and an alarm; a real browser shows both machines, sound and picture."""
    live = Live(changed(demo, tmp_path), HostClock())
    live.start()
    target = live.address.removeprefix("http://").rstrip("/")
    with PrometheusServer({"stethos": [target]}) as prometheus, Chromium() as browser:
        page = browser.page()
        page.goto(live.address)
        watcher = Watcher(live, prometheus, page)
        alive = []

        def second() -> None:
            alive.append(request(live.address + "healthz")[0])
            watcher.look()
            if not watcher.shown or len(alive) < 3:
                return
            names = {c.inner_text().split("\n")[0] for c in page.locator("#machines .card").all()}
            assert names == MACHINES
            expect(page.locator("#badge")).to_have_class("badge bad")
            picture = page.locator("#alarms .card", has_text="lathe").locator("img").first
            assert picture.evaluate("async i => { await i.decode(); return i.naturalWidth }") > 300
            sound = page.locator("#alarms .card", has_text="lathe").locator("audio").first
            assert request(live.address.rstrip("/") + str(sound.get_attribute("src")))[1][:4] == b"RIFF"

        errors = live.run(150.0, second)  # ends as soon as all was seen; a busy machine takes longer
        assert errors == []
        assert browser.errors == []
    assert watcher.shown
    assert watcher.seen["up"] == 1
    scores = {r.body["value"] for r in Store(live.plan.state).latest("score", 5000) if r.machine == "lathe"}
    assert watcher.seen["score"] in scores
    assert set(alive) == {200}
    assert not live.alive


def test_what_makes_a_shard_can_be_sent_to_a_new_process(demo: Path, tmp_path: Path) -> None:
    """So that one that died can be started anew, with its baselines."""
    plan = changed(demo, tmp_path)
    build = partial(app.ShardBuilder(plan, HostClock(), record=False), "shard-0", list(plan.lanes))
    shard = pickle.loads(pickle.dumps(build))()
    assert set(shard.lanes) == MACHINES
    shard.close()


def test_a_taken_port_is_an_error_before_anything_runs(demo: Path, tmp_path: Path) -> None:
    """And leaves no process behind."""
    first = Live(changed(demo, tmp_path), HostClock())
    port = first.address.split(":")[-1].rstrip("/")
    (tmp_path / "two").mkdir()
    plan = changed(demo, tmp_path / "two", ("port = 0", f"port = {port}"), ("[engine]", "[engine]\nshards = 2"))
    with pytest.raises(ConfigError, match=r"status\.port"):
        Live(plan, HostClock())
    assert multiprocessing.active_children() == []
    first.close()
    first.engine._close()


def test_a_folder_for_recordings_that_cannot_be_one(demo: Path, tmp_path: Path) -> None:
    """A clear error at the start, whether lanes run here or in processes."""
    (tmp_path / "file").write_text("")
    for shards in (1, 2):
        plan = changed(
            demo,
            tmp_path,
            ('folder = "recordings"', 'folder = "file/recordings"'),
            ("[engine]", f"[engine]\nshards = {shards}"),
        )
        with pytest.raises(StethosError, match=r"give recording\.folder a folder that can be written"):
            Live(plan, HostClock())
        assert multiprocessing.active_children() == []


def test_a_ring_that_would_hold_next_to_nothing_is_refused(demo: Path, tmp_path: Path) -> None:
    """With the least that makes sense."""
    plan = changed(demo, tmp_path)
    microphones = Machine.model_validate(
        {
            "name": "m",
            "sensor": [{"name": "mics", "modality": "acoustic", "rate_hz": 48_000, "channels": 8, "unit": "FS"}],
        }
    )
    small = plan.settings.recording.model_copy(update={"ring_bytes": 10_000_000})
    settings = plan.settings.model_copy(update={"machines": (microphones,), "recording": small})
    with pytest.raises(ConfigError, match=r"less than 48 s of these sensors: give it 36,864,000 at least"):
        Live(replace(plan, settings=settings), HostClock())


@pytest.mark.parametrize("key", ["recording", "evidence"])
def test_two_engines_do_not_write_into_one_folder(key: str, demo: Path, tmp_path: Path) -> None:
    """With states of their own they would count, delete and search each other's files."""
    plan = changed(demo, tmp_path)
    folder = getattr(plan.settings, key).folder
    with holding(folder), pytest.raises(StateError, match=rf"in use by another engine .*another {key}\.folder"):
        Live(plan, HostClock())
    live = Live(plan, HostClock())
    live.close()
    live.engine._close()


def test_a_baseline_of_another_rate_is_refused_at_the_start(demo: Path, tmp_path: Path) -> None:
    """Not when the first samples come."""
    with pytest.raises(BadInput, match=r"commissioned at rate 32000 Hz, but lathe/microphone has 16000 Hz"):
        changed(demo, tmp_path, ("rate_hz = 32000", "rate_hz = 16000"))
    with pytest.raises(StateError, match="nowhere"):
        changed(demo, tmp_path, (f'baseline = "{(demo / "baselines").as_posix()}"', 'baseline = "nowhere"'))


def test_a_missing_file_is_told_while_the_other_machine_runs(demo: Path, tmp_path: Path) -> None:
    """On the page, in the metrics and at the end."""
    live = Live(changed(demo, tmp_path, ("lathe-play-normal.flac", "lathe-gone.flac")), HostClock())
    live.start()
    pages: list[bytes] = []

    def second() -> None:
        pages.append(request(live.address + "api/status")[1])
        pages.append(request(live.address + "metrics")[1])

    errors = live.run(3.0, second)
    assert len(errors) == 1 and "lathe-gone.flac" in errors[0]
    assert any(b"lathe-gone.flac" in page for page in pages)
    counter = b'stethos_engine_events_total{kind="source",reason="open_failed",shard="intake"} 1.0'
    assert any(counter in page for page in pages)
    store = Store(live.plan.state)
    machines = {r.machine for r in store.latest("feature", 100)}
    assert "mill" in machines and "lathe" not in machines


def test_an_engine_that_stands_still_is_not_alive(demo: Path, tmp_path: Path) -> None:
    """What counts is when it last came round."""
    clock = ManualClock()
    live = Live(changed(demo, tmp_path), clock)
    assert not live.alive
    live._beat_ns = clock.now_ns()
    assert live.alive
    clock.sleep(ALIVE_NS / 1e9)
    assert not live.alive
    live.close()
    live.engine._close()


def test_a_state_that_cannot_be_written_is_a_problem_not_an_end(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters stay on their page, and the page says what is wrong."""
    live = Live(changed(demo, tmp_path), HostClock())

    def full(*_: object) -> None:
        raise StateError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "metrics", full)
        live._publish()
    assert live.problems == ["database or disk is full"]
    live._publish()
    assert live.problems == []
    live.close()
    live.engine._close()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_command_for_a_machine_that_nobody_has_is_answered(shards: int, demo: Path, tmp_path: Path) -> None:
    """The configuration of who asks is newer than the engine's; without an answer they would wait for nothing."""
    live = Live(changed(demo, tmp_path, ("[engine]", f"[engine]\nshards = {shards}")), HostClock())
    settings = live.plan.settings
    with ThreadPoolExecutor() as callers:
        asked = [callers.submit(ask, settings, name, "reboot", {}, "embedded", 60.0) for name in ("new", "lathe")]
        live.run(60.0, lambda: live.engine.stop() if all(one.done() for one in asked) else None)
        answers = [str(one.exception()) for one in asked]
    assert answers[0] == "new: the engine refused: its configuration has no machine 'new'; start it with one that has"
    assert answers[1].startswith("lathe: the engine refused: ") and "not known" in answers[1]
    assert live.store.open_commands() == []


def test_problems_that_differ_in_a_number_are_told_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines may have the same trouble."""
    live = Live.__new__(Live)
    live._told, told = [], []
    for machines in ((1,), (1, 2), (2, 1), (2,), (2, 3, 3)):
        now = [f"machine 'm{number}': nothing usable" for number in machines]
        monkeypatch.setattr(Live, "problems", now)
        told.append([(line.partition(":")[0], line[line.index("'m") + 2]) for line in live.news()])
    assert told == [[("problem", "1")], [("problem", "2")], [], [("over", "1")], [("problem", "3"), ("problem", "3")]]


def test_problems_of_two_machines_are_two() -> None:
    """The number in a name is no number: one's problem ends as the other's begins, and both are said."""
    one, other = ("lathe-1 mic2: 7 chunks lost", "lathe-2 mic2: 7 chunks lost")
    assert list(_beside([one], [other])) == [other] and list(_beside([other], [one])) == [one]
    assert list(_beside([one], [one.replace("7", "1,208")])) == []


@pytest.mark.parametrize("what", ["recording", "state"])
def test_what_cannot_be_written_is_a_problem(demo: Path, tmp_path: Path, what: str) -> None:
    """For as long as it is so, and ten seconds more, said once; a machine is watched on all the while."""
    clock = ManualClock()
    live = Live(changed(demo, tmp_path), clock)
    lines = []
    for failed in (0, 3, 7):
        live.store.put_metrics("shard-1", {"counts": {f"{what}.failed": failed}})  # a process of its own
        live._publish()
        assert len(live.problems) == (failed > 0)
        lines.append(live.news())
    (problem,) = live.problems
    assert problem.startswith(f"{what}: 7 times nothing could be written to ")
    clock.sleep(UNKEPT_NS / NS)
    live._publish()
    assert live.problems == []
    assert [*lines, live.news()] == [[], [f"problem: {problem.replace('7', '3', 1)}"], [], [f"over: {problem}"]]
    live.close()
    live.engine._close()


def test_a_state_that_cannot_be_written_hides_no_recording_that_fails(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One full disk under both: the counters of the state stand still, those of the running shard go on."""
    clock = ManualClock()
    live = Live(changed(demo, tmp_path), clock)
    for failed in range(30):
        now = {"intake": {"counts": {}}, "shard-0": {"counts": {"recording.failed": failed}}}
        monkeypatch.setattr(live.engine, "metrics", lambda now=now: now)
        live._publish()
        clock.sleep(1.0)
    assert live.problems[0].startswith("recording: 29 times nothing could be written to ")
    live.close()
    live.engine._close()
