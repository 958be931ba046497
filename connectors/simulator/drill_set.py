"""Sound of single holes: whole ones, and ones in which the drill breaks at a known time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.simulator.drilling import Bit, Damage, Hole, drill, worn
from connectors.simulator.manifest import SPLITS, Progress, Recording, sizes, write
from connectors.simulator.microphone_model import Pickup, record
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Given

RATE_HZ = 96_000
_MACHINES = 3
_LABELS = ("normal", "normal", "drill_break", "normal", "drill_break")
_HOLES_PER_BIT = 20
_JITTER = 0.01


@dataclass(frozen=True, slots=True)
class DrillPress:
    """What stays the same while one bit is in a machine."""

    name: str
    pickup: Pickup
    bit: Bit

    @classmethod
    def draw(cls, seed: int, machine: int, start: int) -> DrillPress:
        """Machine and microphone depend on `machine` alone; bit, gain and coolant on the start too."""
        pickup = Pickup.draw(generator(seed, "drill press", machine), snr_db=(6.0, 22.0))
        fresh = generator(seed, "drill press", machine, "start", start)
        return cls(f"drill-{machine + 1}", pickup.of_start(fresh), Bit.draw(fresh))


def simulate_drill(seed: int, minutes: float, out: Path, progress: Progress | None = None) -> Path:
    """Write ``minutes`` of drilling sound: WAV, 96 kHz, mono, one hole of 3-6 s each; labels normal, drill_break.

    Groups are holes; those of one start repeat one program, with some jitter, and begin at any time. ``onset_s`` is the
    fracture. Further columns: ``touch_s`` and ``out_s`` (start and end of the
    hole), ``wear`` (0-1), ``rubbing`` (0 or 1), ``drop_db``, ``diameter_m``, ``start`` (of the machine, with one bit
    type and gain).

    Args:
        seed: of everything.
        minutes: length of all recordings together.
        out: folder.
        progress: called with (done, total).

    Returns:
        Path of the manifest.
    """
    count, length_s = sizes(minutes, 40, 6.0, 3.0)
    return write(_recordings(seed, count, length_s), count, out, progress)


def repeated(program: Hole, length_s: float, rng: np.random.Generator) -> Hole:
    """A hole of a program: it begins anywhere within 6 % of the recording and lasts as long as usual, within 1 %."""
    touch = program.touch_s + length_s * uniform(rng, -0.03, 0.03)
    stretch = 1.0 + _JITTER * min(max(float(rng.standard_normal()), -3.0), 3.0)
    corners = (program.touch_s, program.full_s, program.through_s, program.out_s)
    return Hole(*(touch + stretch * (t - program.touch_s) for t in corners))


def _recordings(seed: int, count: int, length_s: float) -> Iterator[Recording]:
    length = round(length_s * RATE_HZ)
    seen: dict[str, int] = {}
    for i in range(count):
        start = i // _HOLES_PER_BIT
        press = DrillPress.draw(seed, start % _MACHINES, start)
        label = _LABELS[i % len(_LABELS)]
        rng = generator(seed, "hole", i)
        wear = uniform(rng, 0.0, 1.0)
        bit = worn(press.bit, wear)
        hole = repeated(Hole.draw(generator(seed, "program", start), length_s, press.bit), length_s, rng)
        damage = Damage.draw(rng, "fracture", hole) if label == "drill_break" else None
        work = drill(bit, hole, damage, rate_hz=RATE_HZ, length=length, seed=derived(seed, i)) / press.bit.level
        name = f"{press.name}/{i}"
        samples = record(Given(work, RATE_HZ), bit.rpm, press.pickup, rng, seed=seed, name=name, length=length)
        more: dict[str, str | int | float] = {
            "spindle_rpm": round(bit.rpm, 1),
            "teeth": 2,
            "touch_s": round(hole.touch_s, 4),
            "out_s": round(hole.out_s, 4),
            "wear": round(wear, 3),
            "diameter_m": round(bit.diameter_m, 6),
            "start": f"{press.name}-start-{start:03d}",
        }
        if damage is not None:
            more |= {"onset_s": round(damage.t_s, 5), "drop_db": round(damage.drop_db, 2)}
            more["rubbing"] = int(damage.rub_db is not None)
        nth = seen[label] = seen.get(label, -1) + 1
        yield Recording(
            path=f"{press.name}/{i:04d}.wav",
            samples=samples,
            rate_hz=RATE_HZ,
            unit="FS",
            label=label,
            group=f"hole-{i:04d}",
            machine=press.name,
            sensor="microphone",
            modality="acoustic",
            split=SPLITS[nth % len(SPLITS)],
            more=more,
        )
