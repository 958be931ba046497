"""What of chatter is heard where the aims do not reach: at low SNR, in flip lobes, in resonance pockets.

    python -m benchmarks.chatter_curves --count 12 --plot docs/pictures/chatter-curves.png

Each recording is 4.5 s of cutting at 0.5 of the limit (0.85 for flip chatter, so that load hardly changes), then a ramp
of half a second, then 3 s at 1.15 to 1.5 of the limit (1.1 to 1.3). Labels follow the linear limit alone: beyond it the
nonlinear motion of flip lobes and pockets may stay periodic, which no listener can tell from a stable cut.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detectors import ANCHOR, NS, sensor, share, table
from connectors.simulator.chatter_set import Done, Mill, listen
from connectors.simulator.cutting import Engagement
from connectors.simulator.machining import Job, move
from connectors.simulator.milling import Depth
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.stability import limit
from operators.chatter import ChatterFeatures
from operators.chatter_detector import DETECTOR, ChatterDetector
from operators.spindle import GivenSpeed
from operators.teeth import FLIP, TOOTH_LOSS
from pipeline.messages import Float32, Score, Segment
from tests.operators.simulated import MILL_HZ

SEED = 7141
TAUGHT_S, RAMP_S, SECONDS = 5.0, 0.5, 9.0
SNRS = (-5.0, 0.0, 10.0, 20.0)
_MOST_M = 4e-3


def job_of(kind: str, mill: Mill, rng: np.random.Generator) -> Job:
    """A job of a kind: ``hopf``, ``flip`` (half a tooth passing just below the mode), or ``pocket`` (a mode is hit)."""
    while True:
        job = Job.draw(rng, mill.tool, mill.rpm)
        if kind == "hopf":
            return job
        tool, engagement, place = mill.tool, job.cut.engagement, int(rng.integers(1, 4))
        passing = tool.f0_hz / place * (1.0 + uniform(rng, -0.02, 0.02))
        if kind == "flip":
            passing = tool.f0_hz / (place % 2 + 1.5) * uniform(rng, 0.84, 0.98)
            engagement = Engagement.down(uniform(rng, 0.1, 0.5))
        rpm = 60.0 * passing / tool.teeth
        found = limit(tool, engagement, rpm, growth=0.12, largest_m=1.2 * _MOST_M)
        if found.depth_m < _MOST_M and (kind == "pocket" or found.family == "flip"):
            return Job(replace(job.cut, rpm=rpm, engagement=engagement), found)


def recordings(kind: str, teeth: int, index: int, snrs: list[float]) -> Iterator[tuple[float, Job, Float32, Float32]]:
    """A job at each SNR: sound, and the tool's acceleration."""
    low, high, taught = (1.1, 1.3, 0.85) if kind == "flip" else (1.15, 1.5, 0.5)
    length = round(SECONDS * MILL_HZ)
    rng = generator(SEED, "curve", kind, teeth, index)
    mill = Mill.draw(SEED, index % 7, index)
    mill = replace(mill, tool=replace(mill.tool, teeth=teeth))
    job = job_of(kind, mill, rng)
    depth = job.limit.depth_m
    corners = (0.3, 0.5, TAUGHT_S, TAUGHT_S + RAMP_S)
    job = job.with_depth(Depth(corners, (0.0, taught * depth, taught * depth, uniform(rng, low, high) * depth)))
    motion = move(job, length=length, rate_hz=MILL_HZ, seed=derived(SEED, index))
    noise = float(np.std(motion.acceleration)) * rng.standard_normal(length)
    for snr_db in snrs:
        near = replace(mill, pickup=replace(mill.pickup, snr_db=snr_db, agc=False))
        sound = listen(near, Done(job, motion), length, SEED, index).astype(np.float32) / np.float32(32768.0)
        acceleration = motion.acceleration + 10.0 ** (-snr_db / 20.0) * noise
        yield snr_db, job, sound[:, None], acceleration.astype(np.float32)[:, None]


def heard(job: Job, x: Float32, unit: str) -> tuple[set[str], set[str]]:
    """Detectors that were abnormal before the depth passed 0.95 of the limit, and after it."""
    stream, teeth = sensor(MILL_HZ, unit), job.cut.tool.teeth
    features = ChatterFeatures(stream, GivenSpeed(job.cut.rpm), teeth, job.cut.rpm)
    detector = ChatterDetector(teeth, 2.0 * job.cut.rpm)
    hops = features.process(Segment(stream, ANCHOR, 0, x))
    scores = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.abnormal]
    onset = job.cut.depth.reaches(0.95 * job.limit.depth_m) or SECONDS
    early = {s.detector for s in scores if s.t_end_ns / NS < onset}
    return early, {s.detector for s in scores if s.t_end_ns / NS >= onset}


def measure(name: str, kind: str, teeth: tuple[int, ...], count: int, snrs: list[float]) -> list[dict[str, Any]]:
    """One curve, for sound and for acceleration."""
    found: dict[tuple[str, float], list[tuple[set[str], set[str]]]] = {}
    for i in range(count):
        for snr_db, job, sound, acceleration in recordings(kind, teeth[i % len(teeth)], i, snrs):
            for unit, x in (("FS", sound), ("m/s2", acceleration)):
                found.setdefault((unit, snr_db), []).append(heard(job, x, unit))
    rows = []
    for (unit, snr_db), each in sorted(found.items()):
        by_chatter = sum(DETECTOR in after for _, after in each)
        by_any = sum(bool(after & {DETECTOR, FLIP, TOOTH_LOSS}) for _, after in each)
        row: dict[str, Any] = {
            "curve": name, "sensor": unit, "snr_db": snr_db, "chatter": share(by_chatter, count),
            "with_half_tooth": share(by_any, count), "early": sum(bool(early) for early, _ in each),
        }  # fmt: skip
        table("chatter_curve", **row)
        rows.append(row)
    return rows


CURVES: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("Hopf", "hopf", (2, 3, 4)),
    ("flip, three teeth", "flip", (3,)),
    ("flip, two teeth", "flip", (2,)),
    ("resonance pockets", "pocket", (2, 3, 4)),
)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Recall over SNR, by kind and sensor, with 95 % intervals; dashed with the half-tooth lines' rise counted."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, (unit, title) in zip(axes, (("FS", "sound"), ("m/s2", "acceleration")), strict=True):
        for number, (name, _, _) in enumerate(CURVES):
            own = [r for r in rows if r["curve"] == name and r["sensor"] == unit]
            x = [r["snr_db"] + 0.15 * (number - 1.5) for r in own]
            y = [r["chatter"]["share"] for r in own]
            bars = [[v - r["chatter"]["low"] for v, r in zip(y, own, strict=True)],
                    [r["chatter"]["high"] - v for v, r in zip(y, own, strict=True)]]  # fmt: skip
            axis.errorbar(x, y, yerr=np.maximum(bars, 0.0), color=f"C{number}", marker="o", capsize=2, label=name)
            if "two" in name:
                both = [r["with_half_tooth"]["share"] for r in own]
                axis.plot(x, both, color=f"C{number}", linestyle="--", label=f"{name}: or half-tooth lines rose")
        axis.set_title(title)
        axis.set_xlabel("SNR of the cut in dB")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("recall of chatter")
    axes[0].set_ylim(-0.03, 1.03)
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure the curves, print a line each, and draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--only", help="the curve of this name, at these --snr", choices=[name for name, *_ in CURVES])
    parser.add_argument("--snr", type=float, nargs="+", default=list(SNRS))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--from", dest="rows", type=Path, help="draw these lines of JSON instead of measuring")
    asked = parser.parse_args()
    if asked.rows is not None:
        lines = [json.loads(line) for line in asked.rows.read_text().splitlines()]
        rows = [line for line in lines if "curve" in line]
    else:
        curves = [curve for curve in CURVES if asked.only in {None, curve[0]}]
        rows = [r for name, kind, teeth in curves for r in measure(name, kind, teeth, asked.count, asked.snr)]
    if asked.plot is not None:
        plot(rows, asked.plot)


if __name__ == "__main__":
    main()
