"""What happened within the last second before a kill, and when a recording is played: alarms, decisions, facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from connectors.prometheus import PrometheusSink
from pipeline.clock import ManualClock
from pipeline.journal import write_journal
from pipeline.live import SingleFile
from pipeline.messages import NS, Anchor, Context, Decision
from pipeline.outlets import known
from pipeline.recording.reader import read
from pipeline.recording.recorder import Recorder, Start
from pipeline.recording.ring import Ring
from pipeline.replay import Replay
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from pipeline.status import overview
from tests.engines.scenarios import T0, baseline_of, chunks, new_baseline, normal_noise, stream, two_states
from tests.faults.rig import ACC, lane


@dataclass
class Lanes:
    """The part of a plan that a replay asks for."""

    lanes: tuple[LaneSettings, ...]
    settings: None = None


def played(folder: Path, lanes: LaneSettings, monkeypatch: pytest.MonkeyPatch, speed: float = 0.0) -> tuple[Store, str]:
    """The state and the journal's hash of a replay of the recordings of a folder."""
    monkeypatch.setattr("pipeline.replay.config_sha256", lambda settings: "")
    store = Store(folder / f"replay-{speed}.sqlite")
    recordings = [read(path) for path in folder.glob("*.mcap*")]
    Replay(recordings, Lanes((lanes,)), store, ManualClock(T0 + NS // 3), speed).run()  # type: ignore[arg-type]
    return store, write_journal(store.journal_records(), folder / "replay.jsonl", {})


def test_an_alarm_raised_just_before_a_kill_is_cleared_by_the_next_run(tmp_path: Path) -> None:
    """A device does not say again what raised it: the state must know of it as soon as the log does."""
    settings, clock = lane(ACC, baseline=baseline_of(ACC)), ManualClock(T0)
    store = Store(tmp_path / "s.sqlite")
    store.enrol({"m": ["acc"]}, {})
    shard = Shard("s", [settings], store, clock)
    for message in chunks(ACC, normal_noise(ACC, 20.0, 5, (10.4, 20.0))):
        shard.take(message)
        clock.sleep(0.1)
        shard.tick()
        if store.read(0, ("alarm",)):
            break
    store.close()  # killed: no checkpoint
    store = Store(tmp_path / "s.sqlite")
    shard = Shard("s", [settings], store, clock)
    clock.sleep(5.0)
    again = replace(ACC, epoch=1)
    for message in chunks(again, normal_noise(again, 60.0, 6), anchor=Anchor(0, clock.now_ns())):
        shard.take(message)
        clock.sleep(0.1)
        shard.tick()
    shard.checkpoint()
    assert [record.body["transition"] for record in store.read(0, ("alarm",))] == ["raised", "cleared"]
    assert overview(store, now_ns=clock.now_ns())["conditions"] == {"m": "normal"}
    page = PrometheusSink()
    page.restore(known(store))
    (active,) = (line for line in page.render()[0].decode().splitlines() if line.startswith("stethos_alarm_active{"))
    assert active.endswith(" 0.0")


@pytest.mark.parametrize("killed", [False, True])
def test_a_decision_just_before_a_kill_is_replayed(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is durable in the state; the recording of the killed run may not have it, that of the next one begins so."""
    made, clock, folder = new_baseline(), ManualClock(T0), tmp_path / "rec"
    (decision,), log = made.log[""], made.log["acc"]

    def start() -> tuple[Store, Ring, Shard]:
        store = Store(tmp_path / "live.sqlite")
        begun = Start({}, {}, tuple(store.decisions()))
        ring = Ring(folder, begun, clock.now_ns(), ring_bytes=10**9, prefix="s", shards=["s"])
        return store, ring, Shard("s", [made.settings], store, clock, ring)

    store, ring, shard = start()
    place = 0
    while place < len(log):
        shard.take(log[place])
        clock.sleep(0.1)
        if place == 60 and not store.decisions():
            one = shard.lanes["m"]
            shard._decide(one, Decision("m", "m|baseline|1", one.event_ns, "baseline", decision.body))
        shard.tick()
        place += 1
        if place == 63 and killed:
            killed = False
            ring._recorder._disk._file.close()  # what waits in memory is never written
            store.close()
            store, ring, shard = start()
            place = store.positions()["m", "acc"].n // 200
    shard.close()
    live = write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    again, replayed = played(folder, made.settings, monkeypatch)
    assert [one.id for one in again.decisions()] == [one.id for one in store.decisions()] == ["m|baseline|1"]
    assert replayed == live


@pytest.mark.parametrize("back_s", [27.0, 35.0])
@pytest.mark.parametrize("speed", [0.0, 0.5, 1.0])
def test_a_replay_gives_up_what_the_run_gave_up(
    back_s: float, speed: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact silent for 7 s was not given up, also where the replay takes 14 s; one of 15 s came back once."""
    acc, clock = stream("acc", "vibration", 2000), ManualClock(T0)
    store = Store(tmp_path / "live.sqlite")
    tap = SingleFile(Recorder(tmp_path / "a-20231114T221320.000000000Z.mcap", Start(), T0))
    shard = Shard("s", [two_states()], store, clock, tap)
    told = 0
    for message in chunks(acc, normal_noise(acc, 45.0, 9)):
        while (told_s := told / 2) <= (message.t1_ns - T0) / NS - 0.1:
            if not 20.0 <= told_s < back_s:
                shard.take(Context("m", "state", T0 + told * NS // 2, "cut"))
            told += 1
        shard.take(message)
        clock.sleep(0.1)
        shard.tick()
    shard.close()
    live = write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    again, replayed = played(tmp_path, two_states(), monkeypatch, speed)
    assert [one.id for one in again.decisions()] == [one.id for one in store.decisions()]
    assert bool(store.decisions()) == (back_s > 30.0)
    assert replayed == live
