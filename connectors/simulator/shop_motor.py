"""The shop's motor: it never stops, and its bearing's outer race begins to spall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from connectors.simulator.bearing import SKF_6205, BearingFault, Motor, growing, vibration
from connectors.simulator.microphone_model import Pickup
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.shop_parts import Fact, Truth
from connectors.simulator.tracks import Cycles, Float64

NAME = "motor-1"
CYCLE_S = 10.0
SOUND_HZ = 48_000
VIBRATION_HZ = 25_600
_TAIL_S = 0.5
_GROWTH_S = 60.0


class ShopMotor:
    """A motor with a 6205 bearing whose fault grows from -18 to +8 dB against the noise within a minute.

    Args:
        seed: of everything.
        normal_s: the fault begins ten seconds later.

    Attributes:
        work: dry sound of the vibrating housing, standard deviation about 1 while healthy.
        vibration: m/s², three axes.
    """

    def __init__(self, seed: int, normal_s: float) -> None:
        rng = generator(seed, "shop", NAME)
        self._seed = seed
        self.pickup = replace(Pickup.draw(rng, snr_db=(6.0, 14.0)), level_dbfs=uniform(rng, -32.0, -26.0))
        self.motor = Motor.draw(rng, uniform(rng, 1400.0, 3000.0), SKF_6205, seed, NAME)
        self.rotation = self.motor.rotation
        self.onset_s = normal_s + 10.0
        severity = growing(self.onset_s, from_db=-18.0, to_db=8.0, over_s=_GROWTH_S)
        self._faults: dict[BearingFault, Callable[[Float64], Float64]] = {"outer_race": severity}
        tail = round(_TAIL_S * VIBRATION_HZ)
        self.vibration = Cycles(VIBRATION_HZ, round(CYCLE_S * VIBRATION_HZ), tail, self._shake)
        self.work = Cycles(SOUND_HZ, round(CYCLE_S * SOUND_HZ), round(_TAIL_S * SOUND_HZ), self._sound)

    def truth(self, until_s: float) -> list[Truth]:
        """The fault, if it begins before `until_s`."""
        if self.onset_s >= until_s:
            return []
        hz = self.motor.per_revolution("outer_race") * self.rotation.f_hz
        return [Truth(NAME, "bearing_fault", self.onset_s, float("inf"), {"fault": "outer_race", "fault_hz": hz})]

    def facts(self, second: int) -> list[Fact]:
        """What the control says at a whole second."""
        return [Fact(second, "spindle_rpm", 60.0 * self.rotation.f_hz), Fact(second, "state", "run")]

    def _render(self, motor: Motor, cycle: int, rate_hz: int) -> Float64:
        return vibration(
            motor,
            self._faults,
            t0_s=cycle * CYCLE_S,
            length=round(CYCLE_S * rate_hz),
            rate_hz=rate_hz,
            seed=derived(self._seed, NAME, cycle),
        )

    def _shake(self, cycle: int) -> Float64:
        return self._render(self.motor, cycle, VIBRATION_HZ)

    def _sound(self, cycle: int) -> Float64:
        housing = replace(self.motor, axes=self.motor.axes[:1])
        x = self._render(housing, cycle, SOUND_HZ)[:, 0]
        ringing = np.zeros(round((CYCLE_S + _TAIL_S) * SOUND_HZ) - len(x))
        level = self.motor.noise * float(np.sqrt(sum(g * g for g in self.pickup.modes.gain))) * 0.1
        return self.pickup.modes.apply(np.concatenate([x, ringing]), SOUND_HZ) / level
