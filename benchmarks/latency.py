"""Decision latency of the physics detectors: from the last sample that a decision needs to the decision.

    .venv/bin/python -m benchmarks.latency [--seconds 20]
    .venv/bin/python -m benchmarks.latency --kafka [--seconds 60]       # through a real broker, in real time
    .venv/bin/python -m benchmarks.latency --mqtt [--seconds 20]        # of a command, from the hook on

Chunk filling is included: a decision can be made when the chunk that holds its last sample is full. What follows is the
CPU time of every chunk, queued one after the other as they would arrive in real time; a machine that is busy with other
work adds its own waiting. Detectors are made to speak at every hop. `embedded` is the shard with its durable state, in
chunks of 10 ms, and what is due behind a chunk (results every 50 ms, a checkpoint a second) is work of that chunk; that
a score which is no alarm waits up to 50 ms to be written is not in the figure. `fast lane` is the connector's own
detectors in slices of 5 ms. Decisions are all scores of the detector, alarms or not. Prints one line of JSON each.
`latency_kafka.py` and `latency_mqtt.py` describe `--kafka` and `--mqtt`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.latency_table import NS, table
from connectors.fastlane import FastLane
from operators.breakage_detector import BreakDetector
from pipeline import stages_physics
from pipeline.clock import ManualClock
from pipeline.fast import FastDetectors
from pipeline.messages import Anchor, Chunk, Float32, Score, Stream
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, machine, stream
from tests.memory import ScriptedDevice

SHIFTS = 5
Deal = Callable[[Chunk], Iterable[int]]
"""Takes a chunk in and returns the end times of the decisions that it brought."""


def milling(rate: int, seconds: float) -> Float32:
    """Tooth passing at 9,000 rpm with three teeth, chatter half of the time, noise."""
    t = np.arange(round(seconds * rate)) / rate
    x = 0.01 * np.random.default_rng(1).standard_normal(len(t))
    for k in range(1, 8):
        x += 0.2 / k * np.sin(2 * np.pi * k * 450.0 * t + k)
    for k in (-1, 0, 1):
        x += (np.mod(t, 4.0) > 2.0) * 0.2 * np.sin(2 * np.pi * (922.0 + 450.0 * k) * t)
    return (0.4 * x).astype(np.float32)[:, None]


def drilling(rate: int, seconds: float) -> Float32:
    """Holes of two seconds, one every three."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(2).standard_normal(len(t))
    return (np.where(np.mod(t, 3.0) < 2.0, 0.1, 0.005) * noise).astype(np.float32)[:, None]


def embedded(settings: LaneSettings, folder: str) -> Deal:
    clock = ManualClock(T0)
    shard = Shard("latency", [settings], Store(Path(folder) / "state.sqlite"), clock)
    lane = shard.lanes["m"]
    found: list[int] = []
    inner = lane.process

    def process(message: object) -> object:
        out = inner(message)  # type: ignore[arg-type]
        found.extend(r.t_end_ns for r in out if isinstance(r, Score))
        return out

    lane.process = process  # type: ignore[assignment, method-assign]

    def deal(chunk: Chunk) -> Iterable[int]:
        found.clear()
        clock.sleep((chunk.t1_ns - clock.now_ns()) / NS)
        shard.take(chunk)
        shard.tick()
        return list(found)

    return deal


def fast(settings: LaneSettings) -> Deal:
    found: list[int] = []
    lane = FastLane(
        ScriptedDevice([], []), {"m": FastDetectors(settings)}, lambda _: None,
        on_score=lambda s: found.append(s.t_end_ns),
    )  # fmt: skip

    def deal(chunk: Chunk) -> Iterable[int]:
        found.clear()
        lane.hear(chunk)
        return list(found)

    return deal


def measure(s: Stream, x: Float32, chunk_s: float, shift: float, deal: Deal) -> list[float]:
    """Latency in s of every decision; chunks end at any place between the detector's hops, the first is shorter."""
    step, anchor = round(chunk_s * s.rate.hz), Anchor(0, T0)
    free, latencies = 0.0, []
    cuts = [0, *range(1 + int(shift * (step - 1)), len(x), step), len(x)]
    for seq, (i, j) in enumerate(pairwise(cuts)):
        chunk = Chunk(s, anchor, i, seq, x[i:j])
        full = (chunk.t1_ns - T0) / NS
        began = time.thread_time()
        ends = deal(chunk)
        cost = time.thread_time() - began
        free = max(free, full) + cost
        latencies += [free - (end - T0) / NS for end in ends]
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, help="length of each signal (20; through Kafka 60)")
    parser.add_argument("--kafka", action="store_true", help="through a real broker and a worker, in real time")
    parser.add_argument("--mqtt", action="store_true", help="a command to a real broker")
    asked = parser.parse_args()
    if asked.mqtt:
        from benchmarks import latency_mqtt

        latency_mqtt.measure_all(asked.seconds or 20.0)
    elif asked.kafka:
        from benchmarks import latency_kafka

        latency_kafka.measure_all(asked.seconds or 60.0)
    else:
        measure_all(asked.seconds or 20.0)


def measure_all(seconds: float) -> None:
    """Both detectors, embedded and in the fast lane."""
    stages_physics.CHATTER_HOPS = 1
    stages_physics.BreakDetector = partial(BreakDetector, every=1)  # type: ignore[assignment, attr-defined]
    aims = {"embedded": 50.0, "fast lane": 10.0}
    for detector, rate, make in (
        ("chatter", 16_000, milling), ("chatter", 48_000, milling), ("drill_break", 48_000, drilling),
    ):  # fmt: skip
        s = stream("mic", "acoustic", rate, dtype="<f4")
        said = {"spindle": {"rpm": 9000, "teeth": 3}} if detector == "chatter" else {"drill": {"taught_holes": 2}}
        x = make(rate, seconds / SHIFTS)
        for way, chunk_s in (("embedded", 0.01), ("fast lane", 0.005)):
            seen: list[float] = []
            for shift in np.linspace(0.0, 1.0, SHIFTS).tolist():
                with tempfile.TemporaryDirectory() as folder:
                    settings = LaneSettings(machine(s, **said))
                    deal = embedded(settings, folder) if way == "embedded" else fast(settings)
                    seen += measure(s, x, chunk_s, shift, deal)
            table(seen, latency=detector, way=way, rate_hz=rate, chunk_ms=1000 * chunk_s, aim_ms=aims[way])


if __name__ == "__main__":
    main()
