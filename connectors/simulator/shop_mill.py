"""The shop's mill: eight-second parts, cut with stable depth; some chatter."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
from scipy.signal import resample_poly

from connectors.simulator.cutting import BENCHMARK
from connectors.simulator.machining import Job, Motion, draw_tool, move
from connectors.simulator.microphone_model import Pickup, Recorder
from connectors.simulator.milling import Depth
from connectors.simulator.modes import Modes
from connectors.simulator.noise import shaped, tilt
from connectors.simulator.rotation import Harmonics, Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.shop_parts import Fact, Truth
from connectors.simulator.tracks import Cycles, Float64, Mix, Recent, Track

NAME = "mill-1"
CYCLE_S = 8.0
SOUND_HZ = 48_000
VIBRATION_HZ = 25_600
FULL_SCALE_M_S2 = 16.0 * 9.80665
_TAIL_S = 1.0
_LATER_CHATTER = 0.15


class ShopMill:
    """Spindle at constant speed; every cycle takes a new part in, cuts for about five seconds, and lets it go.

    Args:
        seed: of everything.
        normal_s: no chatter in parts that begin before; the first one after it chatters, and later some do.

    Attributes:
        job: tool, speed and stability limit.
        work: dry sound of the cut, normal work of standard deviation about 1.
        vibration: acceleration at the spindle's housing in steps of a 16-bit converter of ±16 g.
    """

    def __init__(self, seed: int, normal_s: float) -> None:
        rng = generator(seed, "shop", NAME)
        self._seed, self._normal_s = seed, normal_s
        self.pickup = replace(Pickup.draw(rng, snr_db=(10.0, 18.0)), level_dbfs=uniform(rng, -36.0, -30.0))
        self.job = _job(rng)
        self.rotation = Rotation(self.job.cut.rpm, 0.0005, seed, NAME)
        self._motion = Recent(self._move, 3)
        self._usual = self._level()
        self.work = Cycles(SOUND_HZ, round(CYCLE_S * SOUND_HZ), round(_TAIL_S * SOUND_HZ), self._sound)
        self._housing = Modes.draw(rng, 5, (400.0, 8000.0), (0.01, 0.04), direct=0.3)
        self.vibration: Track = Recorder(Mix(self._vibration(rng)), 1.0 / FULL_SCALE_M_S2)

    def truth(self, until_s: float) -> list[Truth]:
        """Chatter of all parts that begin before `until_s`."""
        found = []
        for cycle in range(int(np.ceil(until_s / CYCLE_S))):
            if self._chatters(cycle):
                job = self._part(cycle)
                assert job.onset_s is not None
                start, depth = cycle * CYCLE_S, job.cut.depth
                more: dict[str, float | str] = {
                    "chatter_hz": job.limit.frequency_hz,
                    "depth_m": max(depth.depths_m),
                    "limit_m": job.limit.depth_m,
                }
                found.append(Truth(NAME, "chatter", start + job.onset_s, start + depth.times_s[-1], more))
        return found

    def facts(self, second: int) -> list[Fact]:
        """What the control says at a whole second."""
        cycle = int(second // CYCLE_S)
        cutting = float(self._part(cycle).cut.depth.at(np.array([second - cycle * CYCLE_S]))[0]) > 0.0
        return [Fact(second, "spindle_rpm", self.job.cut.rpm), Fact(second, "state", "cut" if cutting else "idle")]

    def _chatters(self, cycle: int) -> bool:
        start = cycle * CYCLE_S
        if start < self._normal_s:
            return False
        first = start - CYCLE_S < self._normal_s
        return first or generator(self._seed, NAME, "chatters", cycle).random() < _LATER_CHATTER

    def _part(self, cycle: int) -> Job:
        """The part of a cycle: when and how deep it is cut."""
        rng = generator(self._seed, NAME, "part", cycle)
        into, out, entry = uniform(rng, 0.8, 1.3), uniform(rng, 6.6, 7.0), uniform(rng, 0.08, 0.3)
        depth = uniform(rng, 0.35, 0.65) * self.job.limit.depth_m
        corners = [(into, 0.0), (into + entry, depth)]
        if self._chatters(cycle):
            start = uniform(rng, 2.0, 3.5)
            deep = uniform(rng, 1.25, 1.5) * self.job.limit.depth_m
            corners += [(start, depth), (start + uniform(rng, 0.3, 1.0), deep), (out, deep)]
        else:
            corners += [(out, depth)]
        corners.append((out + 0.1, 0.0))
        return self.job.with_depth(Depth(tuple(t for t, _ in corners), tuple(d for _, d in corners)))

    def _move(self, cycle: int) -> Motion:
        length = round((CYCLE_S + 0.5 * _TAIL_S) * SOUND_HZ)
        return move(self._part(cycle), length=length, rate_hz=SOUND_HZ, seed=derived(self._seed, NAME, cycle))

    def _level(self) -> float:
        dry = self.pickup.modes.apply(self._motion(0).acceleration, SOUND_HZ)
        return float(np.std(dry[2 * SOUND_HZ : 6 * SOUND_HZ]))

    def _sound(self, cycle: int) -> Float64:
        ringing = np.zeros(round(0.5 * _TAIL_S * SOUND_HZ))
        whole = np.concatenate([self._motion(cycle).acceleration, ringing])
        return self.pickup.modes.apply(whole, SOUND_HZ) / self._usual

    def _vibration(self, rng: np.random.Generator) -> list[tuple[Track, float, int]]:
        lines = 1.0 / np.arange(1, 13)
        turning = Harmonics(VIBRATION_HZ, self.rotation, lines, rng.uniform(0.0, 2.0 * pi, 12))
        noise = shaped(VIBRATION_HZ, self._seed, f"{NAME}/vibration", tilt(-3.0, 1000.0))
        tail = round(_TAIL_S * VIBRATION_HZ)
        cutting = Cycles(VIBRATION_HZ, round(CYCLE_S * VIBRATION_HZ), tail, self._shake)
        return [(cutting, 1.0, 0), (turning, uniform(rng, 0.1, 0.4), 0), (noise, uniform(rng, 0.1, 0.3), 0)]

    def _shake(self, cycle: int) -> Float64:
        ringing = np.zeros(round(0.5 * _TAIL_S * VIBRATION_HZ))
        slow = resample_poly(self._motion(cycle).acceleration, 8, 15)
        return self._housing.apply(np.concatenate([slow, ringing]), VIBRATION_HZ) * 0.03


def _job(rng: np.random.Generator) -> Job:
    """A job whose chatter is of the Hopf kind and whose limit is neither tiny nor deep, and that does chatter."""
    while True:
        job = Job.draw(rng, draw_tool(rng, BENCHMARK), (6000.0, 16_000.0))
        if not 0.2e-3 < job.limit.depth_m < 2e-3:
            continue
        deep = job.with_depth(Depth((0.0, 0.1), (0.0, 1.35 * job.limit.depth_m)))
        if move(deep, length=2 * SOUND_HZ, rate_hz=SOUND_HZ, seed=0).lasting > 0.8:
            return job
