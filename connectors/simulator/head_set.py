"""Recordings of a drilling head of many bits by several microphones: whole strokes, fractures, missing bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from connectors.simulator.drill_head import Break
from connectors.simulator.drilling import Damage, Hole
from connectors.simulator.head_stroke import Place
from connectors.simulator.manifest import SPLITS, Progress, Recording, sizes, write
from connectors.simulator.seeds import derived, generator, uniform
from pipeline.errors import BadInput

RATE_HZ = 96_000
BITS, MICROPHONES = (10, 120), (1, 8)
_MACHINES = 2
_LABELS = ("normal",) * 6 + ("drill_break", "bit_missing", "bit_missing", "bit_missing")
"""Strokes in order: six good ones, one in which a bit breaks, three without it; then it is changed."""
_LEVEL = 0.05
_FULL_SCALE = 32_768.0
_JITTER = 0.01
_LEAD_S = 1.0
"""Before what fills the rest: a detector of heads compares with the 0.85 s before."""


def simulate_head(
    seed: int, minutes: float, out: Path, bits: int = 90, microphones: int = 4, progress: Progress | None = None
) -> Path:
    """Write ``minutes`` of strokes: WAV, 96 kHz, a channel per microphone, one stroke of 2-5 s each after a second.

    Labels are normal, drill_break (``onset_s`` is the fracture) and bit_missing (broken before); groups are strokes, in
    the order in which they happened. Further columns: ``spindle`` (of the bit, from 1), ``bits``, ``touch_s``,
    ``out_s``, ``snr_db`` (of the cut over the background), ``peak`` (height of the burst over that bit's cutting),
    ``drop_db``. Each machine's ``.toml`` says where its bits and microphones are.

    Args:
        seed: 0 or more.
        minutes: length of all recordings together, more than 0.
        out: folder.
        bits: of the head, a multiple of ten.
        microphones: 1 to 8.
        progress: called with (done, total).

    Returns:
        Path of the manifest.

    Raises:
        BadInput: a head or time that cannot be.
    """
    if seed < 0 or not minutes > 0.0:
        raise BadInput("bad_argument", f"seed must be 0 or more and minutes positive, not {seed} and {minutes}")
    if bits % 10 or not BITS[0] <= bits <= BITS[1] or not MICROPHONES[0] <= microphones <= MICROPHONES[1]:
        raise BadInput(
            "bad_argument", f"a head has 10, 20, … 120 bits and 1 to 8 microphones, not {bits} and {microphones}"
        )
    count, length_s = sizes(minutes, 40, 6.0, 3.0)
    places = [Place.draw(seed, machine, bits, microphones) for machine in range(_MACHINES)]
    out.mkdir(parents=True, exist_ok=True)
    for machine, place in enumerate(places):
        (out / f"{_name(machine)}.toml").write_text(_told(place, bits), encoding="utf-8")
    return write(_recordings(seed, count, length_s, places), count, out, progress)


def _name(machine: int) -> str:
    return f"drill-head-{machine + 1}"


def _told(place: Place, bits: int) -> str:
    """What goes into the machine's configuration."""
    spots = ", ".join(f"[{x:.4f}, {y:.4f}]" for x, y in place.head.microphones_m.tolist())
    return (
        f"[machine.drill.head]\nrows = {bits // 10}\ncolumns = 10\npitch_m = 0.05\n"
        f"sound_speed_m_s = {place.sound_speed_m_s:.1f}\nmicrophones_m = [{spots}]\n"
    )


def _recordings(seed: int, count: int, length_s: float, places: list[Place]) -> Iterator[Recording]:
    length, seen = round(length_s * RATE_HZ), dict.fromkeys(_LABELS, -1)
    for i in range(count):
        at, turn = divmod(i, len(_LABELS))
        machine, label = at % len(places), _LABELS[turn]
        place, rng = places[machine], generator(seed, "head stroke", i)
        program = Hole.draw(generator(seed, "head program", machine), length_s - _LEAD_S, place.head.bit)
        stretch = 1.0 + _JITTER * float(np.clip(rng.standard_normal(), -3.0, 3.0))
        corners = (program.touch_s, program.full_s, program.through_s, program.out_s)
        hole = Hole(*(_LEAD_S + program.touch_s + stretch * (t - program.touch_s) for t in corners))
        broken = _broken(seed, at, label, hole, len(place.levels))
        snr_db = uniform(generator(seed, "head snr", machine), 6.0, 22.0)
        one = derived(seed, "head stroke", i)
        x = place.stroke(hole, broken, rate_hz=RATE_HZ, length=length, seed=one)
        x += 10.0 ** (-snr_db / 20.0) * place.background(rate_hz=RATE_HZ, length=length, seed=one)
        seen[label] += 1
        more: dict[str, str | int | float] = {
            "spindle_rpm": round(place.head.bit.rpm, 1), "teeth": 2, "bits": len(place.levels),
            "touch_s": round(hole.touch_s, 4), "out_s": round(hole.out_s, 4), "snr_db": round(snr_db, 1),
        }  # fmt: skip
        for bit in broken:
            more |= {"spindle": bit.spindle + 1, "drop_db": round(bit.damage.drop_db, 2)}
            if label == "drill_break":
                more |= {"onset_s": round(bit.damage.t_s, 5), "peak": round(bit.damage.peak, 2)}
        samples = np.clip(np.rint(_LEVEL * _FULL_SCALE * x), -_FULL_SCALE, _FULL_SCALE - 1.0).astype(np.int16)
        yield Recording(
            path=f"{_name(machine)}/{i:04d}.wav", samples=samples, rate_hz=RATE_HZ, unit="FS", label=label,
            group=f"stroke-{i:04d}", machine=_name(machine), sensor="array", modality="acoustic",
            split=SPLITS[seen[label] % len(SPLITS)], more=more,
        )  # fmt: skip


def _broken(seed: int, at: int, label: str, hole: Hole, bits: int) -> list[Break]:
    """The bit that breaks in this turn of strokes, or has broken."""
    if label == "normal":
        return []
    rng = generator(seed, "head break", at)
    spindle = int(rng.integers(bits))
    damage = Damage.draw(rng, "fracture" if label == "drill_break" else "broken", hole)
    return [Break(spindle, damage)]
