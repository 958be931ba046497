"""Simulated cuts, holes and bearings for the detectors, with their truth: what tests and benchmarks share.

Seeds: `TUNING` were looked at while constants were chosen, `FINAL` only for the figures in `docs/detectors.md`,
`SPENT` for those of earlier versions. For chatter's wavering over seconds alone 7202, 7205, 8201, 8202, 8209 and 8210
were looked at, too: chatter's final figures are those of 7206, 8212, 8213, after learned parts of 7207, 7208, 8214.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from connectors.simulator.ambience import ambience
from connectors.simulator.chatter_set import Done, Mill, listen, perform
from connectors.simulator.drill_set import DrillPress
from connectors.simulator.drilling import Damage, Fault, Hole, drill, worn
from connectors.simulator.machining import Job, Label, move, passes
from connectors.simulator.microphone_model import Microphone, machine_sound
from connectors.simulator.milling import Depth
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Given
from models import metrics
from pipeline.messages import Float32

TUNING = (
    901,
    902,
    911,
    921,
    903,
    912,
    922,
    931,
    5001,
    5002,
    5011,
    7203,
    8101,
    8102,
    8111,
    8112,
    8113,
    8114,
    8121,
    8115,
    8116,
    8117,
    8118,
    9301,
    9302,
    9303,
    9601,
    9602,
    9650,
    9651,
    9652,
    9660,
    9661,
    9664,
    9665,
    9501,
)
FINAL = (
    *(8201, 7202, 8204, 8205, 7121, 7131, 7141, 8202, 8203, 7205, 8209, 8210, 8211),
    *(7206, 8212, 8213, 7207, 7208, 8214, 9611, 9612),
    *(9653, 9666),
)
SPENT = (6001, 6002, 6011, 5021, 7101, 7102, 7201, 7111)

MILL_HZ = 48_000
DRILL_HZ = 96_000


@dataclass(frozen=True, eq=False)
class Cut:
    """One recording of a mill: what the microphone and an accelerometer heard, and what was so."""

    sound: Float32
    acceleration: Float32
    rpm: float
    teeth: int
    onset_s: float | None
    seen_s: float | None
    agc: bool
    before: tuple[Cut, ...] = ()
    """Good parts with the same tool, speed and engagement that were cut before."""


def cut(
    seed: int, index: int, label: Label, *, snr_db: float, seconds: float = 5.0, agc: bool = False,
    near: tuple[float, float] | None = None, air_s: float = 0.0, parts: int = 0,
) -> Cut:  # fmt: skip
    """A cut of an own machine, tool, speed and room; `snr_db` is that of the cut over the machine's background.

    The hall lies another -8 to 3 dB from that background, with its bangs, tones and compressed air. The acceleration
    is the tool's own with white noise at `snr_db`.

    Args:
        seed: of everything.
        index: of the recording.
        label: stable (0.25-0.7 of the limit), chatter (1.15-1.6).
        snr_db: of the cut over the background.
        seconds: length.
        agc: whether the recorder levels its gain.
        near: depth as shares of the limit, entered at once, instead of the label's.
        air_s: more of it, in the air, before all that.
        parts: how many good parts of the same job, at most, are cut before: of a stable cut at its own depths.
    """
    mill = Mill.draw(seed, index % 7, index)
    mill = replace(mill, pickup=replace(mill.pickup, snr_db=snr_db, agc=agc))
    length = round((seconds + air_s) * MILL_HZ)
    if near is None:
        done = perform(mill, label, length, seed, index, air_s=air_s)
    else:
        done = _near(mill, seed, index, near, seconds, air_s)
    made = _heard(mill, done, length, seed, index)
    return replace(made, before=tuple(_parts(mill, done.job, label, length, seed, index, parts)))


def _parts(mill: Mill, job: Job, label: Label, length: int, seed: int, index: int, count: int) -> Iterator[Cut]:
    """Good parts of a job, which differ in noise, chips, bangs and, where the job itself chatters, in depth.

    They are fewer where runout disturbs the motion of most of them, so that they are not stable beyond doubt.
    """
    made = 0
    for attempt in range(1, 5 * count + 1):
        if made == count:
            return
        number = index + 1_000_000 * attempt
        if label != "stable":
            job = job.with_depth(passes(generator(seed, "part", number), job, "stable", length / MILL_HZ))
        motion = move(job, length=length, rate_hz=MILL_HZ, seed=derived(seed, number))
        if motion.seen_s is None:
            made += 1
            yield _heard(mill, Done(job, motion), length, seed, number)


def _heard(mill: Mill, done: Done, length: int, seed: int, index: int) -> Cut:
    job, motion, snr_db, agc = done.job, done.motion, mill.pickup.snr_db, mill.pickup.agc
    sound = listen(mill, done, length, seed, index).astype(np.float32) / np.float32(32768.0)
    in_cut = job.cut.depth.at(np.arange(length) / MILL_HZ) > 0.0
    level = float(np.std(motion.acceleration[in_cut])) * 10.0 ** (-snr_db / 20.0)
    noise = generator(seed, "accelerometer", index).standard_normal(length)
    acceleration = (motion.acceleration + level * noise).astype(np.float32)
    return Cut(sound[:, None], acceleration[:, None], job.cut.rpm, job.cut.tool.teeth, job.onset_s, motion.seen_s, agc)


def lost_tooth(seed: int, index: int, *, snr_db: float, seconds: float = 14.0, loses: bool = True) -> Cut:
    """A stable cut (0.25 to 0.7 of the limit) of an own machine in which a tooth breaks off in the second half.

    Args:
        seed: of everything.
        index: of the machine.
        snr_db: of the cut over the background.
        seconds: length.
        loses: whether it breaks; the rest is the same.
    """
    mill = Mill.draw(seed, index % 7, index)
    mill = replace(mill, pickup=replace(mill.pickup, snr_db=snr_db, agc=False))
    length = round(seconds * MILL_HZ)
    done = perform(mill, "stable", length, seed, index)
    rng = generator(seed, "tooth", index)
    at, tooth = uniform(rng, 0.5, 0.8) * seconds, int(rng.integers(mill.tool.teeth))
    if loses:
        job = replace(done.job, cut=replace(done.job.cut, lost=(tooth, at)))
        done = Done(job, move(job, length=length, rate_hz=MILL_HZ, seed=derived(seed, index)))
    sound = listen(mill, done, length, seed, index).astype(np.float32) / np.float32(32768.0)
    cutting = done.job.cut.depth.at(np.arange(length) / MILL_HZ) > 0.0
    level = float(np.std(done.motion.acceleration[cutting])) * 10.0 ** (-snr_db / 20.0)
    noise = generator(seed, "accelerometer", index).standard_normal(length)
    acceleration = (done.motion.acceleration + level * noise).astype(np.float32)
    run, when = done.job.cut, at if loses else None
    return Cut(sound[:, None], acceleration[:, None], run.rpm, run.tool.teeth, when, when, agc=False)


def stable_acceleration(seed: int, index: int, *, rate_hz: int, seconds: float, snr_db: float) -> tuple[Float32, Job]:
    """What a slow accelerometer hears of stable cutting at 0.25 to 0.7 of the limit: cheap, for minutes of it.

    With entries, jamming chips and white noise at `snr_db`.

    Args:
        seed: of everything.
        index: of the machine.
        rate_hz: samples per second.
        seconds: length.
        snr_db: of the cut over the noise.
    """
    length = round(seconds * rate_hz)
    rng = generator(seed, "slow accelerometer", index)
    mill = Mill.draw(seed, index % 7, index)
    job = Job.draw(rng, mill.tool, mill.rpm)
    job = job.with_depth(passes(rng, job, "stable", seconds))
    x = move(job, length=length, rate_hz=rate_hz, seed=seed + index).acceleration
    x += 10.0 ** (-snr_db / 20.0) * float(np.std(x)) * rng.standard_normal(length)
    return x.astype(np.float32)[:, None], job


def _near(mill: Mill, seed: int, index: int, near: tuple[float, float], seconds: float, air_s: float) -> Done:
    """A cut at a share of its limit, drawn until the motion shows chatter."""
    for attempt in range(40):
        rng = generator(seed, "near", index, attempt)
        job = Job.draw(rng, mill.tool, mill.rpm)
        deep = uniform(rng, *near) * job.limit.depth_m
        into, out = air_s + 0.1 * seconds, air_s + 0.94 * seconds
        job = job.with_depth(Depth((into, into + 0.15, out, out + 0.1), (0.0, deep, deep, 0.0)))
        motion = move(job, length=round((seconds + air_s) * MILL_HZ), rate_hz=MILL_HZ, seed=seed + index)
        if motion.seen_s is not None and motion.seen_s < out - 1.0:
            return Done(job, motion)
    raise AssertionError(f"no chatter at {near} of the limit in 40 tries")


@dataclass(frozen=True, eq=False)
class Drilled:
    """One hole with a little air before and after."""

    sound: Float32
    fault: Fault
    break_s: float | None
    touch_s: float
    out_s: float


def holes(
    seed: int, start: int, faults: list[Fault], *, snr_db: float, seconds: float = 3.0, spread: float = 0.01
) -> Iterator[Drilled]:
    """Holes of one program with one kind of bit, in one machine and room.

    Args:
        seed: of everything.
        start: of the machine; another bit, microphone, room and gain.
        faults: what happens in each hole; after a fracture a new bit is taken.
        snr_db: of the cutting over the machine's background.
        seconds: per hole.
        spread: relative standard deviation of the hole's times (a program repeats itself; the axis jitters).
    """
    press = DrillPress.draw(seed, start % 7, start)
    pickup = replace(press.pickup, snr_db=snr_db)
    program = Hole.draw(generator(seed, "program", start), seconds, press.bit)
    length = round(seconds * DRILL_HZ)
    name = f"{press.name}/{start}"
    for i, fault in enumerate(faults):
        rng = generator(seed, "hole of a program", start, i)
        bit = worn(press.bit, uniform(rng, 0.0, 0.5))
        stretch = 1.0 + spread * float(rng.standard_normal())
        corners = (program.touch_s, program.full_s, program.through_s, program.out_s)
        times = [program.touch_s + stretch * (t - program.touch_s) for t in corners]
        hole = Hole(*times)
        damage = Damage.draw(rng, fault, hole) if fault != "none" else None
        work = drill(bit, hole, damage, rate_hz=DRILL_HZ, length=length, seed=seed + 1000 * start + i) / press.bit.level
        hall = 10.0 ** (-(snr_db + uniform(rng, -3.0, 8.0)) / 20.0)
        place = f"{name}/{i}"
        dry = machine_sound(Given(work, DRILL_HZ), Rotation(bit.rpm, 0.002, seed, place), pickup, seed, name)
        microphone = Microphone(dry, pickup, seed=seed, name=name, others=((ambience(DRILL_HZ, seed, place), hall, 0),))
        sound = microphone.read(0, length).astype(np.float32)[:, None] / np.float32(32768.0)
        yield Drilled(sound, fault, damage.t_s if damage else None, hole.touch_s, hole.out_s)


def between_holes(seed: int, start: int, seconds: float, *, snr_db: float) -> Float32:
    """What the microphone of `holes` hears while nothing is drilled: bangs, compressed air, warning tones."""
    press = DrillPress.draw(seed, start % 7, start)
    pickup = replace(press.pickup, snr_db=snr_db)
    length, place = round(seconds * DRILL_HZ), f"{press.name}/{start}/between holes"
    hall = 10.0 ** (-(snr_db + uniform(generator(seed, "between holes", start), -3.0, 8.0)) / 20.0)
    still = Given(np.zeros(length), DRILL_HZ)
    dry = machine_sound(still, Rotation(press.bit.rpm, 0.002, seed, place), pickup, seed, f"{press.name}/{start}")
    others = ((ambience(DRILL_HZ, seed, place), hall, 0),)
    microphone = Microphone(dry, pickup, seed=seed, name=f"{press.name}/{start}", others=others)
    return microphone.read(0, length).astype(np.float32)[:, None] / np.float32(32768.0)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share, see `models.metrics.wilson`."""
    return metrics.wilson(hits / max(trials, 1), trials)
