"""Sound of holes in the order in which they are drilled: bits from new to worn, the break, holes without the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectors.simulator.drill_set import RATE_HZ, DrillPress, repeated
from connectors.simulator.drilling import Damage, Hole, drill, worn
from connectors.simulator.manifest import Progress, Recording, sizes, write
from connectors.simulator.microphone_model import record
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Given
from pipeline.errors import BadInput

_MACHINES = 3
_SUDDEN = 0.4
"""Share of the bits that break without having worn."""
_SPREAD_DB = 0.5
_FRESH, _WORN = 0.1, 0.6
"""Below and above these shares of its life a bit is normal, and worn; what lies between is ``transition``."""


@dataclass(frozen=True, slots=True)
class _Bored:
    """One hole of a bit's life."""

    label: str
    wear: float


def simulate_tool_life(seed: int, minutes: float, out: Path, progress: Progress | None = None) -> Path:
    """Write ``minutes`` of drilling sound: WAV, 96 kHz, mono, one hole of 3-6 s each, in order.

    Three machines repeat one program each with one type of bit. A bit drills 16 to 40 holes; six in ten wear, from
    somewhere in the first half of its life on. It breaks in its last hole, one to three holes without it follow, then
    it is changed. Labels are normal, transition (some wear), worn, drill_break (``onset_s`` is the fracture) and
    bit_missing; groups are bits, the first one of each machine is there to learn from. Further columns: ``wear``
    (0-1), ``drop_db`` (of the break or of what is missing), ``rubbing``, ``touch_s``, ``out_s``, ``diameter_m``,
    ``start`` (of the machine), ``cut_from_s`` and ``cut_until_s`` (what a control would tell of the feed). From hole to
    hole the level varies by 0.5 dB (standard deviation), from bit to bit within 1 dB.

    Args:
        seed: 0 or more.
        minutes: length of all recordings together, more than 0.
        out: folder.
        progress: called with (done, total).

    Returns:
        Path of the manifest.

    Raises:
        BadInput: a seed or time that cannot be.
    """
    if seed < 0 or not minutes > 0.0:
        raise BadInput("bad_argument", f"seed must be 0 or more and minutes positive, not {seed} and {minutes}")
    count, length_s = sizes(minutes, 40, 6.0, 3.0)
    return write(_recordings(seed, count, length_s), count, out, progress)


def _life(seed: int, bit: int) -> list[_Bored]:
    """What the holes of one bit are, until it is changed."""
    rng = generator(seed, "tool life", bit)
    holes, missing = int(rng.integers(16, 41)), int(rng.integers(1, 4))
    begun = holes + 1 if rng.random() < _SUDDEN else int(rng.integers(4, holes // 2))
    wear = np.clip((np.arange(holes) - begun) / max(1, holes - 1 - begun), 0.0, 1.0)
    labels = np.where(wear < _FRESH, "normal", np.where(wear > _WORN, "worn", "transition")).tolist()
    labels[-1] = "drill_break"
    drilled = [_Bored(label, float(share)) for label, share in zip(labels, wear.tolist(), strict=True)]
    return [*drilled, *[_Bored("bit_missing", float(wear[-1]))] * missing]


def _recordings(seed: int, count: int, length_s: float) -> Iterator[Recording]:
    i = bit = 0
    while i < count:
        level_db = uniform(generator(seed, "tool life", bit, "level"), -1.0, 1.0)
        for hole in _life(seed, bit)[: count - i]:
            yield _recording(seed, i, bit, hole, level_db, length_s)
            i += 1
        bit += 1


def _recording(seed: int, i: int, bit: int, bored: _Bored, level_db: float, length_s: float) -> Recording:
    machine, length = bit % _MACHINES, round(length_s * RATE_HZ)
    press = DrillPress.draw(seed, machine, machine)
    rng = generator(seed, "tool life", "hole", i)
    hole = repeated(Hole.draw(generator(seed, "program", machine), length_s, press.bit), length_s, rng)
    fracture = Damage.draw(generator(seed, "tool life", bit, "break"), "fracture", hole)
    stump = replace(fracture, fault="broken", t_s=0.0, peak=0.0)
    damage = {"drill_break": fracture, "bit_missing": stump}.get(bored.label)
    tool = worn(press.bit, bored.wear)
    work = drill(tool, hole, damage, rate_hz=RATE_HZ, length=length, seed=derived(seed, "life", i)) / press.bit.level
    work *= 10.0 ** ((level_db + _SPREAD_DB * float(np.clip(rng.standard_normal(), -3.0, 3.0))) / 20.0)
    samples = record(
        Given(work, RATE_HZ), tool.rpm, press.pickup, rng, seed=seed, name=f"{press.name}/life/{i}", length=length
    )
    more: dict[str, str | int | float] = {
        "spindle_rpm": round(tool.rpm, 1), "teeth": 2, "touch_s": round(hole.touch_s, 4),
        "out_s": round(hole.out_s, 4), "wear": round(bored.wear, 3), "diameter_m": round(tool.diameter_m, 6),
        "start": f"{press.name}-start", "cut_from_s": round(hole.touch_s - uniform(rng, 0.02, 0.1), 4),
        "cut_until_s": round(hole.out_s + uniform(rng, 0.02, 0.1), 4),
    }  # fmt: skip
    if damage is not None:
        more |= {"drop_db": round(damage.drop_db, 2), "rubbing": int(damage.rub_db is not None)}
    if bored.label == "drill_break":
        more["onset_s"] = round(fracture.t_s, 5)
    return Recording(
        path=f"{press.name}/{i:04d}.wav", samples=samples, rate_hz=RATE_HZ, unit="FS", label=bored.label,
        group=f"bit-{bit:04d}", machine=press.name, sensor="microphone", modality="acoustic",
        split="train" if bit < _MACHINES else "test", more=more,
    )  # fmt: skip
