"""Joins of sensors whose clocks were ahead: one answer, whatever the interleaving and wherever a lane is rebuilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.messages import NS, Anchor, Input, Stream
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, Scenario, chunks, machine, stream
from tests.engines.test_same_answer import features

ACC, BEE, CEE = stream("acc", "vibration", 2000), stream("bee", "vibration", 1000), stream("cee", "vibration", 4000)
DAY = 86_400
Pieces = tuple[tuple[float, float, int], ...]
"""When a sensor's streams begin and end in seconds, and by how much its clock was ahead meanwhile."""

CLOCKS: dict[str, tuple[dict[Stream, Pieces], int]] = {
    "one box": ({ACC: ((0.0, 5.3, DAY), (7.0, 13.0, 0)), BEE: ((0.2, 6.3, DAY), (8.3, 14.3, 0))}, 6),
    "one box, twice": (
        {
            ACC: ((0.0, 3.3, 2 * DAY), (5.0, 9.0, DAY), (10.0, 16.0, 0)),
            BEE: ((0.2, 5.3, 2 * DAY), (5.4, 9.4, DAY), (11.3, 17.3, 0)),
            CEE: ((-0.3, 4.4, 2 * DAY), (6.0, 10.0, DAY), (10.7, 16.7, 0)),
        },
        12,
    ),
    "one of three": ({ACC: ((0.0, 5.3, DAY), (7.0, 13.0, 0)), BEE: ((0.0, 14.0, 0),), CEE: ((0.5, 14.5, 0),)}, 10),
}
"""By name, the sensors, and how many windows hold samples of both sensors that they compare."""


def heard(made: dict[Stream, Pieces]) -> Scenario:
    """All sensors hear one machine, whose loudness changes every 10 ms."""
    loudness = 0.2 + np.random.default_rng(7).random(3000)
    log: dict[str, list[Input]] = {}
    for s, pieces in made.items():
        rng = np.random.default_rng(round(s.rate.hz))
        log[s.sensor] = []
        for epoch, (t0, t1, ahead_s) in enumerate(pieces):
            t = t0 + np.arange(round((t1 - t0) * s.rate.hz)) / s.rate.hz
            x = 3000 * loudness[((t + 1) * 100).astype(int)] * rng.standard_normal(len(t))
            anchor = Anchor(0, T0 + round((t0 + ahead_s) * NS))
            log[s.sensor] += chunks(replace(s, epoch=epoch), np.round(x).astype("<i2")[:, None], 0.25, anchor=anchor)
    return Scenario(LaneSettings(machine(*made, align=True)), log)


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.parametrize("seed", range(3))
def test_the_hostile_engine_gives_the_same_delays(name: str, seed: int) -> None:
    """Streams begin anew in one order, or the other, and before the other sensors' older ones were heard."""
    made, complete = CLOCKS[name]
    scenario = heard(made)
    straight = features(run_straight(scenario.settings, scenario.log))
    found = [body for body in straight.values() if body["name"] == "alignment" and body["complete"]]  # type: ignore[index]
    assert len(found) == complete
    assert features(run_hostile(scenario.settings, scenario.log, seed, rebuild=0.1)) == straight
