"""The shop's drill press: a hole every four seconds; now and then the bit breaks and is changed two holes later."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from connectors.simulator.drilling import Bit, Damage, Fault, Hole, drill, worn
from connectors.simulator.microphone_model import Pickup
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.shop_parts import Fact, Truth
from connectors.simulator.tracks import Cycles, Float64

NAME = "drill-1"
CYCLE_S = 4.0
SOUND_HZ = 48_000
_CAMPAIGN = 15
_LATER_BREAK = 0.5
_TAIL_S = 0.25


class ShopDrill:
    """Campaigns of fifteen cycles: holes with one bit, and in the last cycle the bit is changed.

    A bit that breaks goes on into two more holes; then it is changed early, which takes one cycle.

    Args:
        seed: of everything.
        normal_s: no break before; the first follows within two campaigns, later every other campaign has one.

    Attributes:
        work: dry sound of drilling, normal work of standard deviation 1.
    """

    def __init__(self, seed: int, normal_s: float) -> None:
        rng = generator(seed, "shop", NAME)
        self._seed, self._normal_s = seed, normal_s
        self.pickup = replace(Pickup.draw(rng, snr_db=(10.0, 18.0)), level_dbfs=uniform(rng, -36.0, -30.0))
        self.bit = Bit.draw(rng)
        self.rotation = Rotation(self.bit.rpm, 0.001, seed, NAME)
        self.work = Cycles(SOUND_HZ, round(CYCLE_S * SOUND_HZ), round(_TAIL_S * SOUND_HZ), self._sound)
        self._breaks = lru_cache(maxsize=1024)(self._draw_break)

    def truth(self, until_s: float) -> list[Truth]:
        """All breaks before `until_s`; each ends when the bit is changed."""
        found = []
        for campaign in range(int(until_s / (CYCLE_S * _CAMPAIGN)) + 1):
            nth = self._breaks(campaign)
            if nth is None:
                continue
            cycle = campaign * _CAMPAIGN + nth
            damage = self._damage(cycle)
            assert damage is not None
            onset, end = cycle * CYCLE_S + damage.t_s, (cycle + 3) * CYCLE_S
            if onset < until_s:
                found.append(Truth(NAME, "drill_break", onset, end, {"drop_db": damage.drop_db}))
        return found

    def facts(self, second: int) -> list[Fact]:
        """What the control says at a whole second."""
        changing = self._fault(int(second // CYCLE_S)) is None
        return [Fact(second, "spindle_rpm", self.bit.rpm), Fact(second, "state", "tool_change" if changing else "run")]

    def _draw_break(self, campaign: int) -> int | None:
        """Number within the campaign of the hole in which the bit breaks, at most 10, or None."""
        start = campaign * _CAMPAIGN * CYCLE_S
        earliest = max(0, int(np.ceil((self._normal_s - start) / CYCLE_S)))
        rng = generator(self._seed, NAME, "break", campaign)
        if earliest > 10:
            return None
        first = self._normal_s > start - 5 * CYCLE_S
        if not first and rng.random() >= _LATER_BREAK:
            return None
        return min(earliest + int(rng.integers(1, 4)), 10) if first else int(rng.integers(1, 11))

    def _fault(self, cycle: int) -> Fault | None:
        """State of the bit in a cycle; None while it is changed."""
        campaign, nth = divmod(cycle, _CAMPAIGN)
        broken = self._breaks(campaign)
        if nth == _CAMPAIGN - 1 or (broken is not None and nth == broken + 3):
            return None
        if broken is not None and broken <= nth <= broken + 2:
            return "fracture" if nth == broken else "broken"
        return "none"

    def _hole(self, cycle: int) -> tuple[Bit, Hole]:
        campaign, nth = divmod(cycle, _CAMPAIGN)
        broken = self._breaks(campaign)
        age = nth if broken is None or nth <= broken + 2 else nth - broken - 3
        bit = worn(self.bit, age / _CAMPAIGN)
        return bit, Hole.draw(generator(self._seed, NAME, "hole", cycle), CYCLE_S, bit)

    def _damage(self, cycle: int) -> Damage | None:
        fault = self._fault(cycle)
        if fault not in {"fracture", "broken"}:
            return None
        assert fault is not None
        return Damage.draw(generator(self._seed, NAME, "damage", cycle), fault, self._hole(cycle)[1])

    def _sound(self, cycle: int) -> Float64:
        length = round((CYCLE_S + _TAIL_S) * SOUND_HZ)
        if self._fault(cycle) is None:
            return np.zeros(length)
        bit, hole = self._hole(cycle)
        damage, seed = self._damage(cycle), derived(self._seed, NAME, cycle)
        return drill(bit, hole, damage, rate_hz=SOUND_HZ, length=length, seed=seed) / self.bit.level
