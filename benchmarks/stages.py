"""What each stage of a lane costs per second of one 48 kHz microphone, beside the physical limit on the same data.

The limit is what cannot be done without: one copy of the bytes, and the 128 FFTs that a second of log-Mel needs.
Everything is processor time of this process, minimum over rounds. What goes from process to process is packed more
tightly than on the wire; that costs `pack` in the feeder and `unpack` instead of `decode` in the shard.

    python -m benchmarks.stages [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import orjson
from scipy import fftpack

from benchmarks.microphones import CHUNK, RATE, Microphones, normal_of
from config.schema import Machine
from pipeline import codec
from pipeline.messages import Anchor, Chunk
from pipeline.packed import Packer, Unpacker
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.stages import LaneSettings

SECONDS = 10
LANES = 8
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Microseconds per second of sound, by stage."""
    rack = Microphones(LANES, 0.5)
    baseline = normal_of(rack)
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, value in _round(rack, baseline).items():
            best[name] = min(value, best.get(name, value))
    ours = ("decode", "routing", "records")
    best["runner_and_codec_share"] = sum(best[n] for n in ours) / best["total"]
    return {name: round(value, 3) for name, value in best.items()}


def _round(rack: Microphones, baseline: Any) -> dict[str, float]:
    lanes, wires = [], []
    for stream, loop in zip(rack.streams, rack.loops, strict=True):
        sensor = {"name": "mic", "modality": "acoustic", "rate_hz": RATE, "unit": "FS"}
        machine = Machine.model_validate({"name": stream.machine, "sensor": [sensor]})
        settings = LaneSettings(machine, {"mic": baseline.settings}, {baseline.settings: baseline})
        lanes.append(Lane(settings, time.thread_time_ns))
        tape = np.tile(loop, (SECONDS // 2 + 1, 1))
        wires.append(
            [
                codec.encode(Chunk(stream, Anchor(0, 0), k * CHUNK, k, tape[k * CHUNK : (k + 1) * CHUNK]))
                for k in range(10 * SECONDS)
            ]
        )
    spent = {"decode": 0, "lane": 0, "records": 0, "pack": 0, "unpack": 0}
    now = time.thread_time_ns
    packer, unpacker = Packer(), Unpacker()
    for k in range(10 * SECONDS):
        for lane, wire in zip(lanes, wires, strict=True):
            t0 = now()
            message = codec.decode(*wire[k])
            t1 = now()
            packed = packer.pack(message)  # type: ignore[arg-type]
            t2 = now()
            for item in packed:
                unpacker.unpack(item)
            spent["pack"] += t2 - t1
            spent["unpack"] += now() - t2
            spent["decode"] += t1 - t0
            t1 = now()
            results = lane.process(message)  # type: ignore[arg-type]
            t2 = now()
            for result in results:
                orjson.dumps(record_of(result).body, option=orjson.OPT_SORT_KEYS)
            t3 = now()
            spent["lane"] += t2 - t1
            spent["records"] += t3 - t2
    scale = 1000 * LANES * SECONDS
    stages: dict[str, float] = {}
    for lane in lanes:
        for name, ns in lane.spent_ns.items():
            stages[name] = stages.get(name, 0) + ns / scale
    made = {
        "decode": spent["decode"] / scale,
        **{f"stage {name}": us for name, us in stages.items()},
        "routing": spent["lane"] / scale - sum(stages.values()),
        "records": spent["records"] / scale,
        "total": sum(spent[part] for part in ("decode", "lane", "records")) / scale,
        "between processes: pack": spent["pack"] / scale,
        "between processes: unpack": spent["unpack"] / scale,
    }
    return {**made, **_limits(rack)}


def _limits(rack: Microphones) -> dict[str, float]:
    loop = rack.loops[0]
    frames = np.random.default_rng(0).standard_normal((128, 2048)).astype(np.float32)
    t0 = time.thread_time_ns()
    for _ in range(20):
        fftpack.rfft(frames)
    t1 = time.thread_time_ns()
    for _ in range(200):
        loop[:RATE].copy()
    t2 = time.thread_time_ns()
    return {"limit 128 FFTs": (t1 - t0) / 20e3, "limit copy": (t2 - t1) / 200e3}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure()
    if args.json:
        print(json.dumps({"unit": "us per second of sound", **figures}))
        return
    for name, value in figures.items():
        print(f"{name:<28}{value:>10.3f}" + ("" if "share" in name else " µs per second of sound"))


if __name__ == "__main__":
    main()
