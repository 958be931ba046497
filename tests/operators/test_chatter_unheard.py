"""A cut that is under way when listening begins: there is no idle machine to compare it with, and that is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.messages import NS, Record
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream

RATE, RPM, TEETH = 8000, 9000.0, 3
ACC = stream("acc", "vibration", RATE)
SETTINGS = LaneSettings(machine(ACC, spindle={"rpm": RPM, "teeth": TEETH, "lowest_rpm": 8000}))


def heard(air_s: float, chatter_s: float, seconds: float = 9.0, tone: float = 0.0) -> list[Record]:
    """A cut after some seconds of air, with chatter from a second on."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = 0.01 * np.random.default_rng(1).standard_normal(len(t)) + tone * np.sin(2 * np.pi * 1210 * t)
    for k in range(1, 8):
        x += (t >= air_s) * 0.5 / k * np.sin(2 * np.pi * k * TEETH * RPM / 60 * t + k)
    for k in (-1, 0, 1):
        x += (t >= chatter_s) * 0.4 * np.sin(2 * np.pi * (922 + k * TEETH * RPM / 60) * t)
    counts = np.round(x / ACC.scale).astype("<i2")[:, None]
    return run_straight(SETTINGS, {"acc": [*chunks(ACC, counts, 0.02), end(ACC, len(x))]})


def scores(records: list[Record], from_s: float) -> list[tuple[bool, str]]:
    """Of chatter, from a second on: whether complete, and the text."""
    found = [r for r in records if r.topic == "score" and r.body["detector"] == "chatter" and r.t_ns > T0 + from_s * NS]
    return [(r.body["complete"], r.body["reasons"]["text"]) for r in found]


@pytest.mark.parametrize("chatter_s", [0.0, 4.0])
def test_chatter_in_a_cut_without_air_before_is_unverified(chatter_s: float) -> None:
    """It was "no cutting", complete, for ever."""
    told = scores(heard(0.0, chatter_s), chatter_s + 0.5)
    assert len(told) >= 8
    assert not any(complete for complete, _ in told)
    assert all("the idle machine has not been heard yet" in text for _, text in told)


def test_a_second_of_air_is_enough() -> None:
    """Then it is an alarm."""
    records = heard(1.0, 4.0)
    assert any(r.topic == "alarm" and r.body["transition"] == "raised" for r in records)
    assert all(complete for complete, _ in scores(records, 0.5)[:-1])  # the end leaves the last window incomplete


def test_an_idle_machine_with_a_fan_is_no_such_doubt() -> None:
    """One steady tone is no family of lines."""
    records = heard(3.0, 99.0, tone=0.05)
    assert all(complete for complete, _ in scores(records, 0.0)[:-1])
    assert not any(r.topic == "alarm" for r in records)


def test_a_restart_changes_nothing() -> None:
    """To the hash, over restarts at any place."""
    t = np.arange(6 * RATE) / RATE
    x = 0.01 * np.random.default_rng(2).standard_normal(len(t)) + 0.4 * np.sin(2 * np.pi * 922 * t) * (t < 4)
    log = {"acc": [*chunks(ACC, np.round(x / ACC.scale).astype("<i2")[:, None], 0.02), end(ACC, len(x))]}

    def digest(records: list[Record]) -> list[str]:
        return sorted(
            {json.dumps([r.id, dict(r.body)], sort_keys=True, default=str) for r in records if r.topic == "score"}
        )

    assert digest(run_hostile(SETTINGS, log, seed=3)) == digest(run_straight(SETTINGS, log))
