"""What a shard does while its state or its recording cannot be written: it waits, counts, and loses nothing."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import BadInput, DecodeError, StateError
from pipeline.messages import NS, Anchor, Chunk, Input, Mark, Record
from pipeline.shard import AGE_BUCKETS, AGE_STEP_NS, PATIENCE_NS, RESULTS_EVERY_NS
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of
from tests.pipeline.test_shard import ACC, TOPICS, Rig, Tap


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


def test_a_shard_with_nothing_new_leaves_the_disk_alone(rig: Rig, disk: Disk) -> None:
    """But for a checkpoint a second: flash memory wears."""
    for k in range(12):
        rig.step(k)
    disk.tries.clear()
    for _ in range(200):
        rig.clock.sleep(0.02)
        rig.shard.tick()
    assert len(disk.tries) <= 5


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


class Broken(Tap):
    """A recording on a disk that fails in a way of which nobody has made an error of ours."""

    def _check(self) -> None:
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")

    def close(self) -> None:
        """Fails like the rest."""
        self._check()


def test_a_recording_on_a_failing_disk_costs_no_result(tmp_path: Path) -> None:
    """Whatever is asked of it, a promotion's baseline and the end of the file included."""
    tap = Broken()
    rig, whole = Rig(tmp_path / "one", tap), Rig(tmp_path / "two")
    tap.failing = True
    for one in (rig, whole):
        other = baseline_of(ACC, 1)
        one.settings.artefacts[other.settings] = other
        for k in range(len(one.inputs)):
            if k == 30:
                one.seen.ask("m", "baseline", {"sensor": "acc", "baseline": other.settings, "path": ""})
            one.step(k)
        one.shard.close()
    assert results(rig) == results(whole) and len(rig.seen.decisions()) == 1
    assert rig.shard.counts["recording.failed"] > 120 and tap.carried == set()


def test_a_recording_shows_viewers_scores_alarms_and_health(tmp_path: Path) -> None:
    """And no other results: features are many, and made again from the samples."""
    shown: list[str] = []

    class Showing(Tap):
        """Notes which results it is given."""

        def write_result(self, record: Record, now_ns: int = 0) -> None:
            """Note its topic."""
            shown.append(record.topic)

    rig = Rig(tmp_path, Showing())
    for message in rig.inputs:
        rig.shard.take(message)
    rig.shard.close()
    assert set(shown) == {"score", "alarm", "health"} and rig.durable("feature")
    assert shown.count("score") == len(rig.durable("score"))


def test_what_clears_an_alarm_is_durable_with_it(rig: Rig) -> None:
    """A device does not say again what raised it: the next process must know that it stands."""
    for message in rig.inputs:
        rig.shard.take(message)  # no tick, so that nothing else is written
        if rig.durable("alarm"):
            break
    assert rig.seen.snapshots() == {"m": rig.shard.lanes["m"].snapshot()}


def test_results_that_keep_coming_do_not_put_each_other_off(rig: Rig) -> None:
    """The oldest one says when it is time; before, nothing is written for it alone."""
    durable = []
    for k in range(4):
        rig.shard.refuse("raw.vibration", [], bytes([k]), DecodeError("length", "too short"))
        rig.shard.tick()
        durable.append(len(rig.durable("dlq")))
        rig.clock.sleep(0.02)
    assert durable == [0, 0, 0, 4]


def test_a_slow_disk_is_part_of_a_scores_age(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told when it is durable."""
    commit = Store.commit

    def slow(*given: Any, **named: Any) -> None:
        rig.clock.sleep(1.0)
        commit(*given, **named)

    for k in range(30):
        rig.step(k)
    rig.shard.checkpoint()
    before = list(rig.shard.ages)
    monkeypatch.setattr(Store, "commit", slow)
    rig.clock.sleep(0.5)
    for k in range(30, 35):
        rig.shard.take(rig.inputs[k])
    rig.shard.checkpoint()
    new = [after - earlier for after, earlier in zip(rig.shard.ages, before, strict=True)]
    assert sum(new) > 0 and sum(new[: NS // AGE_STEP_NS]) == 0


def test_nothing_is_decided_while_results_cannot_be_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is obeyed behind the results that came before it."""

    def fails(*_: Any, **__: Any) -> None:
        raise StateError("no space")

    asked = rig.seen.ask("m", "reboot", {})
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", fails)
        rig.shard.checkpoint()
        assert rig.seen.command_state(asked) == (None, None)
    rig.shard.checkpoint()
    assert rig.seen.command_state(asked)[1] is not None


def test_metrics_that_cannot_be_written_are_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And come with the next checkpoint."""

    def fails(*_: Any) -> None:
        raise StateError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_metrics", fails)
        rig.shard.checkpoint()
    assert rig.seen.metrics() == {}
    rig.shard.checkpoint()
    assert rig.seen.metrics()["one"]["counts"] == {"state.failed": 1}


def test_a_decision_that_is_not_durable_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay would judge by what was never in force."""

    def fails(*_: Any) -> None:
        raise StateError("no space")

    tap = Tap()
    rig = Rig(tmp_path, tap)
    other = baseline_of(ACC, 1)
    rig.settings.artefacts[other.settings] = other
    rig.seen.ask("m", "baseline", {"sensor": "acc", "baseline": other.settings, "path": ""})
    with monkeypatch.context() as patch:
        patch.setattr(Store, "decide", fails)
        rig.shard.checkpoint()
    assert tap.taken == [] and rig.shard.lanes["m"].counts["in.decision"] == 0
    rig.shard.checkpoint()
    assert tap.taken == rig.seen.decisions() != []


def test_an_input_of_nobody_that_cannot_be_written_down_is_a_letter_too(rig: Rig) -> None:
    """Of a machine that no configuration names, with samples that are not what their stream says."""
    stranger = replace(ACC, machine="stranger")
    rig.shard.take(Chunk(stranger, Anchor(0, T0), 0, 0, np.zeros((10, 3), ACC.dtype)))
    rig.shard.checkpoint()
    (letter,) = rig.durable("dlq")
    assert letter["reason"] == "unknown_machine"


def test_a_sensor_that_has_not_been_heard_of_has_no_place(rig: Rig) -> None:
    """Its marks stand in a stream of their own, before the first one: there is nothing to resume from."""
    rig.shard.take(Mark(replace(ACC, epoch=-1), Anchor(0, T0), 0, 4000, "abandoned"))
    rig.shard.checkpoint()
    assert rig.seen.positions() == {}
