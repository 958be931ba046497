"""Simulated drill sounds in the paper's layout: 96 kHz, four microphones, 67 + 67 clips of 2,000 or 4,000 samples."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from connectors.simulator.ambience import ambience
from connectors.simulator.drill_head import Break, Head, drill_head
from connectors.simulator.drilling import Damage, Hole
from connectors.simulator.manifest import Progress
from connectors.simulator.microphone_model import Microphone, Pickup, machine_sound
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Float64, Given
from models.drill.data import CLASSES, LENGTHS, RATE_HZ, TABLE

_LENGTH = 32_768  # one third of a second: the room is filled when the clip begins
_RUNS = 2
_MICROPHONES = 4
_JITTER = 400  # samples that the fracture may lie beside the middle of its clip


@dataclass(frozen=True, slots=True)
class _Run:
    """A head with its microphones on one day."""

    name: str
    head: Head
    pickups: tuple[Pickup, ...]

    @classmethod
    def draw(cls, seed: int, run: int, bits: int | None) -> _Run:
        rng = generator(seed, "drill sounds", "run", run)
        count = bits or (90, 120)[run % 2]
        coolant = uniform(rng, -6.0, 0.0)
        pickups = tuple(
            replace(Pickup.draw(rng, snr_db=(14.0, 24.0)), coolant_db=coolant, level_dbfs=uniform(rng, -26.0, -20.0))
            for _ in range(_MICROPHONES)
        )
        return cls(f"run-{run}", Head.draw(rng, count), pickups)


def write_sounds(
    seed: int, out: Path, *, per_class: int = 67, bits: int | None = None, progress: Progress | None = None
) -> Path:
    """Write ``normal/*.wav``, ``anomaly/*.wav`` and ``groups.csv``; 24-bit, since one clip uses little of the range.

    An event is one stroke of a head of 90 or 120 bits, heard by all four microphones and cut at the same place; each
    day has both classes. An anomalous clip has the fracture within 4 ms of its middle. Lengths do not depend on the
    class.

    Args:
        seed: of everything.
        out: folder.
        per_class: clips of each class.
        bits: of all heads; None for 90 and 120 in turn.
        progress: called with (done, total).

    Returns:
        The folder.
    """
    runs = [_Run.draw(seed, r, bits) for r in range(_RUNS)]
    rows = []
    for anomaly, name in enumerate(CLASSES):
        (out / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            event, k = divmod(i, _MICROPHONES)
            if k == 0:
                clips = _event(seed, runs[event % _RUNS], event, bool(anomaly))
            path = f"{name}/{event:03d}-{k}.wav"
            soundfile.write(out / path, clips[k], RATE_HZ, "PCM_24")
            rows.append([path, f"{name}-{event:03d}", runs[event % _RUNS].name, f"microphone-{k}"])
            if progress is not None:
                progress(len(rows), 2 * per_class)
    with (out / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["path", "event", "run", "microphone"], *rows])
    return out


def _event(seed: int, run: _Run, event: int, anomaly: bool) -> list[Float64]:
    """The four clips of one stroke, scaled to full scale 1."""
    name = f"{run.name}/{CLASSES[anomaly]}/{event}"
    rng = generator(seed, "drill sounds", name)
    hole = Hole(0.0, 0.02, 0.5, 0.6)
    at = uniform(rng, 0.2, 0.28)
    broken = None
    if anomaly:
        damage = replace(Damage.draw(rng, "fracture", hole), t_s=at)
        broken = Break(int(rng.integers(len(run.head.speeds))), damage)
    length = LENGTHS[int(rng.random() < 0.4)]
    first = round(at * RATE_HZ) + int(rng.integers(-_JITTER, _JITTER + 1)) - length // 2
    work = drill_head(run.head, hole, broken, rate_hz=RATE_HZ, length=_LENGTH, seed=derived(seed, name))
    rotation = Rotation(run.head.bit.rpm, 0.002, seed, run.name)
    clips = []
    for k, pickup in enumerate(run.pickups):
        place = f"{name}/{k}"
        dry = machine_sound(Given(work[:, k], RATE_HZ), rotation, pickup, seed, place)
        hall = 10.0 ** (-(pickup.snr_db + uniform(rng, 0.0, 6.0)) / 20.0)
        heard = Microphone(dry, pickup, seed=seed, name=place, others=((ambience(RATE_HZ, seed, place), hall, 0),))
        clip: Float64 = heard.read(first, first + length).astype(np.float64) / 32_768.0
        clips.append(clip)
    return clips
