"""What a shard does while its state or its recording cannot be written: it waits, counts, and loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BadInput, StateError
from pipeline.messages import NS, Input
from pipeline.shard import AGE_BUCKETS, PATIENCE_NS, RESULTS_EVERY_NS
from pipeline.state import Store
from tests.engines.scenarios import T0
from tests.pipeline.test_shard import TOPICS, Rig, Tap


class Disk:
    """Fails when told, and notes each try to write results, with those that wait."""

    def __init__(self, patch: pytest.MonkeyPatch, rig: Rig) -> None:
        self.failing, self.tries, self.log = False, list[int](), list[str]()
        commit, asked, disk = Store.commit, Store.open_commands, self

        def committed(store: Store, records: Any, *more: Any, **named: Any) -> None:
            disk.tries.append(rig.clock.now_ns())
            disk.log.append("urgent" if named.get("urgent") or (len(more) > 2 and more[2]) else "commit")
            if disk.failing:
                raise StateError("no space")
            commit(store, records, *more, **named)

        def open_commands(store: Store) -> Any:
            if disk.failing:
                raise StateError("no space")
            return asked(store)

        patch.setattr(Store, "commit", committed)
        patch.setattr(Store, "open_commands", open_commands)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A shard of one accelerometer."""
    return Rig(tmp_path / "one")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> Disk:
    """Of the rig."""
    return Disk(monkeypatch, rig)


def results(rig: Rig) -> set[tuple[str, str]]:
    """What is durable, by topic and id."""
    return {(topic, body["id"]) for topic in TOPICS for body in rig.durable(topic)}


def test_a_state_that_cannot_be_written_for_a_while_costs_nothing(tmp_path: Path, rig: Rig, disk: Disk) -> None:
    """All results are durable once it can, those of an alarm included; each failure is counted."""
    for k in range(len(rig.inputs)):
        disk.failing = 20 <= k < 80
        rig.step(k)
    failed = rig.shard.counts["state.failed"]
    disk.failing = False
    rig.shard.close()
    whole = Rig(tmp_path / "two")
    for k in range(len(whole.inputs)):
        whole.step(k)
    whole.shard.close()
    assert results(rig) == results(whole) and failed > 6
    assert {"raised"} <= {body["transition"] for body in rig.durable("alarm")}


def test_a_full_disk_is_not_tried_at_every_turn(rig: Rig, disk: Disk) -> None:
    """But every 50 ms, as results are made durable; each try would hold the lanes up."""
    for k in range(12):
        rig.step(k)
    disk.failing = True
    rig.shard.take(rig.inputs[12])
    disk.tries.clear()
    for k in range(13, 40):
        rig.shard.take(rig.inputs[k])
        for _ in range(20):
            rig.clock.sleep(0.005)
            rig.shard.tick()
    seconds = 27 * 20 * 0.005
    assert 0 < len(disk.tries) <= seconds * NS / RESULTS_EVERY_NS + seconds + 1


def test_patience_begins_anew_with_each_success(rig: Rig, disk: Disk) -> None:
    """A minute without one ends the process, as the service manager may help; not the sum of short troubles."""
    for _ in range(3):
        disk.failing = True
        rig.shard.checkpoint()
        rig.clock.sleep(0.7 * PATIENCE_NS / NS)
        rig.shard.checkpoint()
        disk.failing = False
        rig.shard.checkpoint()
    disk.failing = True
    rig.shard.checkpoint()
    rig.clock.sleep(PATIENCE_NS / NS - 0.1)
    rig.shard.checkpoint()
    rig.clock.sleep(0.2)
    with pytest.raises(StateError, match="no space"):
        rig.shard.checkpoint()


def test_what_could_not_be_written_at_the_end_is_said(rig: Rig, disk: Disk) -> None:
    """The process must not end as if all was well."""
    rig.step(0)
    disk.failing = True
    with pytest.raises(StateError, match="the last results come again at the next start"):
        rig.shard.close()
    disk.failing = False
    rig.shard.close()


def test_commands_that_cannot_be_looked_for_are_counted(rig: Rig, disk: Disk) -> None:
    """And looked for again."""
    disk.failing = True
    rig.shard._ask(T0)
    assert rig.shard.counts["state.failed"] == 1
    asked = rig.seen.ask("m", "reboot", {})
    disk.failing = False
    rig.shard._ask(T0)
    assert "not known" in str(rig.seen.command_state(asked)[1])


class Noting(Tap):
    """Notes what comes before an alarm is durable; refuses what it is told to refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.refuses = list[str](), False

    def write(self, message: Input, now_ns: int) -> None:
        """Keep it."""
        if self.refuses:
            raise BadInput("shape", "not what its stream says")
        self.log.append("write")

    def sync(self) -> None:
        """Note it."""
        self.log.append("sync")


def test_the_samples_behind_an_alarm_are_on_disk_before_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence that is cut from the recording would lack what raised it."""
    tap = Noting()
    rig = Rig(tmp_path, tap)
    disk = Disk(monkeypatch, rig)
    disk.log = tap.log
    for message in rig.inputs:
        rig.shard.take(message)
    alarms = [n for n, what in enumerate(tap.log) if what == "urgent"]
    assert alarms and all(tap.log[n - 1] == "sync" for n in alarms)


def test_what_a_recording_refuses_is_counted_and_judged_on(tmp_path: Path) -> None:
    """It is not a failure of the recording."""
    tap = Noting()
    rig = Rig(tmp_path, tap)
    tap.refuses = True
    for k in range(5):
        rig.step(k)
    assert (rig.shard.counts["recording.refused"], rig.shard.counts.get("recording.failed", 0)) == (5, 0)
    assert rig.shard.lanes["m"].counts["in.vibration"] == 5


@pytest.mark.parametrize(("ahead_s", "bucket"), [(60.0, 0), (-60.0, AGE_BUCKETS)])
def test_ages_of_scores_under_a_clock_that_is_off(rig: Rig, ahead_s: float, bucket: int) -> None:
    """Of a sensor whose clock is ahead they are 0, of one that is behind the most that is told."""
    rig.clock.sleep(-ahead_s)
    for k in range(30):
        rig.step(k)
    rig.shard.checkpoint()
    ages = rig.shard.metrics()["score_ages"]
    assert ages[bucket] == sum(ages) == len(rig.durable("score")) > 0
