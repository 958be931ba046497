"""The speed of the air run in a lane: measured by one sensor, used by all, alike on every engine."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from config.schema import Machine
from pipeline.fast import FastDetectors
from pipeline.messages import NS, Alarm, Chunk, Context, Input, Mark, Record, Score
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from pipeline.stages_spindle import air_run
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream
from tests.pipeline.test_stages_physics import said

RATE, TEETH = 8000, 3
MIC, ACC = stream("mic", "acoustic", RATE), stream("acc", "vibration", RATE)
AIR_RUN = {"sensor": "mic", "states": ["air"], "lowest_rpm": 7000, "highest_rpm": 13_000}
SPINDLE: dict[str, Any] = {"air_run": AIR_RUN, "teeth": TEETH, "cutting_states": ["cut"]}
TIMES = (("air", 0.0, 3.0), ("cut", 3.0, 7.0), ("idle", 7.0, 9.0), ("air", 9.0, 12.0), ("cut", 12.0, 16.0))
SPEEDS = (9000.0, 11_340.0)
"""Of the first and the second program; the second one chatters from 14 s on."""
SECONDS = 17.0


def mill(**spindle: object) -> Machine:
    """A mill whose speed only its air run tells."""
    return machine(MIC, ACC, spindle=SPINDLE | spindle, state_context="state", persistence={"clear_after_s": 0.5})


@cache
def sound(silent: bool = False) -> np.ndarray:
    """Rotation while it turns, tooth passing in the cuts, chatter at 922 Hz in the second."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    x = 0.01 * np.random.default_rng(1).standard_normal(len(t))
    for rpm, cuts in zip(SPEEDS, (TIMES[:2], TIMES[3:]), strict=True):
        (_, air, begins), (_, _, ends) = cuts
        turns, cutting = (t >= air) & (t < ends), (t >= begins) & (t < ends)
        for k in range(1, 9):
            x += (not silent) * turns * 0.01 / k * np.sin(2 * np.pi * k * rpm / 60 * t + k)
            x += cutting * 0.5 / k * np.sin(2 * np.pi * k * TEETH * rpm / 60 * t + k)
    for k in (-1, 0, 1):
        x += ((t > 14) & (t < 15.5)) * np.sin(2 * np.pi * (922 + k * TEETH * SPEEDS[1] / 60) * t)
    counts: np.ndarray = np.round(x / MIC.scale / 2).astype("<i2")[:, None]
    return counts


def states() -> list[Input]:
    """The state, ten times a second."""
    told = [
        (at, next((state for state, since, until in TIMES if since <= at < until), "idle"))
        for at in np.arange(-1.0, SECONDS + 2.0, 0.1)
    ]
    return [Context("m", "state", T0 + round(at * NS), state) for at, state in told]


def speeds() -> list[Input]:
    """The true speed, as a control would tell it."""
    return [
        Context("m", "rpm", T0 + round(at * NS), SPEEDS[int(at >= TIMES[2][2])])
        for at in np.arange(-3.0, SECONDS + 2.0, 0.1)
    ]


@cache
def log(silent: bool = False) -> dict[str, list[Input]]:
    """What microphone, accelerometer and control published."""
    x = sound(silent)
    heard = {s.sensor: [*chunks(s, x, every), end(s, len(x))] for s, every in ((MIC, 0.02), (ACC, 0.03))}
    return {**heard, "context": states()}


@cache
def straight() -> tuple[Record, ...]:
    """The undisturbed run."""
    return tuple(run_straight(LaneSettings(mill()), log()))


def seconds(t_ns: int) -> float:
    return (t_ns - T0) / NS


@pytest.mark.parametrize("sensor", ["mic", "acc"])
def test_each_cut_is_judged_under_the_speed_of_its_air_run(sensor: str) -> None:
    """By the microphone that measured it and by the accelerometer that did not; chatter as with a speed told."""
    scores = [s for s in said(list(straight()), "score") if s["sensors"] == [sensor]]
    for rpm, begins, ends in ((SPEEDS[0], 3.5, 7.0), (SPEEDS[1], 12.5, 16.0)):
        told = [s["reasons"]["rpm"] for s in scores if begins < seconds(s["t_end_ns"]) < ends and s["complete"]]
        assert len(told) > 5
        assert told == pytest.approx([rpm] * len(told), rel=1e-3)
    told = run_straight(LaneSettings(mill(air_run=None, rpm_context="rpm")), {**log(), "speed": speeds()})
    (alarm,), (expected,) = (
        [a for a in said(list(records), "alarm") if a["sensors"] == [sensor] and a["transition"] == "raised"]
        for records in (straight(), told)
    )
    assert 14.0 < seconds(alarm["t_ns"]) < 14.6
    assert seconds(alarm["t_ns"]) == pytest.approx(seconds(expected["t_ns"]), abs=0.05)


def test_what_was_measured_is_told() -> None:
    """As a feature of the sensor, once a second in the air, which dashboards can show."""
    found = [r.body for r in straight() if r.topic == "feature" and r.body["name"] == "air_run"]
    told = [(seconds(f["t_end_ns"]), f["values"]["rpm"]) for f in found]
    expected = [SPEEDS[int(at > 9.0)] for at, _ in told]
    assert [round(at, 1) for at, _ in told] == [2.5, 11.5]
    assert [rpm for _, rpm in told] == pytest.approx(expected, rel=1e-3)


def test_without_a_clear_speed_nothing_is_judged_and_the_reason_said() -> None:
    """A spindle that is not heard: unverified, no alarm."""
    records = run_straight(LaneSettings(mill()), log(silent=True))
    scores = [s for s in said(records, "score") if 3.5 < seconds(s["t_end_ns"]) < 16.0]
    assert scores
    assert not any(s["complete"] for s in scores)
    assert {s["reasons"]["speed"] for s in scores} == {"unclear"}
    assert "no air run before this cut showed a clear speed" in scores[-1]["reasons"]["text"]
    assert not said(records, "alarm")


@pytest.mark.parametrize("seed", range(4))
def test_the_hostile_engine_gives_the_same_answer(seed: int) -> None:
    """Sensors and states interleaved at random, chunks cut, the lane rebuilt between messages."""
    hostile = run_hostile(LaneSettings(mill()), log(), seed, rebuild=0.02)
    for topic in ("score", "alarm"):
        assert said(hostile, topic) == said(list(straight()), topic)


def test_the_fast_lane_says_the_same() -> None:
    """With the pipeline's ids, the accelerometer too."""
    ear = FastDetectors(LaneSettings(mill()))
    messages = sorted((m for part in log().values() for m in part), key=lambda m: m.t1_ns)
    told = set()
    for message in messages:
        assert isinstance(message, Chunk | Mark | Context)
        told |= {one.id for one in ear.listen(message) if isinstance(one, Alarm)}
    assert told == {a["id"] for a in said(list(straight()), "alarm")}
    assert len(told) == 2


def test_the_accelerometer_waits_for_the_microphone_and_no_longer() -> None:
    """What it heard is judged as soon as the speed is known, without another sample of its own."""
    lane = Lane(LaneSettings(mill()))
    for message in (*log()["context"], *log()["acc"]):
        assert not [r for r in lane.process(message) if isinstance(r, Score) and r.sensors == ("acc",)]
    assert lane.starving() == {"air_run_rpm"}
    late = [r for m in log()["mic"] for r in lane.process(m) if isinstance(r, Score) and r.sensors == ("acc",)]
    assert [s for s in late if s.detector == "chatter" and s.complete]
    assert not lane.starving()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"rpm": 9000.0}, "either rpm or rpm_context or an air_run"),
        ({"air_run": AIR_RUN | {"highest_rpm": 14_000}}, "below twice that"),
        ({"air_run": AIR_RUN | {"sensor": "nobody"}}, "'nobody' is none"),
        ({"air_run": AIR_RUN | {"states": ["cut"]}}, "other states that mean air"),
        ({"cutting_states": []}, "needs cutting_states"),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, object], why: str) -> None:
    """At the start, with the reason."""
    with pytest.raises(ValidationError, match=why):
        mill(**wrong)


def test_a_machine_that_is_told_its_speed_has_no_air_run() -> None:
    """The stage is made for the sensor that is named alone."""
    made = [(mill(), MIC), (mill(), ACC), (mill(air_run=None, rpm=9000.0), MIC)]
    assert [air_run(LaneSettings(of), sensor) is not None for of, sensor in made] == [True, False, False]
