"""A drilling lane in which samples are missing: the rest of a hole is neither judged nor learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.fast import FastDetectors
from pipeline.messages import NS, Alarm, Anchor, Input, Record
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream

MIC = stream("mic", "acoustic", 16_000)
CHUNK_S = 0.02


def holes(spans: list[tuple[float, float]], seconds: float) -> np.ndarray:
    """Noise that is louder while the drill cuts."""
    rng = np.random.default_rng(4)
    t = np.arange(round(seconds * 16_000)) / 16_000
    x = 0.002 * rng.standard_normal(len(t))
    for begin, until in spans:
        x += 0.06 * rng.standard_normal(len(t)) * ((t >= begin) & (t < until))
    return np.round(x * 32768).astype("<i2")[:, None]


GOOD = [(2.0 + 4 * i, 4.0 + 4 * i) for i in range(8)]
X = holes(GOOD, 36.0)


def log_of(x: np.ndarray, *lost_s: float) -> dict[str, list[Input]]:
    """The chunks but those that begin at these seconds."""
    lost = {round(s / CHUNK_S) for s in lost_s}
    kept = [chunk for k, chunk in enumerate(chunks(MIC, x, CHUNK_S)) if k not in lost]
    return {"mic": [*kept, end(MIC, len(x))]}


def told(records: list[Record]) -> list[tuple[float, str]]:
    """When, and what."""
    raised = [r for r in records if r.topic == "alarm" and r.body["transition"] == "raised"]
    return [(round((r.t_ns - T0) / NS, 2), r.body["detector"]) for r in raised]


@pytest.mark.parametrize("at_s", [22.2, 22.8, 23.2, 23.7])
def test_one_lost_chunk_in_a_good_hole_is_no_break(at_s: float) -> None:
    """Its rest would be a hole that ends too early."""
    settings = LaneSettings(machine(MIC, drill={}))
    records = run_straight(settings, log_of(X, at_s))
    assert not told(records)
    texts = [r.body["reasons"]["text"] for r in records if r.topic == "score" and r.body["detector"] == "drill_break"]
    assert "samples are missing" in texts
    assert sum(text == "end of a whole hole" for text in texts) == len(GOOD) - 1
    assert told(records) == told(run_hostile(settings, log_of(X, at_s), seed=1))


def test_the_template_outlives_holes_with_lost_chunks_and_the_next_break_is_told() -> None:
    """Two torn holes in a row are no other program."""
    x = holes([*GOOD, (34.0, 35.0)], 40.0)
    records = run_straight(LaneSettings(machine(MIC, drill={})), log_of(x, 22.8, 26.8, 27.2))
    assert [detector for _, detector in told(records)] == ["drill_break"]
    assert 35.0 < told(records)[0][0] < 35.3


def test_a_hole_that_begins_within_lost_samples_is_not_taken_for_a_whole_one() -> None:
    """Half of it was not heard."""
    records = run_straight(LaneSettings(machine(MIC, drill={})), log_of(X, *np.arange(21.7, 23.0, CHUNK_S)))
    assert not told(records)


def test_two_unlike_holes_far_apart_are_no_other_program() -> None:
    """In a row they are."""
    spans, t = [], 2.0
    for n in range(12):
        length = 3.0 if n in {5, 9} else 1.5
        spans.append((t, t + length))
        t += length + 1.5
    broken = (t, t + 0.7)
    records = run_straight(LaneSettings(machine(MIC, drill={})), log_of(holes([*spans, broken], t + 3.0)))
    assert "drill_break" in [detector for at, detector in told(records) if at > t]


def test_the_fast_lane_goes_on_when_a_microphone_reconnects() -> None:
    """What it was taught and the alarm that stands outlive the stream, as in the lane."""
    again = replace(MIC, epoch=1)
    first = holes([*GOOD[:5], (22.0, 23.0)], 24.0)
    later = holes([(2.0, 4.0), (6.0, 7.0), (10.0, 12.0)], 14.0)
    log = [*chunks(MIC, first, CHUNK_S), *chunks(again, later, CHUNK_S, anchor=Anchor(0, T0 + 25 * NS))]
    settings = LaneSettings(machine(MIC, drill={}))
    ear = FastDetectors(settings)
    heard = [said for chunk in log for said in ear.listen(chunk) if isinstance(said, Alarm)]  # type: ignore[arg-type]
    lane = [r for r in run_straight(settings, {"mic": [*log]}) if r.topic == "alarm"]
    assert [(a.t_ns, a.detector, a.transition) for a in heard] == [
        (r.t_ns, r.body["detector"], r.body["transition"]) for r in sorted(lane, key=lambda r: r.t_ns)
    ]
    assert [a.transition for a in heard] == ["raised", "cleared", "raised", "cleared"]
