"""What is durable when: results, alarms at once, snapshots, positions that never run ahead, decisions before effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.clock import ManualClock
from pipeline.messages import NS, Chunk, Input, Record
from pipeline.recording.format import RecordingError
from pipeline.shard import AGE_STEP_NS, Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream, with_baselines

ACC = stream("acc", "vibration", 2000)
TOPICS = ("score", "feature", "alarm", "health")


class Tap:
    """A recording that fails when told."""

    def __init__(self) -> None:
        self.taken: list[Input] = []
        self.failing = False
        self.rotations = 0
        self.carried: set[str] = set()
        self.finished_behind = -1

    def write(self, message: Input, now_ns: int) -> None:
        """Keep it."""
        self._check()
        self.taken.append(message)

    def write_result(self, record: Record, now_ns: int = 0) -> None:
        """Nothing."""
        self._check()

    def sync(self) -> None:
        """Nothing."""
        self._check()

    def rotate_if_due(self, now_ns: int, snapshots: Mapping[str, bytes]) -> bool:
        """Count."""
        self.rotations += self.failing
        self._check()
        return False

    def carry(self, attachments: Mapping[str, bytes], now_ns: int, snapshots: Mapping[str, bytes]) -> None:
        """Note what a replay will need."""
        self._check()
        self.carried |= set(attachments)

    def close(self) -> None:
        """Note what was taken until then."""
        self.finished_behind = len(self.taken)

    def _check(self) -> None:
        if self.failing:
            raise RecordingError("no space left on device")


class Rig:
    """A shard of one judged accelerometer on a manual clock, and a second connection that sees what is durable."""

    def __init__(self, folder: Path, tap: Tap | None = None) -> None:
        self.clock = ManualClock(T0)
        self.settings = with_baselines(machine(ACC), ACC)
        self.seen = Store(folder / "state.sqlite")
        self.shard = Shard("one", [self.settings], Store(folder / "state.sqlite"), self.clock, tap)
        self.inputs = chunks(ACC, normal_noise(ACC, 12.0, 3, (4.0, 9.0)))

    def step(self, k: int) -> None:
        """One chunk when it has been sampled, and a tick."""
        self.clock.sleep(0.1)
        self.shard.take(self.inputs[k])
        self.shard.tick()

    def durable(self, topic: str) -> list[dict[str, Any]]:
        """Bodies of what would survive now."""
        return [dict(r.body) for r in self.seen.read(0, (topic,), 10_000)]


def test_results_are_durable_within_50_ms_and_positions_every_second(tmp_path: Path) -> None:
    """Nothing is written for every chunk."""
    rig = Rig(tmp_path)
    writes = 0
    for k in range(30):
        before = rig.seen.last_seq()
        rig.step(k)
        rig.clock.sleep(0.05)
        rig.shard.tick()
        writes += rig.seen.last_seq() > before
        assert rig.shard._pending == []
    assert 0 < writes < 20
    positions = rig.seen.positions()
    assert 0 < positions["m", "acc"].n < 6000
    assert positions["m", "acc"].anchor.t_ns == T0


def test_an_alarm_is_durable_before_the_next_input(tmp_path: Path) -> None:
    """It waits for no rhythm."""
    rig = Rig(tmp_path)
    for message in rig.inputs:
        rig.shard.take(message)  # no tick at all
        if rig.durable("alarm"):
            break
    assert [b["transition"] for b in rig.durable("alarm")] == ["raised"]
    assert rig.seen.positions() == {}


def test_a_position_never_lies_behind_what_its_snapshot_has_forgotten(tmp_path: Path) -> None:
    """From any checkpoint, a fresh shard that reads again from the positions comes to the same results."""
    rig = Rig(tmp_path)
    for k in range(len(rig.inputs)):
        rig.step(k)
    rig.shard.close()
    wanted = {(t, b["id"]): b for t in TOPICS for b in rig.durable(t)}
    for stop in (11, 37, 63, 64, 95):
        folder = tmp_path / str(stop)
        first = Rig(folder)
        for k in range(stop):
            first.step(k)
        again = Rig(folder)  # the first one was killed
        position = again.seen.positions().get(("m", "acc"))
        for message in again.inputs:
            assert isinstance(message, Chunk)
            if position is None or message.n1 > position.n:
                again.shard.take(message)
        again.shard.close()
        assert {(t, b["id"]): b for t in TOPICS for b in again.durable(t)} == wanted


def test_where_it_records_a_position_waits_for_the_recording(tmp_path: Path) -> None:
    """While it fails, machines are watched and results are durable; each checkpoint asks for a new file."""
    tap = Tap()
    rig = Rig(tmp_path, tap)
    for k in range(40):
        rig.step(k)
    held = rig.seen.positions()["m", "acc"].n
    tap.failing = True
    for k in range(40, 80):
        rig.step(k)
    assert rig.seen.positions()["m", "acc"].n == held
    assert rig.shard.counts["recording.failed"] > 40
    assert tap.rotations >= 3
    assert any(b["transition"] == "raised" for b in rig.durable("alarm"))
    tap.failing = False
    for k in range(80, 120):
        rig.step(k)
    assert rig.seen.positions()["m", "acc"].n > 18_000
    assert [m.n0 for m in tap.taken if isinstance(m, Chunk)] == [200 * k for k in (*range(40), *range(80, 120))]
    rig.shard.close()
    assert tap.finished_behind == len(tap.taken)


def test_a_command_becomes_a_decision_that_survives(tmp_path: Path) -> None:
    """Durable, recorded, in force for what ends later; a second shard finds it; a bad one is answered."""
    tap = Tap()
    rig = Rig(tmp_path, tap)
    other = baseline_of(ACC, 1)
    rig.settings.artefacts[other.settings] = other
    for k in range(30):
        rig.step(k)
    good = rig.seen.ask("m", "baseline", {"sensor": "acc", "baseline": other.settings, "path": ""})
    bad = rig.seen.ask("m", "baseline", {"sensor": "nose", "baseline": other.settings, "path": ""})
    unknown = rig.seen.ask("m", "reboot", {})
    broken = rig.seen.ask("m", "baseline", {"sensor": "acc"})
    elsewhere = rig.seen.ask("another", "baseline", {})
    for k in range(30, 60):
        rig.step(k)
    name, error = rig.seen.command_state(good)
    assert error is None
    (decision,) = rig.seen.decisions()
    assert decision.id == name
    assert T0 + 3 * NS <= decision.t_ns <= T0 + 4.2 * NS
    assert decision in tap.taken
    assert any(other.settings in name for name in tap.carried)
    settings = {(b["settings"], b["t_end_ns"] > decision.t_ns) for b in rig.durable("score")}
    assert settings == {(rig.settings.baselines["acc"], False), (other.settings, True)}
    assert "no sensor 'nose'" in str(rig.seen.command_state(bad)[1])
    assert "not known" in str(rig.seen.command_state(unknown)[1])
    assert rig.seen.command_state(broken) == (None, "KeyError: 'baseline'")
    assert rig.seen.command_state(elsewhere) == (None, None)
    assert Rig(tmp_path).shard.lanes["m"].counts["in.decision"] == 1


def test_a_command_of_another_day_is_answered_and_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine may have been disabled for months; one that an earlier version wrote down says no time."""
    rig = Rig(tmp_path)
    other = baseline_of(ACC, 1)
    rig.settings.artefacts[other.settings] = other
    body = {"sensor": "acc", "baseline": other.settings, "path": ""}
    asked = []
    for at_ns in (T0 - 25 * 3600 * NS, T0 - 23 * 3600 * NS):
        monkeypatch.setattr("pipeline.state_commands.time.time_ns", lambda at_ns=at_ns: at_ns)
        asked.append(rig.seen.ask("m", "baseline", body))
    rig.shard.checkpoint()
    assert rig.seen.command_state(asked[0]) == (None, "no engine had this machine for a day; ask once more")
    (decision,) = rig.seen.decisions()
    assert rig.seen.command_state(asked[1]) == (decision.id, None) and "asked_ns" not in decision.body
    rig.seen._db.execute("UPDATE command SET decision = NULL, body = ? WHERE seq = 2", (orjson.dumps(body),))
    (command,) = rig.seen.open_commands()
    assert command.asked_ns is None and command.body == body


def test_a_command_whose_check_fails_in_any_way_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that others wrote anything can come; an open command would end every later start as well."""
    rig = Rig(tmp_path)

    def fails(*_: object) -> dict[str, Any]:
        raise RuntimeError("what nobody expects")

    monkeypatch.setattr(LaneSettings, "verify", fails)
    asked = rig.seen.ask("m", "baseline", {"sensor": "acc", "baseline": "x", "path": "y"})
    rig.shard.checkpoint()
    assert rig.seen.command_state(asked) == (None, "RuntimeError: what nobody expects")
    assert rig.seen.open_commands() == [] and rig.seen.decisions() == []


def test_metrics_are_published_with_the_ages_of_scores(tmp_path: Path) -> None:
    """Counters per lane, and how long after its window's end each score was durable."""
    rig = Rig(tmp_path)
    for k in range(60):
        rig.step(k)
    rig.shard.checkpoint()
    body = rig.seen.metrics()["one"]
    lane = body["machines"]["m"]
    assert lane["counts"]["in.vibration"] == 60
    assert lane["event_ns"] == T0 + 6 * NS
    assert sum(body["score_ages"]) == len(rig.durable("score"))
    assert sum(body["score_ages"][: 400_000_000 // AGE_STEP_NS]) == sum(body["score_ages"])
    assert orjson.loads(orjson.dumps(body)) == body


def test_a_snapshot_is_small(tmp_path: Path) -> None:
    """One record per lane and second."""
    rig = Rig(tmp_path)
    for k in range(len(rig.inputs)):
        rig.step(k)
    rig.shard.close()
    assert 100 < len(rig.seen.snapshots()["m"]) < 20_000


@pytest.mark.parametrize("named", [True, False])
def test_only_its_own_machines(tmp_path: Path, named: bool) -> None:
    """A message of a machine that the configuration does not know is a dead letter, once a hundred times."""
    settings = LaneSettings(machine(ACC, name="m" if named else "other"))
    shard = Shard("one", [settings], Store(tmp_path / "s.sqlite"), ManualClock(T0))
    for message in chunks(ACC, normal_noise(ACC, 12.0, 1)):
        shard.take(message)
    shard.checkpoint()
    letters = [r.body for r in Store(tmp_path / "s.sqlite").read(0, ("dlq",))]
    assert len(letters) == (0 if named else 100)
    assert all(b["reason"] == "unknown_machine" and b["machine"] == "m" for b in letters)
    assert shard.counts.get("dead.unknown_machine", 0) == (0 if named else 120)
