"""How much faster than real time the simulators run on one core; prints one line of JSON per figure."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from connectors.simulator.bearing import SKF_6205, Motor, decibels, vibration
from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.drill_head import Break, Head, drill_head
from connectors.simulator.drilling import Bit, Damage, Hole, drill
from connectors.simulator.feed import Feed
from connectors.simulator.microphone_model import Microphone, Pickup, machine_sound
from connectors.simulator.milling import Cut, Depth, Milling
from connectors.simulator.noise import White
from connectors.simulator.rotation import Rotation
from connectors.simulator.shop import Shop
from connectors.simulator.stability import limit, multiplier


def report(name: str, seconds: float, run: Callable[[], object], repeats: int = 3) -> None:
    """Best of a few runs, in processor time, as multiples of real time."""
    run()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    print(json.dumps({"name": name, "times_real_time": round(seconds / best, 1), "cpu_s": round(best, 4)}))


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rng = np.random.default_rng(1)
    chatter = Cut(
        BENCHMARK, Engagement.down(0.5), 16_000, Depth.constant(3e-3), runout_m=(4e-6, -4e-6), force_noise=0.03
    )
    report("milling, 48 kHz", 20.0, lambda: Milling(chatter, 1).read(20 * 48_000))
    report("milling, integration alone", 20.0, lambda: [m := Milling(chatter, 1), *(m.steps() for _ in range(180))])
    pickup = replace(Pickup.draw(rng), coolant_db=0.0, carrier_hz=8000.0, lines=20)

    def microphone() -> object:
        machine = machine_sound(White(48_000, 1, "work"), Rotation(12_000, 0.002, 1, "m"), pickup, 1, "m")
        return Microphone(machine, pickup, seed=1, name="m").read(0, 20 * 48_000)

    report("microphone, 48 kHz", 20.0, microphone)
    bit = Bit.draw(rng)
    hole = Hole.draw(rng, 5.0, bit)
    damage = Damage.draw(rng, "fracture", hole)
    report("drill, 96 kHz", 5.0, lambda: drill(bit, hole, damage, rate_hz=96_000, length=480_000, seed=1))
    head = Head.draw(rng, 90)
    report(
        "head of 90 drills, 4 microphones, 96 kHz",
        2.0,
        lambda: drill_head(head, Hole(0.2, 0.4, 1.7, 1.8), Break(3, damage), rate_hz=96_000, length=192_000, seed=1),
        repeats=1,
    )
    motor = Motor.draw(rng, 1797.0, SKF_6205, 1, "m")
    report(
        "bearing, 3 axes, 25.6 kHz",
        10.0,
        lambda: vibration(motor, {"outer_race": decibels(0.0)}, t0_s=0.0, length=256_000, rate_hz=25_600, seed=1),
    )
    report("shop, 5 sensors", 30.0, lambda: list(Feed(Shop(1, 10.0), 0, None, 30.0)), repeats=1)
    for name, run in (
        ("Floquet multiplier, 60 steps", lambda: multiplier(BENCHMARK, Engagement.slot(), 12_000, 1e-3)),
        ("stability limit", lambda: limit(BENCHMARK, Engagement.slot(), 12_000)),
    ):
        start = time.process_time()
        run()
        print(json.dumps({"name": name, "cpu_s": round(time.process_time() - start, 4)}))


if __name__ == "__main__":
    main()
