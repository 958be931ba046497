"""Sensors that restart while windows of their older streams wait for a fact, and those of the newer ones need not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.messages import NS, Anchor, Context, Decision, Input, Stream
from tests.engines.scenarios import T0, Scenario, chunks, end, machine, normal_noise, stream, two_states

ACC, MIC = stream("acc", "vibration", 2000), stream("mic", "acoustic", 16_000)


def drilling(s: Stream, seconds: float) -> np.ndarray:
    """A hole a second, the last ones cut off."""
    t = np.arange(round(seconds * s.rate.hz)) / s.rate.hz
    loud = np.where((t % 1.0 >= 0.3) & (t % 1.0 < np.where(t < 8, 0.8, 0.45)), 2000.0, 60.0)
    return np.round(loud * np.random.default_rng(5).standard_normal(len(t))).astype("<i2")[:, None]


def given_up_in_between() -> Scenario:
    """Facts fall silent and are given up: what ends before 5 s waits for the next one, what ends later does not."""
    log: dict[str, list[Input]] = {"": []}
    for s, x, y in (
        (ACC, normal_noise(ACC, 6.0, 9, (1.0, 3.0)), normal_noise(ACC, 6.0, 10, (2.0, 5.0))),
        (MIC, drilling(MIC, 6.0), drilling(MIC, 11.0)),
    ):
        new = replace(s, epoch=1)
        log[s.sensor] = [*chunks(s, x), *chunks(new, y, anchor=Anchor(0, T0 + 13 * NS // 2)), end(new, len(y))]
    for name, value in (("state", "cut"), ("rpm", 9000.0)):
        log[name] = [Context("m", name, T0 + s * NS, value) for s in range(21) if not 4 < s < 12]
        body = {"context": name}
        log[""] += [
            Decision("m", f"m|abandon|{name}", T0 + 5 * NS, "abandon", body),
            Decision("m", f"m|return|{name}", T0 + 13 * NS, "return", body),
        ]
    known = two_states()
    drill = {"drill": {"taught_holes": 2}, "spindle": {"rpm_context": "rpm"}}
    return Scenario(replace(known, machine=machine(ACC, MIC, state_context="state", **drill)), log)
