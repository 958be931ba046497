"""Makes the demonstration's simulated sounds anew: ``python -m pipeline.demo.make`` (needs the extra ``simulate``).

They travel with the program because the simulator needs a compiler that the demonstration does not install. What is
true in them stands in `credits.toml`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from connectors.simulator.ambience import ambience
from connectors.simulator.chatter_set import Done, Mill, listen
from connectors.simulator.drill_set import DrillPress
from connectors.simulator.drilling import Damage, Hole, drill, worn
from connectors.simulator.machining import Job, move
from connectors.simulator.microphone_model import Microphone, machine_sound
from connectors.simulator.milling import Depth
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import generator
from connectors.simulator.tracks import Given

SEED = 20
MILL_HZ, DRILL_HZ = 16_000, 32_000
_HOLE_S, _HOLES, _REST_S = 3.0, 5, 3.0


def mill(seed: int = SEED) -> tuple[NDArray[np.int16], float, int, float]:
    """Sixteen seconds of milling: air, a stable cut from 2 s, chatter from about 9 s to 13.5 s, air.

    Returns:
        Samples at 16 kHz, spindle speed in rpm, teeth, and when the depth passes the stability limit in s.
    """
    rate, length = 48_000, 16 * 48_000
    rng = generator(seed, "demonstration", "mill")
    drawn = Mill.draw(seed, 0, 0)
    machine = replace(drawn, tool=replace(drawn.tool, teeth=3), pickup=replace(drawn.pickup, snr_db=16.0, agc=False))
    while True:
        job = Job.draw(rng, machine.tool, (8000.0, 14_000.0))
        stable, deep = 0.5 * job.limit.depth_m, 1.4 * job.limit.depth_m
        job = job.with_depth(
            Depth((2.0, 2.2, 9.0, 9.5, 13.5, 13.6), (0.0, stable, stable, deep, deep, 0.0)),
        )
        motion = move(job, length=length, rate_hz=rate, seed=seed)
        if motion.seen_s is not None and 9.0 < motion.seen_s < 10.0 and motion.lasting > 0.8:
            break
    assert job.onset_s is not None
    heard = listen(machine, Done(job, motion), length, seed, 0)
    return _lower(heard, rate, MILL_HZ), job.cut.rpm, job.cut.tool.teeth, job.onset_s


def drilling(seed: int = SEED) -> tuple[NDArray[np.int16], float]:
    """Five whole holes of one program, one in which the drill breaks, and three seconds of the idle machine.

    Returns:
        Samples at 32 kHz, and when the drill breaks in s.
    """
    rate = 96_000
    drawn = DrillPress.draw(seed, 0, 0)
    press = replace(drawn, pickup=replace(drawn.pickup, snr_db=16.0))
    hole = Hole.draw(generator(seed, "demonstration", "program"), _HOLE_S, press.bit)
    length, rest = round(_HOLE_S * rate), round(_REST_S * rate)
    work, broke_s = [], 0.0
    for i in range(_HOLES + 1):
        rng = generator(seed, "demonstration", "hole", i)
        damage = Damage.draw(rng, "fracture", hole) if i == _HOLES else None
        bit = worn(press.bit, 0.05 * i)
        work.append(drill(bit, hole, damage, rate_hz=rate, length=length, seed=seed + i) / press.bit.level)
        if damage is not None:
            broke_s = i * _HOLE_S + damage.t_s
    whole = Given(np.concatenate([*work, np.zeros(rest)]), rate)
    dry = machine_sound(whole, Rotation(press.bit.rpm, 0.002, seed, "drill"), press.pickup, seed, "drill")
    hall = ((ambience(rate, seed, "drill"), 10.0 ** (-16.0 / 20.0), 0),)
    microphone = Microphone(dry, press.pickup, seed=seed, name="drill", others=hall)
    return _lower(microphone.read(0, (_HOLES + 1) * length + rest), rate, DRILL_HZ), broke_s


def _lower(x: NDArray[np.int16], from_hz: int, to_hz: int) -> NDArray[np.int16]:
    y = resample_poly(x.astype(np.float64), to_hz, from_hz)
    clipped: NDArray[np.int16] = np.clip(np.rint(y), -32768, 32767).astype(np.int16)
    return clipped


def main() -> None:
    """Write both files beside the real recordings and print what is true in them."""
    folder = Path(__file__).parent / "recordings"
    heard, rpm, teeth, onset_s = mill()
    soundfile.write(folder / "simulated-mill.flac", heard, MILL_HZ, subtype="PCM_16")
    print(f"simulated-mill.flac: {rpm:g} rpm, {teeth} teeth, stability limit passed at {onset_s:.3f} s")  # noqa: T201
    heard, broke_s = drilling()
    soundfile.write(folder / "simulated-drill.flac", heard, DRILL_HZ, subtype="PCM_16")
    print(f"simulated-drill.flac: drill breaks at {broke_s:.3f} s")  # noqa: T201


if __name__ == "__main__":
    main()
