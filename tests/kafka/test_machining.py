"""Cuts and holes, heard by sensors of several channels: workers and their successors answer as the lanes do."""

from __future__ import annotations

import signal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.breakage_detector import BREAK
from operators.chatter_detector import DETECTOR as CHATTER
from pipeline.messages import NS, Context, Input, Record, Stream
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0, chunks, end, machine, stream
from tests.kafka.plant import Plant, Running
from tests.kafka.scenarios import named, toml_of
from tests.pipeline.test_drill_live import RATE, drilling
from tests.servers.kafka import KafkaServer

ACC, MIC = stream("acc", "vibration", 8000, 3), stream("mic", "acoustic", 16_000, 2)
HOLES = stream("mic", "acoustic", RATE, 2)
SECONDS = 14.0
CUTS = ((3.0, 6.0), (8.0, 11.0))
"""Seconds in which the milling chatters."""
LATE_S = 1.7
"""So much later than it holds a speed is published."""
GAINS = (1.0, 0.6, 0.3)


def milling(s: Stream, seed: int, rpm: tuple[float, float]) -> np.ndarray:
    """A cut with three teeth, its speed changed at half time; every channel has noise of its own. Counts."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(SECONDS * s.rate.hz)) / s.rate.hz
    turns = np.cumsum(np.where(t < SECONDS / 2, *rpm)) / 60 / s.rate.hz
    x: Any = sum(2.0 / k * np.sin(2 * np.pi * 3 * k * turns + k) for k in range(1, 6))
    ring = sum(3.0 * np.sin(2 * np.pi * (922.0 * t + 3 * k * turns)) for k in (-1, 0, 1))
    x = x + ring * sum((t >= begin) & (t < stop) for begin, stop in CUTS)
    full = 1.0 if s.modality == "vibration" else 0.02
    y = [full * (gain * x + 0.05 * rng.standard_normal(len(t))) for gain in GAINS[: s.channels]]
    return np.round(np.stack(y, axis=1) / s.scale).astype("<i2")


def ended(s: Stream, x: np.ndarray, every_s: float) -> list[Input]:
    """As a connector publishes it."""
    return [*chunks(s, x, every_s), end(s, len(x))]


@cache
def shop() -> Plant:
    """Two milling machines that are told other speeds, late, and a drilling machine."""
    logs: dict[str, dict[str, list[Input]]] = {}
    expected: list[Record] = []
    parts = ["schema_version = 1"]
    for number, rpm in enumerate(((9000.0, 8000.0), (7000.0, 9500.0))):
        told = [(k * NS // 2, rpm[k * NS // 2 >= SECONDS / 2 * NS]) for k in range(round(2 * SECONDS) + 4)]
        speed: list[Input] = [Context("m", "rpm", T0 + t_ns, value) for t_ns, value in told]
        cut = {s.sensor: ended(s, milling(s, 10 * number + s.channels, rpm), 0.1) for s in (ACC, MIC)}
        spindle = {"rpm_context": "rpm", "teeth": 3, "lowest_rpm": 6000}
        of = machine(ACC, MIC, spindle=spindle).model_copy(update={"name": f"mill-{number}"})
        logs[of.name] = {s: [named(m, of.name) for m in log] for s, log in {**cut, "rpm": speed}.items()}
        expected += run_straight(LaneSettings(of), logs[of.name])
        parts.append(toml_of(of, set()))
    x = np.concatenate([drilling(), (drilling() * 0.7).astype("<i2")], axis=1)
    of = machine(HOLES, drill={"taught_holes": 2}).model_copy(update={"name": "drill"})
    logs["drill"] = {"mic": [named(m, "drill") for m in ended(HOLES, x, 0.05)]}
    expected += run_straight(LaneSettings(of), logs["drill"])
    return Plant("\n".join([*parts, toml_of(of, set())]), logs, tuple(expected))


def published() -> list[Input]:
    """Everything in the order in which it is known: speeds come late."""
    return sorted(shop().messages, key=lambda m: m.t1_ns + isinstance(m, Context) * round(LATE_S * NS))


def test_the_shop_says_something() -> None:
    """Every machine raises what its detector is there for; else any engine would look right."""
    raised = {(r.machine, r.body["detector"]) for r in shop().expected if r.topic == "alarm"}
    assert {("mill-0", CHATTER), ("mill-1", CHATTER), ("drill", BREAK)} <= raised


@pytest.mark.parametrize("kills", [(), (4.2, 8.6)])
def test_cuts_and_holes(kills: tuple[float, ...], broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Also where each worker is killed within a cut in turn, while the evidence for chatter gathers."""
    with Running(shop(), broker, tmp_path, prefix) as running:
        running.start("w0", "w1")
        running.wait_ready("w0", "w1")
        left = [("w0", "w1")[n % 2] for n in range(len(kills))]
        due = [T0 + round(at * NS) for at in kills]
        for message in running.publish(published(), speed=1.0 if kills else 0.0):
            if due and message.t1_ns >= due[0]:
                due.pop(0)
                name = left.pop(0)
                running.signal(name, signal.SIGKILL)
                running.workers[name].wait()
                running.start(name)
        assert not due and running.publisher.flush(60)
        running.check()
