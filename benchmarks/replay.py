"""How much faster than real time one machine replays: two microphones, an accelerometer, a camera at 5 frames a second.

The recording is made first (its cost is not counted); then it is replayed as `stethos replay` does, journal included.

    python -m benchmarks.replay --seconds 60 [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from benchmarks.microphones import Part
from config.schema import Settings
from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from pipeline import app
from pipeline.clock import HostClock
from pipeline.journal import write_journal
from pipeline.messages import NS, Anchor, Chunk, Image, Input, Rate, Stream
from pipeline.recording.reader import read
from pipeline.recording.recorder import Recorder
from pipeline.replay import Replay
from pipeline.stages import LaneSettings
from pipeline.state import Store

T0 = 1_700_000_000 * NS
SENSORS = [
    Stream("m", "mic-1", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1 / 32768),
    Stream("m", "mic-2", 0, "stethoscope", Rate(48_000), 1, "<i2", "FS", 1 / 32768),
    Stream("m", "acc", 0, "vibration", Rate(2_000), 3, "<i2", "mg", 1.0),
]
CAMERA = Stream("m", "camera", 0, "frames", Rate(5), 1, "image/jpeg", "image")


def _noise(stream: Stream, seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.standard_normal((round(seconds * stream.rate.hz), stream.channels)) * 600, -3e4, 3e4).astype(
        "<i2"
    )


def _baseline(stream: Stream) -> Baseline:
    parts = [_noise(stream, 20, seed).astype(np.float32) * np.float32(stream.scale) for seed in range(3)]
    return commission([Normal(str(i), str(i), "", (Part(stream, x),)) for i, x in enumerate(parts)])[0]


def _inputs(seconds: float) -> list[Input]:
    made: list[Input] = []
    anchor = Anchor(0, T0)
    for number, stream in enumerate(SENSORS):
        x, step = _noise(stream, seconds, 10 + number), round(stream.rate.hz / 10)
        made += [Chunk(stream, anchor, i, i // step, x[i : i + step]) for i in range(0, len(x), step)]
    picture = io.BytesIO()
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)).save(picture, "JPEG")
    made += [Image(CAMERA, anchor, k, k, picture.getvalue()) for k in range(round(seconds * 5))]
    return sorted(made, key=lambda m: m.t1_ns)


def run(seconds: float) -> dict[str, Any]:
    """One measurement."""
    sensors = [
        {"name": s.sensor, "modality": s.modality, "rate_hz": s.rate.hz, "unit": s.unit, "channels": s.channels}
        for s in (*SENSORS, CAMERA)
    ]
    settings = Settings.model_validate({"schema_version": 1, "machine": [{"name": "m", "sensor": sensors}]})
    made = {s.sensor: _baseline(s) for s in SENSORS}
    lane = LaneSettings(
        settings.machines[0], {k: b.settings for k, b in made.items()}, {b.settings: b for b in made.values()}
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = app.Plan(settings, (lane,), folder / "state.sqlite")
        store = Store(plan.state)
        with Recorder(folder / "r.mcap", app.recording_start(plan, store), T0) as recorder:
            for message in _inputs(seconds):
                recorder.write(message, message.t1_ns)
        began, cpu = time.monotonic(), time.process_time()
        recording = read(folder / "r.mcap")
        again = app.plan_of_recording(recording.attachments, folder / "replay.sqlite")
        target = Store(folder / "replay.sqlite")
        player = Replay([recording], again, target, HostClock())
        player.run()
        digest = write_journal(target.journal_records(), folder / "j.jsonl", {})
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        return {
            "seconds": seconds,
            "messages": player.messages,
            "wall_s": round(wall, 2),
            "times_real_time": round(seconds / wall, 1),
            "times_real_time_by_cpu": round(seconds / cpu, 1),
            "recording_mb": round((folder / "r.mcap").stat().st_size / 1e6, 1),
            "journal": digest[:16],
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = run(args.seconds)
    print(json.dumps(figures) if args.json else "\n".join(f"{k:<28}{v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
