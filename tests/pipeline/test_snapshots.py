"""Snapshots that do not fit: of another version's form, or learned from what the sensor does not give any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from pipeline.clock import ManualClock
from pipeline.journal import write_journal
from pipeline.live import SingleFile
from pipeline.messages import NS, Alarm, Anchor, Chunk, DeadLetter, Feature, Result, Score, Stream
from pipeline.nodes import basis_of
from pipeline.recording.recorder import Recorder, Start
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.stages_physics import alarm_persistence
from pipeline.state import Store
from pipeline.topology import STAGES
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream
from tests.faults.rig import ACC, lane
from tests.faults.test_last_second import played

KEY = "persistence|acc|anomaly"


def _short(entry: dict[str, Any]) -> None:
    del entry["state"]["calm_since_ns"]  # what is read last


def _newer(entry: dict[str, Any]) -> None:
    entry["state"]["schema"] = 2


def _other(entry: dict[str, Any]) -> None:
    entry.clear()


UNFIT = pytest.mark.parametrize(
    ("spoil", "why"),
    [(_short, "cannot be used: KeyError: 'calm_since_ns'"), (_newer, "newer stethos"), (_other, "KeyError: 'seen'")],
)


def half_counted(settings: LaneSettings, spoil: Callable[[dict[str, Any]], None]) -> tuple[bytes, list[Chunk]]:
    """A snapshot in which two abnormal scores of the three that raise are counted, spoiled; and what comes next."""
    first, rest = Lane(settings), chunks(ACC, normal_noise(ACC, 14.0, 5, (4.0, 14.0)))
    log = [message for message in rest if isinstance(message, Chunk)]
    while sum(orjson.loads(first.snapshot())["states"].get(KEY, {"state": {"recent": []}})["state"]["recent"]) < 2:
        first.process(log.pop(0))
    body, needed = orjson.loads(first.snapshot()), first.needs_from()[ACC.key]
    spoil(body["states"][KEY])
    return orjson.dumps(body), [message for message in rest if isinstance(message, Chunk) and message.n1 > needed]


def judged(snapshot: bytes, log: list[Chunk]) -> list[Result]:
    """What a lane says that goes on from a snapshot."""
    again = Lane(lane(ACC, baseline=baseline_of(ACC)))
    again.restore(snapshot)
    return [result for message in log for result in again.process(message)]


def bodies(results: Iterable[Any]) -> list[dict[str, Any]]:
    """What the log would hold of results."""
    return [dict(record_of(result).body) for result in results]


@UNFIT
def test_an_operator_whose_snapshot_cannot_be_read_begins_anew(
    spoil: Callable[[dict[str, Any]], None], why: str
) -> None:
    """It counts from nought, behind what it had heard, and says so once; the others go on as if nothing were."""
    settings = lane(ACC, baseline=baseline_of(ACC))
    snapshot, log = half_counted(settings, spoil)
    good, _ = half_counted(settings, lambda entry: None)
    out, undisturbed = judged(snapshot, log), judged(good, log)
    (letter,) = [r for r in out if isinstance(r, DeadLetter)]
    assert letter.reason == "snapshot_unfit" and letter.error.startswith(f"{KEY} begins anew: ") and why in letter.error
    entry = orjson.loads(letter.value)
    assert entry == orjson.loads(snapshot)["states"][KEY]
    scores = [r for r in out if isinstance(r, Score)]
    assert bodies(scores) == bodies([r for r in undisturbed if isinstance(r, Score)])
    heard_ns = max(entry.get("seen", {"": 0}).values())
    fresh = alarm_persistence("anomaly", settings.machine.persistence, "warning")
    new = [score for score in scores if score.detector == "anomaly" and score.t_end_ns > heard_ns]
    alarms = [alarm for score in new for alarm in fresh.process(score)]
    assert alarms
    assert bodies(alarms) == bodies([r for r in out if isinstance(r, Alarm) and r.detector == "anomaly"])
    assert bodies(alarms) != bodies([r for r in undisturbed if isinstance(r, Alarm) and r.detector == "anomaly"])
    assert not [r for r in undisturbed if isinstance(r, DeadLetter)]


@UNFIT
def test_a_recording_that_begins_with_such_a_snapshot(
    spoil: Callable[[dict[str, Any]], None], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, tells it and counts it; the replay gives the same journal, and counts it too."""
    settings, clock = lane(ACC, baseline=baseline_of(ACC)), ManualClock(T0)
    snapshot, log = half_counted(settings, spoil)
    store = Store(tmp_path / "live.sqlite")
    store.commit([], {"m": snapshot})
    start = Start({"snapshot/m": snapshot})
    shard = Shard(
        "s", [settings], store, clock, SingleFile(Recorder(tmp_path / "a-20231114T221320.000000000Z.mcap", start, T0))
    )
    for message in log:
        shard.take(message)
        clock.sleep(0.1)
        shard.tick()
    shard.close()
    (told,) = store.read(0, ("dlq",))
    assert why in told.body["error"]
    live = write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    again, replayed = played(tmp_path, settings, monkeypatch)
    assert replayed == live
    assert [record.body["error"] for record in again.read(0, ("dlq",))] == [told.body["error"]]
    assert not [r for r in judged(store.snapshots()["m"], log[-9:]) if isinstance(r, DeadLetter)]


# what was learned ------------------------------------------------------------------------------------------------

RATE = 16_000


def drilling(holes: int, gain: float, *, broken: bool = False) -> np.ndarray:
    """A second of air and a second and a half of drilling, again and again; the last drill may break half-way."""
    t = np.arange(round((2.5 * holes + 1.0) * RATE)) / RATE
    cuts = (t % 2.5 > 1.0) & (t < 2.5 * holes)
    burst = np.zeros(len(t), bool)
    if broken:
        at = 2.5 * holes - 0.75
        cuts, burst = cuts & (t < at), np.abs(t - at) < 0.005
    noise = np.random.default_rng(holes).standard_normal(len(t))
    return (gain * (0.002 + 0.1 * cuts + 1.0 * burst) * noise).astype("<f4")[:, None]


def drilled(snapshot: bytes | None, unit: str, x: np.ndarray, start_s: float) -> tuple[Lane, list[Result]]:
    """What a lane says of a drill that an accelerometer in this unit hears."""
    acc = Stream("m", "acc", int(start_s > 0), "vibration", stream("acc", "vibration", RATE).rate, 1, "<f4", unit, 1.0)
    settings = LaneSettings(machine(acc, drill={}, spindle={"rpm": 3000.0}))
    made = Lane(settings)
    if snapshot is not None:
        made.restore(snapshot)
    anchor = Anchor(0, T0 + round(start_s * NS))
    return made, [result for message in chunks(acc, x, 0.5, anchor=anchor) for result in made.process(message)]


@pytest.mark.parametrize(("unit", "before"), [("m/s2", "m/s2"), ("g", "m/s2"), ("m/s2", None)])
def test_a_drill_is_learned_anew_in_another_unit(unit: str, before: str | None) -> None:
    """With the template of one unit no hole of the other ever begins; one that says no unit is taken for fitting."""
    taught, _ = drilled(None, "m/s2", drilling(4, 1.0), 0.0)
    body = orjson.loads(taught.snapshot())
    if before is None:
        del body["states"]["drill_detector|acc|drill_frame"]["basis"]
    same = unit == "m/s2"
    x = drilling(1 if same else 5, 1.0 if same else 1.0 / 9.80665, broken=True)
    _, out = drilled(orjson.dumps(body), unit, x, 60.0)
    error = "learned from acc: 1 × 16000 Hz, m/s2, not from acc: 1 × 16000 Hz, g"
    letters = [r.error.partition("its snapshot was ")[2] for r in out if isinstance(r, DeadLetter)]
    assert letters == ([] if same else [error])
    assert [r.detector for r in out if isinstance(r, Alarm) and r.transition == "raised"] == ["drill_break"]


def test_what_counts_as_the_same_samples() -> None:
    """Rate, unit and channels of the sensor that is heard; not its neighbours'. Alarms and health are kept."""
    heard = Feature("m", ("acc",), "drill_frame", 0, {})
    (drill,) = (stage for stage in STAGES if stage.name == "drill_detector")
    other = stream("mic", "acoustic", 16_000)

    def basis(*streams: Stream) -> str:
        return basis_of(drill, heard, LaneSettings(machine(*streams)))

    acc = stream("acc", "vibration", 8000)
    assert basis(acc) == basis(acc, other) != ""
    changed = [stream("acc", "vibration", 16_000), stream("acc", "vibration", 8000, channels=3)]
    assert len({basis(acc), *map(basis, changed)}) == 3
    assert {stage.name for stage in STAGES if stage.learns} == {"chatter_detector", "drill_detector", "head_detector"}
    assert all(stage.scope == "condition" and stage.kind == "stateful" for stage in STAGES if stage.learns)
