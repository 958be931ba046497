"""Sensors that fall silent, die, come back, or never appear: told in their stream, in their health, and to a join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clock import ManualClock
from pipeline.embedded import Embedded
from pipeline.intake import Resumable
from pipeline.messages import NS, Input, Mark, Stream
from pipeline.recording.reader import read
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.replay import Replay
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, machine, stream
from tests.faults.rig import ACC, WITNESS, Device, Recording, good, journal, lane, scrape, undisturbed

MIC = stream("mic", "acoustic", 16000, dtype="<f4")
AUX = stream("aux", "vibration", 4000, dtype="<f4")


class Run:
    """An embedded engine on a manual clock, with the state of a folder and what its lanes were given."""

    def __init__(self, folder: Path, lanes: Sequence[LaneSettings], sources: Sequence[Resumable]) -> None:
        self.path = folder / "state.sqlite"
        self.store = Store(self.path)
        self.clock = ManualClock(T0)
        newest = self.store.newest_ns("m")
        if newest is not None:
            self.clock.sleep((newest - T0) / NS + 3600)  # later the same day
        self.given: list[Input] = []
        self.ring = Ring(folder / "rec", Start(), self.clock.now_ns(), ring_bytes=10**9)
        self.engine = Embedded(lanes, sources, self.store, self.clock, self._build, 64_000_000)

    def _build(self, name: str, lanes: Sequence[LaneSettings]) -> Shard:
        self.shard = Shard(name, lanes, Store(self.path), self.clock, self)
        return self.shard

    def write(self, message: Input, now_ns: int) -> None:
        """The tap: keep what the lanes are given, and record it."""
        self.given.append(message)
        self.ring.write(message, now_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ring, name)

    def until(self, seconds: float, then: Any = None) -> None:
        """Run for so long; `then` is called every second with the seconds that have passed."""
        began = self.clock.now_ns()
        self.engine.run(seconds, lambda: then and then((self.clock.now_ns() - began) / NS))

    def marks(self, sensor: str) -> list[Mark]:
        """The marks that a sensor's lane was given."""
        return [m for m in self.given if isinstance(m, Mark) and m.stream.sensor == sensor]

    def health(self, of: str, sensor: str) -> list[tuple[str, tuple[str, ...]]]:
        """States with reasons, in order."""
        found = [r.body for r in self.store.read(0, ("health",)) if r.machine == of and r.body["sensor"] == sensor]
        return [(b["state"], tuple(b["reasons"])) for b in sorted(found, key=lambda b: b["t_ns"])]

    def pairs(self) -> list[tuple[int, tuple[str, ...], bool]]:
        """What the join said: end of the window after the start, sensors, complete."""
        found = [r.body for r in self.store.read(0, ("feature",), 100_000) if r.body["name"] == "alignment"]
        return [((b["t_end_ns"] - T0) // NS, tuple(b["sensors"]), b["complete"]) for b in found]


def beating(s: Stream, seconds: float = 60.0) -> np.ndarray:
    """What all sensors of a machine hear in common: noise whose level changes every 10 ms."""
    rng = np.random.default_rng(5)
    beat = np.repeat(0.2 + rng.random(round(seconds * 100)), 10)
    level = np.interp(np.arange(round(seconds * s.rate.hz)) * 1000 / s.rate.hz, np.arange(len(beat)), beat)
    return (0.1 * level * rng.standard_normal(len(level))).astype("<f4")[:, None]


def test_the_only_sensor_of_a_machine_falls_silent_and_comes_back(tmp_path: Path) -> None:
    """Two seconds without a word, then a mark every second; failure, no data; late samples are late; normal again."""
    device, other = Device(ACC), Device(WITNESS)
    run = Run(tmp_path, [lane(ACC, baseline=baseline_of(ACC)), lane(WITNESS)], [device, other])

    def second(s: float) -> None:
        device.held = 5 <= s < 11

    run.until(20, second)
    marks = run.marks("acc")
    assert marks and {m.reason for m in marks} == {"silent"} and {m.stream.machine for m in marks} == {"m"}
    assert (marks[0].t1_ns - T0) / NS == pytest.approx(6, abs=0.3)  # said at 7 s, one second behind the clock
    assert [round((b.t1_ns - a.t1_ns) / NS) for a, b in pairwise(marks)] == [1] * (len(marks) - 1)
    assert all(a.n1 == b.n0 for a, b in pairwise(marks))
    assert run.health("m", "acc") == [("normal", ()), ("failure", ("no_data",)), ("normal", ())]
    assert run.health("witness", "acc") == [("normal", ())]
    late = [r.body for r in run.store.read(0, ("late",))]
    assert {b["reason"] for b in late} == {"late"}  # what came behind the marks is counted and not used
    page = scrape(run.path, {**run.engine.metrics()})
    assert page("stethos_engine_events_total", kind="mark", reason="silent") == len(marks)
    assert page("stethos_late_messages_total", machine="m", reason="late") == len(late)
    assert page("stethos_sensor_health_state", machine="m", sensor="acc", state="normal") == 1
    scores = [r.t_ns for r in run.store.read(0, ("score",), 10_000) if r.machine == "m"]
    assert max(scores) > T0 + 18 * NS
    assert not [t for t in scores if T0 + 6 * NS < t < T0 + 10 * NS]


def test_a_sensor_that_is_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    """The device raises: counted, tried every five seconds, marked meanwhile; back as a new stream."""
    device, other = Device(ACC), Device(WITNESS)
    run = Run(tmp_path, [lane(ACC), lane(WITNESS)], [device, other])
    said = []

    def second(s: float) -> None:
        device.dead = 5 <= s < 13
        said.append(list(run.engine.errors))

    run.until(25, second)
    assert [list(o.values()) and next(iter(o.values())).epoch for o in device.opened] == [[], 0, 0]
    assert device.stream.epoch == 1
    assert ["acc: unplugged"] in said and said[-1] == []
    marks = run.marks("acc")
    assert 6 <= len(marks) <= 9
    assert run.health("m", "acc") == [("normal", ()), ("failure", ("no_data",)), ("normal", ())]
    page = scrape(run.path, run.engine.metrics())
    assert page("stethos_engine_events_total", kind="source", reason="failed") == 1
    assert page("stethos_engine_events_total", kind="source", reason="open_failed") == 1
    assert len([m for m in run.given if m.stream.machine == "witness"]) >= 249


def test_a_sensor_that_never_appears_is_told_so_and_holds_nothing_up(tmp_path: Path) -> None:
    """After ten seconds: marks, failure, and a join of the other two that goes on; replay and restart agree."""
    settings = lane(MIC, ACC, AUX, align=True)
    run = Run(tmp_path, [settings], [Device(MIC, beating(MIC)), Device(ACC, beating(ACC))])
    said: list[str] = []
    run.until(20, lambda _: said.extend(run.engine.errors))
    marks = run.marks("aux")
    assert {(m.reason, m.stream.epoch) for m in marks} == {("abandoned", -1)}
    assert marks[0].n0 == 0 and marks[0].t0_ns == T0
    assert (marks[0].t1_ns - T0) / NS == pytest.approx(9, abs=0.3)
    assert run.health("m", "aux") == [("failure", ("no_data",))]
    assert "machine 'm', sensor 'aux': nothing usable since the start" in said
    page = scrape(run.path, run.engine.metrics())
    assert page("stethos_engine_events_total", kind="mark", reason="abandoned") == len(marks)
    assert page("stethos_sensor_health_state", machine="m", sensor="aux", state="failure") == 1
    pairs = run.pairs()
    assert max(t for t, sensors, complete in pairs if sensors == ("mic", "acc") and complete) >= 16
    assert not any(complete for _, sensors, complete in pairs if sensors == ("mic", "aux"))
    assert ("m", "aux") not in run.store.positions()  # its first real stream shall be number 0

    run.ring.close()
    again = Store(tmp_path / "again.sqlite")
    recording = read(next((tmp_path / "rec").glob("*.mcap")))
    Replay([recording], _Plan((settings,)), again, ManualClock()).run()  # type: ignore[arg-type]
    assert journal(again) == journal(run.store)


class _Plan:
    """As much of a plan as a replay reads."""

    def __init__(self, lanes: tuple[LaneSettings, ...]) -> None:
        self.lanes = lanes
        self.settings = _Settings()


class _Settings:
    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Nothing."""
        return {}


def test_a_sensor_that_appears_after_it_was_given_up(tmp_path: Path) -> None:
    """Its first stream replaces the one that stood for it; the join takes it in."""
    device = Device(ACC, beating(ACC))
    device.dead = True
    run = Run(tmp_path, [lane(MIC, ACC, align=True)], [Device(MIC, beating(MIC)), device])

    def second(s: float) -> None:
        device.dead = s < 16

    run.until(35, second)
    assert run.health("m", "acc") == [("failure", ("no_data",)), ("normal", ())]
    assert device.stream.epoch == 0
    assert run.store.positions()["m", "acc"].epoch == 0
    assert {m.stream.epoch for m in run.given if m.stream.sensor == "acc"} == {-1, 0}
    pairs = run.pairs()
    assert any(complete for t, _, complete in pairs if t > 22)
    assert not any(complete for t, _, complete in pairs if t < 16)


def test_after_a_restart_a_device_that_stays_away_is_given_up_and_keeps_its_number(tmp_path: Path) -> None:
    """The next stream is the next one of that sensor, not its first; and the replay of both runs is the same."""
    Run(tmp_path, [lane(ACC)], [Device(ACC)]).until(5)
    device = Device(ACC)
    device.dead = True
    run = Run(tmp_path, [lane(ACC)], [device])
    run.until(16)
    assert run.health("m", "acc") == [("normal", ()), ("failure", ("no_data",))]
    assert run.store.positions()["m", "acc"].epoch == 0
    back = Device(ACC)
    run = Run(tmp_path, [lane(ACC)], [back])
    run.until(8)
    assert back.stream.epoch == 1
    assert run.health("m", "acc")[-1] == ("normal", ())


def test_a_sensor_that_is_not_what_it_should_be_counts_as_absent(tmp_path: Path) -> None:
    """Its samples are dead letters; its health says that there is nothing, and the join goes on without it."""
    wrong = Device(replace(AUX, unit="g"), beating(AUX))
    run = Run(
        tmp_path, [lane(MIC, ACC, AUX, align=True)],
        [Device(MIC, beating(MIC)), Device(ACC, beating(ACC)), wrong],
    )  # fmt: skip
    run.until(18)
    assert run.health("m", "aux") == [("failure", ("no_data",))]
    assert {r.body["reason"] for r in run.store.read(0, ("dlq",))} == {"wrong_unit"}
    assert any(complete for t, sensors, complete in run.pairs() if sensors == ("mic", "acc") and t > 12)


def test_a_recording_is_never_told_silent_by_the_clock(tmp_path: Path) -> None:
    """Its time is its own: years ago, ten times as fast, or held up by a slow disk."""
    settings = lane(WITNESS, baseline=baseline_of(WITNESS))
    run = Run(tmp_path, [settings], [Recording(good())])
    run.clock.sleep(10**9)
    run.until(1000)
    assert not run.marks("acc")
    made = [r.body for r in run.store.read(0, ("score", "machine_state", "alarm", "health"), 10_000)]
    assert tuple(str(b) for b in sorted(made, key=lambda b: str(b["id"]))) == undisturbed()


def test_a_machine_without_any_source_is_told_of(tmp_path: Path) -> None:
    """A sensor that nobody feeds in this process is absent like any other."""
    run = Run(tmp_path, [LaneSettings(machine(ACC)), lane(WITNESS)], [Device(WITNESS)])
    run.until(13)
    assert run.health("m", "acc") == [("failure", ("no_data",))]
    assert run.health("witness", "acc") == [("normal", ())]
