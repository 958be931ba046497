"""Sound of milling jobs: stable cuts, cuts near the limit, and chatter that begins at a known time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.simulator.cutting import Tool
from connectors.simulator.machining import Job, Label, Motion, draw_tool, move, passes
from connectors.simulator.manifest import SPLITS, Progress, Recording, sizes, write
from connectors.simulator.microphone_model import Pickup, record
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Float64, Given

RATE_HZ = 48_000
_MACHINES = 3
_PER_START: tuple[Label, ...] = ("stable", "chatter", "stable", "transition", "chatter", "stable")
_TRIES = 60
_TAKEN_BACK = 0.75
_QUIET = 0.7
"""Share of the limit up to which a cut is stable beyond doubt."""


@dataclass(frozen=True, slots=True)
class Mill:
    """What stays the same in one start of a milling machine: the machine, its microphone, the tool in it, the gain."""

    name: str
    pickup: Pickup
    tool: Tool
    rpm: tuple[float, float]

    @classmethod
    def draw(cls, seed: int, machine: int, start: int) -> Mill:
        """Machine and microphone depend on `machine` alone; tool, gain, coolant and agc on the start too."""
        fixed = generator(seed, "mill", machine)
        pickup = Pickup.draw(fixed, snr_db=(6.0, 22.0))
        lowest = uniform(fixed, 3500.0, 9000.0)
        fresh = generator(seed, "mill", machine, "start", start)
        pickup = replace(pickup.of_start(fresh), agc=bool(fresh.random() < 0.2))
        return cls(f"mill-{machine + 1}", pickup, draw_tool(fresh), (lowest, lowest * 2.2))


class Done(NamedTuple):
    """A job, and what its tool did."""

    job: Job
    motion: Motion


def simulate_chatter(seed: int, minutes: float, out: Path, progress: Progress | None = None) -> Path:
    """Write ``minutes`` of milling sound: WAV, 48 kHz, mono, 4-10 s each; labels stable, transition, chatter.

    Groups are starts of a machine (six recordings with one tool, gain and microphone). ``onset_s`` is when the depth
    passes the linear stability limit; further columns: ``quiet_until_s`` when it passes 0.7 of that, ``seen_s`` when
    the motion stops repeating from turn to turn, ``family``, ``chatter_hz``, ``depth_m`` (largest), ``limit_m``.

    Args:
        seed: of everything.
        minutes: length of all recordings together.
        out: folder.
        progress: called with (done, total).

    Returns:
        Path of the manifest.

    Raises:
        MissingExtra: numba is not installed.
    """
    count, length_s = sizes(minutes, 36, 10.0, 4.0)
    return write(_recordings(seed, count, length_s), count, out, progress)


def _recordings(seed: int, count: int, length_s: float) -> Iterator[Recording]:
    length = round(length_s * RATE_HZ)
    for i in range(count):
        start, place = divmod(i, len(_PER_START))
        mill = Mill.draw(seed, start % _MACHINES, start)
        label = _PER_START[place]
        done = perform(mill, label, length, seed, i)
        samples = listen(mill, done, length, seed, i)
        group = f"{mill.name}-start-{start:03d}"
        yield Recording(
            path=f"{group}/{i:04d}.wav",
            samples=samples,
            rate_hz=RATE_HZ,
            unit="FS",
            label=label,
            group=group,
            machine=mill.name,
            sensor="microphone",
            modality="acoustic",
            split=SPLITS[start // _MACHINES % len(SPLITS)],
            more=_truth(done, label),
        )


def perform(mill: Mill, label: Label, length: int, seed: int, index: int, *, air_s: float = 0.0) -> Done:
    """A job of the given label whose motion bears it out: chatter is seen and lasts, a stable cut repeats itself.

    The nonlinear motion can stay periodic beyond the linear limit, and runout can disturb it below; such jobs are
    neither, and another one is drawn. `air_s` of the length come before all of it, in the air.
    """
    for attempt in range(_TRIES):
        rng = generator(seed, "job", index, attempt)
        job = Job.draw(rng, mill.tool, mill.rpm)
        job = job.with_depth(passes(rng, job, label, length / RATE_HZ - air_s).later(air_s))
        motion = move(job, length=length, rate_hz=RATE_HZ, seed=derived(seed, index))
        if label == "transition" or (label == "stable" and motion.seen_s is None):
            return Done(job, motion)
        if label == "chatter" and motion.seen_s is not None and motion.lasting > 0.8:
            assert job.onset_s is not None
            if motion.seen_s < job.onset_s + 1.0:
                return Done(job, motion)
    raise AssertionError(f"no {label} job in {_TRIES} tries for {mill.tool}")


def listen(mill: Mill, done: Done, length: int, seed: int, index: int) -> NDArray[np.int16]:
    """The recording of a job: most of what chatter is louder than a usual cut is taken back by distance and gain."""
    dry = mill.pickup.modes.apply(done.motion.acceleration, RATE_HZ)
    cutting = done.job.cut.depth.at(np.arange(length) / RATE_HZ) > 0.0
    own, usual = float(np.std(dry[cutting])), usual_level(mill, seed)
    work = Given(dry / (own**_TAKEN_BACK * usual ** (1.0 - _TAKEN_BACK)), RATE_HZ)
    rng, name = generator(seed, "listen", index), f"{mill.name}/{index}"
    return record(work, done.job.cut.rpm, mill.pickup, rng, seed=seed, name=name, length=length)


@lru_cache(maxsize=4)
def usual_level(mill: Mill, seed: int) -> float:
    """Level of an ordinary stable cut of this tool behind the machine's structure, before any gain."""
    rng = generator(seed, "usual", mill.name)
    job = Job.draw(rng, mill.tool, mill.rpm)
    job = job.with_depth(passes(rng, job, "stable", 1.0))
    dry: Float64 = mill.pickup.modes.apply(move(job, length=RATE_HZ, rate_hz=RATE_HZ, seed=seed).acceleration, RATE_HZ)
    return float(np.std(dry))


def _truth(done: Done, label: Label) -> dict[str, str | int | float]:
    job, seen = done.job, done.motion.seen_s
    truth: dict[str, str | int | float] = {
        "spindle_rpm": job.cut.rpm,
        "teeth": job.cut.tool.teeth,
        "family": job.limit.family,
        "limit_m": round(job.limit.depth_m, 7),
        "depth_m": round(max(job.cut.depth.depths_m), 7),
    }
    if label == "chatter":
        assert job.onset_s is not None
        assert seen is not None
        quiet = job.cut.depth.reaches(_QUIET * job.limit.depth_m)
        assert quiet is not None
        truth |= {"onset_s": round(job.onset_s, 4), "seen_s": round(seen, 4), "quiet_until_s": round(quiet, 4)}
        truth["chatter_hz"] = round(job.limit.frequency_hz, 1)
    return truth
