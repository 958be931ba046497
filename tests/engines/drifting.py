"""A machine that gets a little louder every minute, for every engine to answer alike."""

from __future__ import annotations

from functools import cache

import numpy as np

from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from pipeline.messages import Float32
from pipeline.stages import LaneSettings
from tests.engines.scenarios import Part, Scenario, chunks, machine, normal_noise, stream

ACC = stream("acc", "vibration", 500)


@cache
def minutes_of(seconds: float = 300.0) -> Baseline:
    """What commissioning learns from three starts of some minutes."""
    recordings = []
    for start in range(3):
        x = (normal_noise(ACC, seconds, 40 + start) * np.float32(ACC.scale)).astype(np.float32)
        recordings.append(Normal(f"long/{start}", f"start-{start}", "", (Part(ACC, x),)))
    return commission(recordings)[0]


def settings_of(baseline: Baseline, drift: bool = True) -> LaneSettings:
    """A machine that judges by a baseline."""
    return LaneSettings(machine(ACC, drift=drift), {"acc": baseline.settings}, {baseline.settings: baseline})


@cache
def counts(seconds: float = 720.0, louder: float = 1.12) -> Float32:
    """Normal running that ends louder than it began."""
    x = normal_noise(ACC, seconds, 70)
    return np.round(x * np.linspace(1.0, louder, len(x))[:, None]).astype("<i2")


def slow_drift() -> Scenario:
    """Too few of its windows cross their threshold in a row for an alarm of theirs."""
    return Scenario(settings_of(minutes_of()), {"acc": chunks(ACC, counts(), every_s=1.0)})
