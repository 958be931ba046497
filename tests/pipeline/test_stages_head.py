"""The drilling head in a lane: refused where it cannot hear, alike on the hostile engine, from samples to alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from config.schema import Machine
from operators.base import Windowed
from operators.head import HeadFrames
from operators.head_detector import HeadDetector
from operators.head_geometry import HeadGeometry, grid
from pipeline import stages_head, topology
from pipeline.errors import BadInput
from pipeline.fast import FastDetectors
from pipeline.messages import NS, Alarm, Chunk, Input, Mark, Record
from pipeline.stages import LaneSettings
from pipeline.stages_spindle import Facing
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream

RATE = 16_000
ARRAY = stream("array", "acoustic", RATE, channels=4)
MICROPHONES = [[-0.2, -0.15], [0.72, -0.21], [-0.13, 0.44], [0.66, 0.5]]
HEAD: dict[str, Any] = {"rows": 2, "columns": 3, "pitch_m": 0.25, "microphones_m": MICROPHONES}
DRILL = {"taught_holes": 2, "head": HEAD}
STROKE_S, STROKES = 2.0, 5
LEVEL = 0.02
BROKE, SILENT_FROM = 4, 3
"""The bit that breaks 1.3 s into stroke 3 (of 0, 1, …) and is silent from then on."""


@cache
def log() -> dict[str, list[Input]]:
    """Five strokes."""
    counts = sound(STROKES, SILENT_FROM)
    return {"array": [*chunks(ARRAY, counts, 0.05), end(ARRAY, len(counts))]}


def sound(strokes: int, silent_from: int, places: Mapping[str, Any] = HEAD) -> NDArray[np.int16]:
    """Strokes of a head, as a rule of six bits, in a free field, from 0.4 to 1.8 s of every two seconds. Counts."""
    rng = np.random.default_rng(2)
    bits = grid(places["rows"], places["columns"], places["pitch_m"])
    head = HeadGeometry(bits, np.array(places["microphones_m"]))
    n = round(STROKE_S * strokes * RATE)
    t = np.arange(n) / RATE
    dry = rng.standard_normal((len(bits), n)) * ((t % STROKE_S > 0.4) & (t % STROKE_S < 1.8))
    at = silent_from * STROKE_S + 1.3
    dry[BROKE, t >= at] = 0.0
    hit = (t >= at) & (t < at + 0.003)
    dry[BROKE, hit] = 5.0 * rng.standard_normal(int(hit.sum()))
    f = np.fft.rfftfreq(n, 1.0 / RATE)
    spectra = np.fft.rfft(dry, axis=1)
    x = 0.3 * rng.standard_normal((n, 4))
    for m in range(4):
        turn = np.exp(-2j * np.pi * f * head.delays_s()[:, m, None]) / head.distances_m()[:, m, None]
        x[:, m] += np.fft.irfft(np.sum(spectra * turn, axis=0), n)
    return np.asarray(np.clip(np.round(LEVEL * x / ARRAY.scale), -32768, 32767).astype("<i2"))


@cache
def straight() -> tuple[Record, ...]:
    """The undisturbed run."""
    return tuple(run_straight(LaneSettings(machine(ARRAY, drill=DRILL)), log()))


def said(records: tuple[Record, ...] | list[Record], topic: str, detector: str) -> list[dict[str, Any]]:
    """Bodies of a detector's results in order of time."""
    found = [r for r in records if r.topic == topic and r.body["detector"] == detector]
    return [dict(r.body) for r in sorted(found, key=lambda r: r.t_ns)]


def test_the_bit_that_breaks_is_named_within_200_ms_and_then_as_silent() -> None:
    """From samples to alarms, advisory both."""
    raised = [a for a in said(straight(), "alarm", "head_break") if a["transition"] == "raised"]
    (broke,) = raised
    at_s = SILENT_FROM * STROKE_S + 1.3
    assert 0.0 < (broke["t_ns"] - T0) / NS - at_s < 0.2
    assert broke["reasons"]["spindle"] == BROKE + 1 and broke["severity"] == "advisory"
    assert "bit 5 (row 2, column 2)" in broke["text"]
    (silent,) = [a for a in said(straight(), "alarm", "head_silent") if a["transition"] == "raised"]
    assert silent["reasons"]["spindle"] == BROKE + 1
    assert silent["t_ns"] > broke["t_ns"]
    first = said(straight(), "score", "head_silent")[0]
    assert not first["complete"] and "not commissioned: 1 of 2 strokes taught" in first["reasons"]["text"]


@pytest.mark.parametrize("seed", range(2))
def test_the_hostile_engine_gives_the_same_answer(seed: int) -> None:
    """Chunks cut and joined at random, the lane rebuilt between messages."""
    hostile = run_hostile(LaneSettings(machine(ARRAY, drill=DRILL)), log(), seed, rebuild=0.02)
    for topic in ("score", "alarm"):
        for detector in ("head_break", "head_silent"):
            assert said(hostile, topic, detector) == said(straight(), topic, detector)


def test_the_fast_lane_says_the_same_and_sooner() -> None:
    """From slices of 5 ms, with the pipeline's ids; what the pipeline's chunks hold back is not waited for."""
    ear = FastDetectors(LaneSettings(machine(ARRAY, drill=DRILL)))
    told: dict[str, float] = {}
    for message in log()["array"]:
        assert isinstance(message, Chunk | Mark)
        step = round(0.005 * RATE)
        for n in range(0, message.n1 - message.n0, step) if isinstance(message, Chunk) else ():
            assert isinstance(message, Chunk)
            part = replace(message, n0=message.n0 + n, samples=message.samples[n : n + step])
            for one in ear.listen(part):
                if isinstance(one, Alarm):
                    told[one.id] = (part.t1_ns - T0) / NS
    alarms = {a["id"]: a for name in ("head_break", "head_silent") for a in said(straight(), "alarm", name)}
    alarms |= {a["id"]: a for name in ("drill_break", "drill_missing") for a in said(straight(), "alarm", name)}
    assert told.keys() == alarms.keys()
    raised = next(a for a in alarms.values() if a["detector"] == "head_break")
    assert 0.0 <= told[raised["id"]] - (raised["t_ns"] - T0) / NS <= 0.03


def test_stages_are_made_for_the_sensor_that_hears_the_head() -> None:
    """A grid or a list; another sensor, or a drill without a head, gets none."""
    other = stream("door", "acoustic", RATE)
    settings = LaneSettings(machine(ARRAY, other, drill=DRILL))
    made = stages_head.head(settings, ARRAY)
    assert isinstance(made, Facing) and isinstance(made, Windowed)
    assert isinstance(stages_head.head_detector(settings, None), HeadDetector)
    assert stages_head.head(settings, other) is None
    plain = LaneSettings(machine(ARRAY, drill={}))
    assert stages_head.head(plain, ARRAY) is None and stages_head.head_detector(plain, None) is None
    spots = [[0.0, 0.0, 0.1], [0.3, 0.0], [0.1, 0.2]]
    listed = LaneSettings(machine(ARRAY, drill={"head": {"spindles_m": spots, "microphones_m": MICROPHONES}}))
    head = stages_head.geometry(listed)
    assert head is not None and head.spindles_m.shape == (3, 3) and head.name(2) == "bit 3"
    assert topology.check() == []
    assert HeadFrames.memory_s <= 1.0  # what a restart reads again of every microphone


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ({**HEAD, "microphones_m": MICROPHONES[:3]}, "has 3 microphones_m, but sensor 'array' has 4 channels"),
        ({**HEAD, "sensor": "door"}, "'door' has 1 channels"),
        ({**HEAD, "sensor": "roof"}, "found: none"),
        ({**HEAD, "spindles_m": [[0.0, 0.0], [0.1, 0.0]]}, "either a grid"),
        ({"rows": 2, "columns": 3, "microphones_m": MICROPHONES}, "either a grid"),
        ({**HEAD, "rows": 100}, "2 to 120 bits, not 300"),
        ({**HEAD, "microphones_m": [[0.0, 1.0]]}, "microphones_m"),
        ({**HEAD, "pitch": 0.1}, "pitch"),
    ],
)
def test_heads_that_are_not_heard_are_refused(head: dict[str, Any], text: str) -> None:
    """By the configuration, in words."""
    with pytest.raises(ValueError, match=text):
        machine(ARRAY, stream("door", "acoustic", RATE), drill={"head": head})


def test_places_that_cannot_be_are_refused_by_the_stage() -> None:
    """A microphone upon a bit names the machine and its section."""
    wrong: Machine = machine(ARRAY, drill={"head": {**HEAD, "microphones_m": [[0.0, 0.0], *MICROPHONES[1:]]}})
    with pytest.raises(BadInput, match=r"machine 'm', \[machine.drill.head\].*within 2 cm"):
        stages_head.geometry(LaneSettings(wrong))
    slow = stream("array", "acoustic", 8000, channels=4)
    with pytest.raises(BadInput, match="at least 16000 Hz"):
        stages_head.head(LaneSettings(machine(slow, drill=DRILL)), slow)
