"""Halls of simulated machines that are switched on, run, and may break: what the sensors of each start tell.

A hall has a mill and a drill press, whose microphones hear each other's machine and the hall, too, and a motor with an
accelerometer. Machine, place and microphone belong to the hall; tool or bit, speed, load, gain, coolant, room, running
noise and the neighbour's share are drawn anew for each start, as the simulators do for theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from connectors.simulator.ambience import ambience
from connectors.simulator.bearing import BearingFault, growing, vibration
from connectors.simulator.bearing_set import _motor  # how motors vary from start to start is known there alone
from connectors.simulator.chatter_set import Mill
from connectors.simulator.drill_set import DrillPress
from connectors.simulator.drilling import Damage, Hole, drill, worn
from connectors.simulator.machining import Job, move, passes
from connectors.simulator.microphone_model import FULL_SCALE, Microphone, Pickup, machine_sound
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Cycles, Float64, Track
from pipeline.messages import NS, Anchor, Chunk, Rate, Stream

KINDS = ("mill", "drill", "motor")
STATES = ("low", "middle", "high")
"""Thirds of the mill's speeds, of the bits' diameters, and of the motor's speeds."""
FAULTS: dict[str, tuple[str, ...]] = {
    "mill": ("chatter",),
    "drill": ("broken bit",),
    "motor": ("outer_race", "inner_race", "ball", "gear_tooth"),
}
SOUND_HZ, SHAKE_HZ = 48_000, 25_600
MILL_S, DRILL_S, MOTOR_S, TAIL_S = 8.0, 4.0, 10.0, 0.5


class Start(NamedTuple):
    """A hall switched on: its how manieth start it is, in which state, for how long, and which machine breaks how."""

    seed: int
    hall: int
    number: int
    state: str
    seconds: float
    kind: str = ""
    fault: str = ""

    @property
    def onset_s(self) -> float:
        """When the fault begins: after a third, with a new part, hole and second where that is a multiple of 8 s."""
        return self.seconds / 3.0

    @property
    def t0_ns(self) -> int:
        """Event time of its first sample."""
        return self.number * 3600 * NS

    @property
    def kinds(self) -> tuple[str, ...]:
        """The machines that are listened to: all, or the one that breaks."""
        return (self.kind,) if self.kind else KINDS

    @property
    def band(self) -> tuple[float, float]:
        """The third of a range that the state stands for, as shares of it."""
        place = STATES.index(self.state)
        return place / 3.0, (place + 1.0) / 3.0

    def breaks(self, kind: str) -> bool:
        """Whether it is this machine of the hall that has the fault."""
        return bool(self.fault) and kind == self.kind


def milling(start: Start) -> tuple[Track, Rotation, Pickup]:
    """Parts of eight seconds with one tool at one speed; each has depths and passes of its own."""
    mill = Mill.draw(start.seed, start.hall, start.number)
    low, high = (mill.rpm[0] * (mill.rpm[1] / mill.rpm[0]) ** share for share in start.band)
    length = round((MILL_S + 0.5 * TAIL_S) * SOUND_HZ)

    def part(job: Job, cycle: int, fault: bool) -> tuple[Float64, bool, float]:
        """Its acceleration, whether the motion bears the label out, and its level in the cut."""
        rng = generator(start.seed, "part", start.hall, start.number, cycle)
        ours = job.with_depth(passes(rng, job, "chatter" if fault else "stable", MILL_S))
        seed = derived(start.seed, "part", start.hall, start.number, cycle)
        moved = move(ours, length=length, rate_hz=SOUND_HZ, seed=seed)
        cutting = ours.cut.depth.at(np.arange(length) / SOUND_HZ) > 0.0
        dry = mill.pickup.modes.apply(np.append(moved.acceleration, np.zeros(round(0.5 * TAIL_S * SOUND_HZ))), SOUND_HZ)
        borne = moved.lasting > 0.8 if fault else moved.seen_s is None
        return dry, borne, float(np.std(dry[:length][cutting]))

    for attempt in count():  # a job that can chatter and be stable, as those of the simulated shop
        job = Job.draw(generator(start.seed, "quiet job", start.hall, start.number, attempt), mill.tool, (low, high))
        _, stable, usual = part(job, 0, fault=False)
        if stable and part(job, 0, fault=True)[1]:
            break

    def sound(cycle: int) -> Float64:
        return part(job, cycle, start.breaks("mill") and cycle * MILL_S >= start.onset_s)[0] / usual

    work = Cycles(SOUND_HZ, round(MILL_S * SOUND_HZ), round(TAIL_S * SOUND_HZ), sound)
    return work, Rotation(job.cut.rpm, 0.002, start.seed, f"mill {start.hall}/{start.number}"), mill.pickup


def drilling(start: Start) -> tuple[Track, Rotation, Pickup]:
    """Holes of four seconds with one bit that wears; a broken one goes on."""
    smallest, largest = (2e-3 + 8e-3 * share for share in start.band)  # diameters of `Bit.draw`
    drawn = (DrillPress.draw(start.seed, start.hall, start.number + 10_000 * k) for k in count())
    press = next(p for p in drawn if smallest <= p.bit.diameter_m < largest)
    length = round((DRILL_S + 0.5 * TAIL_S) * SOUND_HZ)
    age = uniform(generator(start.seed, "wear", start.hall, start.number), 0.0, 0.8)

    def sound(cycle: int) -> Float64:
        rng = generator(start.seed, "hole", start.hall, start.number, cycle)
        bit = worn(press.bit, age + 0.2 * min(1.0, cycle * DRILL_S / start.seconds))
        hole, damage = Hole.draw(rng, DRILL_S, bit), None
        if start.breaks("drill") and cycle * DRILL_S >= start.onset_s:
            damage = Damage.draw(rng, "fracture" if (cycle - 1) * DRILL_S < start.onset_s else "broken", hole)
        seed = derived(start.seed, "hole", start.hall, start.number, cycle)
        return drill(bit, hole, damage, rate_hz=SOUND_HZ, length=length, seed=seed) / press.bit.level

    work = Cycles(SOUND_HZ, round(DRILL_S * SOUND_HZ), round(TAIL_S * SOUND_HZ), sound)
    return work, Rotation(press.bit.rpm, 0.002, start.seed, f"drill {start.hall}/{start.number}"), press.pickup


def turning(start: Start) -> Track:
    """Acceleration of a motor, three axes in m/s²; faults 0 to 10 dB above the noise (of a gear tooth: once a turn)."""
    name = f"motor {start.hall}/{start.number}"
    usual_hz = uniform(generator(start.seed, "motor", start.hall), 900.0, 3000.0) / 60.0  # as `_motor` draws it
    low, high = (usual_hz * (0.8 + 0.4 * share) for share in start.band)
    drawn = (
        _motor(start.seed, start.hall, start.number, label="normal", name=name, rng=generator(start.seed, name, k))
        for k in count()
    )
    motor = next(m for m in drawn if low <= m.rotation.f_hz < high)
    faults: dict[BearingFault, Callable[[Float64], Float64]] = {}
    if start.breaks("motor"):
        db = uniform(generator(start.seed, name, "severity"), 0.0, 10.0)
        faults[start.fault] = growing(start.onset_s, from_db=db, to_db=db, over_s=1.0)  # type: ignore[index]

    def shake(cycle: int) -> Float64:
        length, seed = round(MOTOR_S * SHAKE_HZ), derived(start.seed, name, cycle)
        return vibration(motor, faults, t0_s=cycle * MOTOR_S, length=length, rate_hz=SHAKE_HZ, seed=seed)

    return Cycles(SHAKE_HZ, round(MOTOR_S * SHAKE_HZ), round(TAIL_S * SHAKE_HZ), shake)


def heard(start: Start) -> dict[str, Track]:
    """What the sensors tell, by machine: counts of a 16-bit microphone, m/s² of the accelerometer."""
    tracks: dict[str, Track] = {"motor": turning(start)} if "motor" in start.kinds else {}
    if {"mill", "drill"} & set(start.kinds):
        tracks |= microphones(start)
    return tracks


def microphones(start: Start) -> dict[str, Track]:
    """Each hears its machine, 24 to 34 dB below it the other one, and the hall."""
    place = f"{start.hall}/{start.number}"
    made = {"mill": milling(start), "drill": drilling(start)}
    dry = {kind: machine_sound(*parts, start.seed, f"{kind} {place}") for kind, parts in made.items()}
    tracks: dict[str, Track] = {}
    for kind, (_, _, pickup) in made.items():
        name, neighbour = f"{kind} {place}", dry["drill" if kind == "mill" else "mill"]
        rng = generator(start.seed, "place", name)
        hall = 10.0 ** (-(pickup.snr_db + uniform(rng, -3.0, 8.0)) / 20.0)
        beside = 10.0 ** (-uniform(rng, 24.0, 34.0) / 20.0)
        others = (
            (ambience(SOUND_HZ, start.seed, name), hall, 0),
            (neighbour, beside, int(rng.integers(200, 2000))),
        )
        tracks[kind] = Microphone(dry[kind], pickup, seed=start.seed, name=name, others=others).track
    return tracks


def stream_of(start: Start, kind: str) -> Stream:
    """The sensor's stream; every start is an epoch."""
    if kind == "motor":
        return Stream(f"motor-{start.hall + 1}", "ear", start.number, "vibration", Rate(SHAKE_HZ), 3, "<f4", "m/s2")
    machine = f"{kind}-{start.hall + 1}"
    return Stream(machine, "ear", start.number, "acoustic", Rate(SOUND_HZ), 1, "<i2", "FS", 1.0 / FULL_SCALE)


def chunks(start: Start) -> Iterator[dict[str, Chunk]]:
    """A second of each machine at a time, by kind."""
    tracks = heard(start)
    streams = {kind: stream_of(start, kind) for kind in start.kinds}
    anchor = Anchor(0, start.t0_ns)
    for second in range(round(start.seconds)):
        told = {}
        for kind, stream in streams.items():
            n = round(stream.rate.hz)
            x = tracks[kind].read(second * n, (second + 1) * n).reshape(n, -1).astype(stream.dtype)
            told[kind] = Chunk(stream, anchor, second * n, second, np.ascontiguousarray(x))
        yield told
