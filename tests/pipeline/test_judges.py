"""Who judges what: alarms that nobody would clear, baselines that do not fit any more, baselines that are gone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from config.schema import Machine, Settings
from models.anomaly.baseline import Baseline
from models.anomaly.store import save
from pipeline.app import Loader, plan
from pipeline.clock import ManualClock
from pipeline.errors import StateError
from pipeline.judges import LOOKS, Judges, fetch
from pipeline.live import Live
from pipeline.messages import NS, Alarm, Decision, Stream
from pipeline.results import record_of
from pipeline.stages import PAST_NS, LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, learned_models, machine, stream

ACC, SLOW = stream("acc", "vibration", 4000), stream("acc", "vibration", 1000)
MIC = stream("mic", "acoustic", 48_000)
LATHE: dict[str, Any] = {"spindle": {"rpm": 1500, "teeth": 4}, "drill": {}, "bearing": {
    "balls": 8, "diameter_ratio": 0.24, "contact_angle_deg": 0,
}}  # fmt: skip
SEVERITY = {"group": 2, "support": "rigid", "power_kw": 30, "speed_rpm": 1500, "baseline_mm_s": 1.0}


def raise_all(store: Store, *conditions: tuple[str, str]) -> None:
    """Alarms of (detector, sensor) that nobody has cleared."""
    for detector, sensor in conditions:
        alarm = Alarm("m", (sensor,), detector, T0, "raised", 0, T0, "warning", "text", 2.0, 1.0, "")
        store.commit([record_of(alarm)])


def standing(store: Store) -> set[tuple[str, str]]:
    """(detector, sensor) of the alarms that stand."""
    return {(r.body["detector"], r.body["sensors"][0]) for r in store.standing() if r.topic == "alarm"}


def decide(store: Store, baseline: Baseline, number: int, path: Path | str = "") -> None:
    """A baseline in force by decision."""
    since = {baseline.sensor: [0, T0 + number * NS, 0]}
    body = {"sensor": baseline.sensor, "baseline": baseline.settings, "path": str(path), "since": since}
    store.decide(Decision("m", f"m|baseline|{number}", T0 + number * NS, "baseline", body))


def lane_of(described: Machine, configured: Sequence[Baseline] = (), *others: Baseline) -> LaneSettings:
    """A machine with the baselines that its configuration names, and others at hand."""
    artefacts = {baseline.settings: baseline for baseline in (*configured, *others)}
    return LaneSettings(described, {b.sensor: b.settings for b in configured}, artefacts)


def test_alarms_of_baselines_and_heads_that_were_taken_out_are_past(tmp_path: Path) -> None:
    """By sensor, at this start and at the next; not where a decision has chosen a baseline."""
    streams = [stream(name, "vibration", 500) for name in ("a", "b", "c")]
    first, second = (baseline_of(s) for s in streams[:2])
    lane, store = lane_of(machine(*streams), [first], second), Store(tmp_path / "s.sqlite")
    raise_all(store, *((d, s.sensor) for s in streams for d in ("level", "level_drift")), ("wear_head", "a"))
    decide(store, second, 1)
    for _ in range(2):
        assert Judges([lane], store).problems == []
        assert standing(store) == {("level", "a"), ("level", "b")}


@pytest.mark.parametrize("of", ["rate", "states"])
def test_a_decided_baseline_that_does_not_fit_any_more_is_a_problem(tmp_path: Path, of: str) -> None:
    """It is named, and its alarms, which nothing will clear, leave; until the sensor is commissioned again."""
    described = machine(SLOW)
    mended = baseline_of(SLOW)
    old = baseline_of(ACC) if of == "rate" else replace(mended, states={"cut": 0})
    store = Store(tmp_path / "s.sqlite")
    decide(store, old, 1)
    raise_all(store, ("level", "acc"))
    judges = Judges([lane_of(described, (), old, mended)], store)
    (problem,) = judges.problems
    assert problem.startswith("machine 'm', sensor 'acc': the baseline ") and "commission" in problem
    assert standing(store) == set() and not judges.renew(store)
    decide(store, mended, 2)
    assert judges.renew(store) and judges.problems == [] and not judges.renew(store)
    assert standing(store) == {("level", "acc")}  # its lane goes by it, and clears it


def test_a_baseline_that_fits_judges_where_a_newer_one_does_not(tmp_path: Path) -> None:
    """As lanes do; one that cannot be read here, a worker elsewhere may read."""
    fits, store = baseline_of(SLOW), Store(tmp_path / "s.sqlite")
    decide(store, baseline_of(ACC), 1)
    raise_all(store, ("level", "acc"))
    assert len(Judges([lane_of(machine(SLOW), [fits], baseline_of(ACC))], store).problems) == 1
    assert standing(store) == {("level", "acc")}
    assert Judges([lane_of(machine(SLOW))], store).problems == []
    assert standing(store) == {("level", "acc")}


def test_what_a_baseline_has_not_learned_does_not_judge(tmp_path: Path) -> None:
    """A baseline without an embedding, or a sensor of which none is made any more."""
    models, mic = learned_models(), stream("mic", "acoustic", 32000)
    said = models.config.model_dump(by_alias=True)
    plain = baseline_of(mic)
    learned = replace(plain, cells=tuple({**by, "embedding": by["level"]} for by in plain.cells))
    of_embedding = [("embedding", "mic"), ("embedding_drift", "mic")]
    store = Store(tmp_path / "s.sqlite")
    raise_all(store, *of_embedding, ("level", "mic"), ("loudness", "mic"))
    heard = replace(lane_of(machine(mic, model=said, drift=True), [learned]), models=models)
    Judges([heard], store)
    assert standing(store) == {*of_embedding, ("level", "mic"), ("loudness", "mic")}
    Judges([replace(lane_of(machine(mic, model=said, drift=True), [plain]), models=models)], store)
    assert standing(store) == {("level", "mic"), ("loudness", "mic")}
    elsewhere = learned_models()
    elsewhere.config = models.config.model_copy(update={"sensors": ("door",)})
    door = stream("door", "acoustic", 32000)
    said = elsewhere.config.model_dump(by_alias=True)
    Judges([replace(lane_of(machine(mic, door, model=said, drift=True), [learned]), models=elsewhere)], store)
    assert standing(store) == {("level", "mic")}


@pytest.mark.parametrize(
    ("now", "gone"),
    [
        (replace(ACC, rate=SLOW.rate), {"chatter", "tooth_loss", "drill_break", "bearing_outer_race", "severity"}),
        (replace(MIC, sensor="acc"), {"severity", "severity_change"}),
        (ACC, set()),
    ],
    ids=["slower", "microphone", "same"],
)
def test_alarms_of_a_sensor_that_no_longer_gives_what_they_need_are_past(
    tmp_path: Path, now: Stream, gone: set[str]
) -> None:
    """While another sensor of the machine still does."""
    detectors = ["chatter", "tooth_loss", "drill_break", "bearing_outer_race", "severity", "severity_change"]
    other = stream("other", "vibration", 25_600)
    fast = replace(ACC, rate=other.rate) if now is ACC else now
    store = Store(tmp_path / "s.sqlite")
    raise_all(store, *((d, s) for d in detectors for s in ("acc", "other")))
    Judges([lane_of(machine(fast, other, severity=SEVERITY, **LATHE))], store)
    left = standing(store)
    assert {d for d, sensor in left if sensor == "other"} == set(detectors)
    assert not gone & {d for d, sensor in left if sensor == "acc"}
    if not gone:
        assert len(left) == 2 * len(detectors)


def test_the_classifier_and_the_head_hear_some_sensors_alone(tmp_path: Path) -> None:
    """The drill classifier those of its rates; a drilling head the sensor with its microphones."""
    array = stream("array", "acoustic", 48_000, channels=4)
    corners = [[-0.1, -0.1], [0.3, -0.1], [-0.1, 0.3], [0.3, 0.3]]
    head = {"rows": 2, "columns": 2, "pitch_m": 0.05, "microphones_m": corners, "sensor": "array"}
    store = Store(tmp_path / "s.sqlite")
    raise_all(store, *(("head_break", sensor) for sensor in ("array", "mic")))
    Judges([lane_of(machine(array, MIC, drill={"head": head}))], store)
    assert standing(store) == {("head_break", "array")}


def test_a_baseline_may_be_gone_where_nothing_asks_for_it(tmp_path: Path) -> None:
    """Of a sensor that was taken out, or replaced long before what is still needed; else the message says the mend.

    What nothing asks for is not loaded where it is there, either.
    """
    old, new, removed = baseline_of(SLOW), baseline_of(SLOW, 1), baseline_of(stream("gone", "vibration", 500))
    folders = {b.settings: save(b, tmp_path / "chosen") for b in (old, new, removed)}
    store = Store(tmp_path / "s.sqlite")
    for number, baseline in enumerate((removed, old, new)):
        decide(store, baseline, number, folders[baseline.settings])
    for baseline in (old, removed):
        shutil.rmtree(folders[baseline.settings])

    def load(needed_s: float) -> LaneSettings:
        lane = replace(lane_of(machine(SLOW)), load=Loader(tmp_path / "copies"))
        place = {"sensor": "acc", "epoch": 0, "t_ns": T0 + round(needed_s * NS), "end": None}
        fetch(lane, store.decisions(), orjson.dumps({"streams": [place] if needed_s else []}))
        return lane

    past_s = PAST_NS / NS
    for needed_s in (0.0, 2.0, 2.0 + past_s):
        assert set(load(needed_s).artefacts) == {new.settings}
    with pytest.raises(StateError, match=r"is gone: restore it, here or as .*copies"):
        load(1.9)
    save(old, tmp_path / "copies")
    assert set(load(1.9 + past_s).artefacts) == {old.settings, new.settings}
    assert set(load(2.0 + past_s).artefacts) == {new.settings}
    shutil.rmtree(folders[new.settings])
    with pytest.raises(StateError, match="is gone"):
        load(2.0 + past_s)


def test_the_engine_keeps_no_more_baselines_than_its_lanes(tmp_path: Path) -> None:
    """Where shards are processes, each baseline that is put in force is loaded there, too."""
    store, lane = Store(tmp_path / "s.sqlite"), replace(lane_of(machine(SLOW)), load=Loader(tmp_path / "copies"))
    judges, made = Judges([lane], store), [replace(baseline_of(SLOW), hours=float(hours)) for hours in range(1, 5)]
    for number, baseline in enumerate(made):
        decide(store, baseline, number, save(baseline, tmp_path / "chosen"))
        place = {"sensor": "acc", "epoch": 0, "t_ns": T0 + number * NS - 1 + PAST_NS, "end": None}
        store.commit([], {"m": orjson.dumps({"streams": [place]})})
        assert judges.renew(store)
        assert list(lane.artefacts) == [baseline.settings for baseline in made[max(0, number - 1) : number + 1]]


def test_a_run_tells_problems_and_prometheus(tmp_path: Path) -> None:
    """On the page and the terminal as long as they last; an alarm that a lane goes by again is active again."""
    sensor = machine(SLOW).model_dump(mode="json", by_alias=True)["sensor"]
    settings = Settings.model_validate({
        "schema_version": 1, "machine": [{"name": "m", "sensor": sensor}],
        "engine": {"state_dir": tmp_path / "state", "shards": 1}, "recording": {"folder": tmp_path / "recordings"},
        "evidence": {"folder": tmp_path / "evidence"}, "status": {"enabled": False},
    })  # fmt: skip
    described = plan(settings)
    chosen = [(b, save(b, tmp_path / "chosen")) for b in (baseline_of(ACC), baseline_of(SLOW))]
    store = Store(described.state)
    raise_all(store, ("level", "acc"))
    decide(store, chosen[0][0], 1, chosen[0][1])
    live = Live(described, ManualClock(T0))
    active = b'stethos_alarm_active{detector="level",machine="m",sensors="acc",severity="warning"} 1.0'
    assert len(live.problems) == 1 and active not in live.outlets.prometheus.render()[0]
    decide(store, chosen[1][0], 2, chosen[1][1])
    live._publish()
    assert live.problems == [] and active in live.outlets.prometheus.render()[0]
    live.close()
    live.engine._close()


def test_a_fact_that_nobody_tells_is_a_problem_while_it_is_given_up(tmp_path: Path) -> None:
    """Else a machine whose state nobody tells is not judged, and nobody knows why."""
    spindle = {"rpm_context": "speed", "teeth": 4}
    told = machine(MIC, spindle=spindle, state_context="state")
    store = Store(tmp_path / "s.sqlite")
    judges = Judges([lane_of(told), lane_of(machine(MIC, name="n"))], store)

    def say(name: str, kind: str, context: str, t_s: int) -> list[str]:
        store.decide(Decision(name, f"{name}|{kind}|{context}|{t_s}", T0 + t_s * NS, kind, {"context": context}))
        judges.renew(store)
        return judges.problems

    assert say("n", "abandon", "state", 1) == []  # it reads none
    assert say("m", "abandon", "tool", 1) == []
    (problem,) = say("m", "abandon", "state", 5)
    assert problem.startswith("machine 'm': nobody tells 'state' (state_context)")
    assert len(say("m", "abandon", "speed", 5)) == 2
    assert len(say("m", "return", "state", 9)) == 2  # it may come and go, as when it is told every 30 s
    for _ in range(LOOKS):
        judges.renew(store)
    (problem,) = judges.problems
    assert "'speed' (spindle.rpm_context)" in problem
    assert len(say("m", "abandon", "state", 9)) == 2  # of one time, giving up comes last
    again = Judges([lane_of(told)], store)
    again.renew(store)
    assert sorted(again.problems) == sorted(judges.problems)
