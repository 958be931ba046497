"""Many microphones through the whole embedded path, in real time, on this machine.

A generator (its cost reported apart) publishes 100 ms chunks of distinct signals; shards decode, put in sequence, take
log-Mel images and levels, score against a commissioned baseline each, and make the results durable. Counted: loss by
sample index, the age of each score when it is durable, memory and its growth, processor time by process.

    python -m benchmarks.microphones --sensors 500 --seconds 60 [--json] \
        [--encoder PACKAGE --every SECONDS [--head-alone]]
    python -m benchmarks.microphones --encoder impact-edge --curve --seconds 30 --json

With an encoder, every window that is due becomes an embedding and a head's score beside the score of the log-Mel; with
`--head-alone` no baseline judges the log-Mel, so that a microphone's path is log-Mel, embedding, score.
Microphones begin evenly over half a second, the hop of the windows (`--starts`): those that begin together, as by
`--starts 0.1`, have windows that end together and wait for each other. `--curve` takes fewer and more microphones with
an embedding once in two seconds, once, and twice a second, until some fall behind.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from config.schema import Machine, Model
from connectors.base import Resume
from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from models.heads.export import Reads, write_head
from models.heads.prototypes import fit_prototypes
from models.impact.pooling import pool
from models.packages import load
from models.packages.shipped import locate
from operators.mel import PAPER
from pipeline.clock import HostClock
from pipeline.embedded import Embedded
from pipeline.machine_models import configured
from pipeline.messages import NS, Anchor, Chunk, Rate, Segment, Stream
from pipeline.shard import AGE_BUCKETS, AGE_STEP_NS, Shard
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from pipeline.state import Position, Store

RATE = 48_000
CHUNK = 4_800
LOOP_S = 2
MEMORY_EVERY_S = 10
BEGINNING = 0.2
"""Share of a run that is not counted."""
CURVE = tuple((sensors, every_s) for every_s in (2.0, 1.0, 0.5) for sensors in (125, 250, 375, 500))


class Microphones:
    """A rack of microphones: one source, a stream per machine, int16, a signal of its own each."""

    rereadable = True

    def __init__(self, count: int, starts_s: float) -> None:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(LOOP_S * RATE * 8).astype(np.float32) * 600
        t = np.arange(LOOP_S * RATE) / RATE
        self.streams = [
            Stream(f"m{i:03d}", "mic", 0, "acoustic", Rate(RATE), 1, "<i2", "FS", 1 / 32768) for i in range(count)
        ]
        self.loops = []
        for i in range(count):  # one machine type: the same spectrum, other noise and phase
            start = (i * 7919) % (LOOP_S * RATE * 7)
            tone = 900 * np.sin(2 * np.pi * (400 * t + i / 7)).astype(np.float32)
            x = noise[start : start + LOOP_S * RATE] + tone
            self.loops.append(np.ascontiguousarray(x.astype("<i2")[:, None]))
        self._began_ns = 0
        self._next = [0] * count
        self._late = [
            round(i * starts_s * RATE / count) for i in range(count)
        ]  # microphones do not begin at one sample
        self._anchors = [Anchor(0, 0)] * count
        self.stopped = False
        self.cpu_s = 0.0

    def open(self, _resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """They begin from now on."""
        self._began_ns = now_ns
        self._anchors = [Anchor(0, now_ns + late * NS // RATE) for late in self._late]
        return self.streams

    def poll(self, now_ns: int) -> list[Chunk]:
        """Every chunk whose last sample has been taken by now."""
        began = time.thread_time()
        due: list[Chunk] = []
        taken = (now_ns - self._began_ns) * RATE // NS
        for i, stream in enumerate(self.streams):
            while not self.stopped and self._next[i] + CHUNK + self._late[i] <= taken:
                n0 = self._next[i]
                at = n0 % (LOOP_S * RATE)
                due.append(Chunk(stream, self._anchors[i], n0, n0 // CHUNK, self.loops[i][at : at + CHUNK]))
                self._next[i] = n0 + CHUNK
        self.cpu_s += time.thread_time() - began
        return due

    def wake_ns(self, now_ns: int) -> int:
        """Every 5 ms."""
        return now_ns + 5_000_000

    @property
    def exhausted(self) -> bool:
        """When told."""
        return self.stopped

    def close(self) -> None:
        """Nothing to close."""

    def behind(self, positions: Mapping[tuple[str, str], Position]) -> int:
        """Streams of whose samples more than the last two seconds are not done with, or nothing at all."""
        durable = [positions.get((stream.machine, "mic")) for stream in self.streams]
        return sum(p is None or n - p.n > 2 * RATE for p, n in zip(durable, self._next, strict=True))


class Part:
    """A recording in memory, as commissioning reads it."""

    def __init__(self, stream: Stream, x: np.ndarray) -> None:
        self.stream, self._x = stream, x

    def segments(self) -> list[Segment]:
        """All of it in one piece."""
        return [Segment(self.stream, Anchor(0, 0), 0, self._x)]


def normal_of(rack: Microphones) -> Baseline:
    """A baseline of five minutes of normal running in three starts."""
    stream, recordings = rack.streams[0], []
    for start in range(3):
        loops = [rack.loops[(start * 5 + k) % len(rack.loops)] for k in range(5)]
        x = np.tile(np.concatenate(loops), (10, 1)).astype(np.float32) / 32768
        recordings.append(Normal(str(start), str(start), "", (Part(stream, x),)))
    return commission(recordings)[0]


def learned(package: Path, every_s: float, folder: Path) -> Model:
    """An encoder and a head on its embedding: two prototypes, of tone in noise and of noise alone."""
    encoder = load(locate(str(package)))
    rng = np.random.default_rng(0)
    x = rng.random((8, *encoder.card.input.shape)).astype(np.float32)
    x[4:, :, 20:24] = 1.0
    assert encoder.card.grid is not None
    tokens = encoder.session().run(x)[encoder.card.outputs[0].name]
    vectors = pool(tokens, encoder.card.pooling, encoder.card.grid, encoder.card.cls, x)
    head = fit_prototypes(vectors, np.repeat([0, 1], 4), ("noise", "tone"))
    write_head(folder, head, Reads(encoder.digest, encoder.card.name, encoder.card.pooling), vectors, {}, {})
    hop_s = PAPER.hop * PAPER.window_hop / PAPER.rate_hz
    said = {"package": str(folder), "name": "tone", "gives": "score", "abnormal": ["tone"]}
    every = max(1, round(every_s / hop_s))
    return Model.model_validate({"encoder": str(encoder.folder), "every": every, "head": [said]})


def run(
    sensors: int,
    seconds: float,
    shards: int,
    starts_s: float,
    package: Path | None = None,
    every_s: float = 1.0,
    head_alone: bool = False,
) -> dict[str, Any]:
    """One measurement."""
    with tempfile.TemporaryDirectory() as scratch:
        model = None if package is None else learned(package, every_s, Path(scratch) / "head")
        said = {} if package is None else {"encoder": package.name, "every_s": every_s, "head_alone": head_alone}
        return {**said, "starts_s": starts_s, **_run(sensors, seconds, shards, starts_s, model, head_alone)}


def _run(
    sensors: int, seconds: float, shards: int, starts_s: float, model: Model | None, head_alone: bool
) -> dict[str, Any]:
    rack = Microphones(sensors, starts_s)
    base, shelf = normal_of(rack), Shelf()
    lanes = []
    for stream in rack.streams:
        sensor = {"name": "mic", "modality": "acoustic", "rate_hz": RATE, "unit": "FS"}
        own = copy.deepcopy(base)  # arrays of its own: microphones share no cache lines
        machine = Machine.model_validate({"name": stream.machine, "sensor": [sensor]})
        models = None if model is None else configured(stream.machine, model, shelf)
        judged = ({}, {}) if head_alone else ({"mic": own.settings}, {own.settings: own})
        lanes.append(LaneSettings(machine, *judged, models=models))
    clock = HostClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        store = Store(path)
        engine = Embedded(
            lanes, [rack], store, clock, lambda name, mine: Shard(name, mine, Store(path), clock), 64_000_000, shards
        )
        pids = {f"shard-{i}": pid for i, pid in enumerate(engine.pids)} | {"parent": psutil.Process().pid}
        watch = Watch(rack, store, {name: psutil.Process(pid) for name, pid in pids.items()}, seconds)
        engine.run(seconds + 30, watch.second)
        return watch.figures()


@dataclass(frozen=True)
class Point:
    """Seconds since the beginning, processor seconds by process and of the generator, and ages told so far."""

    at_s: float
    cpu_s: Mapping[str, float]
    generator_s: float
    ages: np.ndarray


class Watch:
    """Looks at a run once a second. Counted is what comes behind its first fifth; what begins costs more, but once.

    Processor time and memory are counted until the last sample was taken, ages until the last score is durable.

    Args:
        rack: the microphones; told to stop when the time is up.
        store: the run's durable state.
        processes: by name.
        seconds: of sound.
    """

    def __init__(
        self, rack: Microphones, store: Store, processes: Mapping[str, psutil.Process], seconds: float
    ) -> None:
        self._rack, self._store, self._processes, self._seconds = rack, store, processes, seconds
        self._began = time.monotonic()
        self._first: Point | None = None
        self._last: Point | None = None
        self._memory: list[tuple[float, int]] = []

    def second(self) -> None:
        """To be called about once a second."""
        at = time.monotonic() - self._began
        if self._last is not None:
            return
        if not self._memory or at - self._memory[-1][0] > MEMORY_EVERY_S:  # walking the page tables is not free
            self._memory.append((at, sum(p.memory_full_info().pss for p in self._processes.values())))
        if self._first is None and at >= BEGINNING * self._seconds:
            self._first = self._point(at)
        if at >= self._seconds:
            self._last = self._point(at)
            self._rack.stopped = True

    def _point(self, at_s: float) -> Point:
        cpu = {name: sum(p.cpu_times()[:2]) for name, p in self._processes.items()}
        return Point(at_s, cpu, self._rack.cpu_s, ages_of(self._store.metrics()))

    def figures(self) -> dict[str, Any]:
        """When the run is over.

        Raises:
            RuntimeError: it ended before its time.
        """
        first, last = self._first, self._last
        if first is None or last is None:
            raise RuntimeError("the engine ended before the microphones did")
        metrics, took = self._store.metrics(), last.at_s - first.at_s
        ages = ages_of(metrics) - first.ages
        late: Counter[str] = Counter()
        models: Counter[str] = Counter()
        for body in metrics.values():
            models.update({k: v for k, v in body.get("counts", {}).items() if k.startswith(("model.", "embedding."))})
            for lane in body.get("machines", {}).values():
                late.update({k: v for k, v in lane["counts"].items() if k.startswith(("late", "dead"))})
        settled = [m for m in self._memory if m[0] > 30]
        growth = (
            np.polyfit([t / 60 for t, _ in settled], [b / 1e6 for _, b in settled], 1)[0] if len(settled) > 3 else None
        )
        return {
            "sensors": len(self._rack.streams),
            "seconds": self._seconds,
            "counted_s": round(took, 1),
            "drained_s": round(time.monotonic() - self._began - last.at_s, 1),
            "scores": int(ages.sum()),
            "streams_behind": self._rack.behind(self._store.positions()),
            "late_or_dead": late.total(),
            **{f"age_ms_p{p}": quantile_ms(ages, p / 100) for p in (50, 99)},
            "scores_over_2_s": int(ages[AGE_BUCKETS]),
            "memory_mb": round(max(b for _, b in self._memory) / 1e6),
            "memory_growth_mb_per_min": None if growth is None else round(float(growth), 2),
            "cores_used": {name: round((s - first.cpu_s[name]) / took, 3) for name, s in last.cpu_s.items()},
            "generator_cores": round((last.generator_s - first.generator_s) / took, 3),
            **({name.replace(".", "_"): count for name, count in sorted(models.items())} if models else {}),
        }


def ages_of(metrics: Mapping[str, Any]) -> np.ndarray:
    """Scores by age, over all shards, shape (AGE_BUCKETS + 1,); the last are older than all steps."""
    ages = np.zeros(AGE_BUCKETS + 1, np.int64)
    for body in metrics.values():
        ages += np.array(body.get("score_ages", 0), np.int64)
    return ages


def quantile_ms(ages: np.ndarray, share: float) -> float | None:
    """Upper end of the step in which a quantile lies; null where that has none, or where there is no score."""
    whole = np.cumsum(ages)
    place = int(np.searchsorted(whole, share * whole[-1]))
    return None if whole[-1] == 0 or place >= AGE_BUCKETS else (place + 1) * AGE_STEP_NS / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sensors", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--starts", type=float, default=0.5, help="seconds over which the microphones begin, evenly")
    parser.add_argument("--encoder", type=Path, help="encoder package, or the name of one that ships")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two embeddings")
    parser.add_argument("--head-alone", action="store_true", help="no score of the log-Mel beside the encoder's head")
    parser.add_argument("--curve", action="store_true", help="several numbers of microphones and rhythms")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.head_alone and args.encoder is None:
        parser.error("--head-alone needs --encoder")
    behind_s = 0.0
    for sensors, every_s in CURVE if args.curve else ((args.sensors, args.every),):
        if every_s == behind_s:
            continue  # more microphones at this rhythm would only take longer
        figures = run(sensors, args.seconds, args.shards, args.starts, args.encoder, every_s, args.head_alone)
        figures |= {} if args.encoder is None else {"every_s": every_s}
        behind_s = every_s if figures["age_ms_p99"] is None else behind_s
        if args.json:
            print(json.dumps(figures), flush=True)
            continue
        for name, value in figures.items():
            print(f"{name:<28}{value}")


if __name__ == "__main__":
    main()
