"""Physics detectors that listen by a stethoscope: in a lane, as by a microphone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.messages import NS, Input, Modality, Record, Stream
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream
from tests.pipeline.test_drill_gaps import holes
from tests.pipeline.test_stages_physics import ACC, RATE, SPINDLE, chattering, facts, said

CUT = stream("steth", "stethoscope", RATE)
DRILL = stream("steth", "stethoscope", 16_000)


def log_of(s: Stream, x: np.ndarray, *context: Input) -> dict[str, list[Input]]:
    """What the sensor published, and the control."""
    log: dict[str, list[Input]] = {s.sensor: [*chunks(s, x, 0.02), end(s, len(x))]}
    return log | ({"context": list(context)} if context else {})


def by(modality: Modality, s: Stream) -> Stream:
    """The same sensor as one of another kind."""
    return replace(s, modality=modality)


def alarms(records: list[Record]) -> list[tuple[str, str, tuple[str, ...], int, str]]:
    """What was raised and cleared, by which sensor, and why."""
    found = sorted((r for r in records if r.topic == "alarm"), key=lambda r: r.t_ns)
    return [
        (r.body["detector"], r.body["transition"], tuple(r.body["sensors"]), r.t_ns, r.body["reasons"]["text"])
        for r in found
    ]


def test_chatter_by_stethoscope() -> None:
    """Raised within 250 ms of its onset and cleared, with advice; the same as by a microphone, on any engine."""

    def run(s: Stream, *, hostile: bool = False) -> list[Record]:
        settings = LaneSettings(machine(s, spindle=SPINDLE, state_context="state", persistence={"clear_after_s": 0.5}))
        log = log_of(s, np.round(chattering() * (0.1 * ACC.scale / s.scale)).astype("<i2"), *facts())
        return run_hostile(settings, log, 1) if hostile else run_straight(settings, log)

    records = run(CUT)
    raised, cleared = said(records, "alarm")
    assert (raised["transition"], cleared["transition"]) == ("raised", "cleared")
    assert raised["sensors"] == ["steth"]
    assert 4.0 < (raised["t_ns"] - T0) / NS < 4.25 and 5.5 < (cleared["t_ns"] - T0) / NS < 7.0
    assert raised["reasons"]["line_hz"] == pytest.approx(922, abs=460) and "next stable speeds" in raised["text"]
    assert alarms(records) == alarms(run(by("acoustic", CUT))) == alarms(run(CUT, hostile=True))


def test_a_broken_drill_by_stethoscope() -> None:
    """Good holes raise nothing; the hole that ends after half its time does, with what to do; on any engine."""
    x = holes([*((2.0 + 4 * i, 4.0 + 4 * i) for i in range(8)), (34.0, 35.0)], 38.0)

    def run(s: Stream, *, hostile: bool = False) -> list[Record]:
        settings = LaneSettings(machine(s, drill={}))
        return run_hostile(settings, log_of(s, x), 1) if hostile else run_straight(settings, log_of(s, x))

    records = run(DRILL)
    [(detector, transition, sensors, t_ns, text)] = [a for a in alarms(records) if a[1] == "raised"]
    assert (detector, transition, sensors) == ("drill_break", "raised", ("steth",))
    assert 35.0 < (t_ns - T0) / NS < 35.3
    assert text.startswith("drill broken") and text.endswith("stop and look at the drill and the hole")
    assert alarms(records) == alarms(run(by("acoustic", DRILL))) == alarms(run(DRILL, hostile=True))
