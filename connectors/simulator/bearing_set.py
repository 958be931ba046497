"""Vibration of motors with healthy and damaged bearings and gears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import degrees
from pathlib import Path

import numpy as np

from connectors.simulator.bearing import SKF_6205, BearingFault, Geometry, Motor, decibels, vibration
from connectors.simulator.manifest import SPLITS, Progress, Recording, sizes, write
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Float64

RATE_HZ = 25_600
_GEOMETRIES = (SKF_6205, Geometry(8, 0.26), Geometry(11, 0.18, 0.26))
_LABELS: tuple[str, ...] = ("normal", "outer_race", "inner_race", "normal", "ball", "gear_tooth")
_FAULTS: dict[str, BearingFault] = {
    "outer_race": "outer_race",
    "inner_race": "inner_race",
    "ball": "ball",
    "gear_tooth": "gear_tooth",
}
_PER_SPECIMEN = 2
_STEP_M_S2 = 2e-4


def simulate_bearing(seed: int, minutes: float, out: Path, progress: Progress | None = None) -> Path:
    """Write ``minutes`` of vibration: NPZ, 25.6 kHz, three axes, m/s², 4-10 s each.

    Labels are normal, outer_race, inner_race, ball, gear_tooth. Groups are specimens (one bearing, two recordings at
    different speeds and loads). Further columns: ``fault_hz`` (mean rate of the impulses), ``snr_db`` (impulses over
    noise), ``balls``, ``ratio`` (d/D), ``contact_angle_deg``, ``gear_teeth``.

    Args:
        seed: of everything.
        minutes: length of all recordings together.
        out: folder.
        progress: called with (done, total).

    Returns:
        Path of the manifest.
    """
    count, length_s = sizes(minutes, 48, 10.0, 4.0)
    return write(_recordings(seed, count, length_s), count, out, progress)


def _recordings(seed: int, count: int, length_s: float) -> Iterator[Recording]:
    length = round(length_s * RATE_HZ)
    for i in range(count):
        specimen = i // _PER_SPECIMEN
        label = _LABELS[specimen % len(_LABELS)]
        machine = (specimen // len(_LABELS)) % len(_GEOMETRIES)
        rng = generator(seed, "bearing", i)
        motor = _motor(seed, machine, specimen, label=label, rng=rng, name=f"motor-{machine + 1}/{i}")
        faults: dict[BearingFault, Callable[[Float64], Float64]] = {}
        more: dict[str, str | int | float] = {
            "spindle_rpm": round(60.0 * motor.rotation.f_hz, 2),
            "balls": motor.geometry.balls,
            "ratio": motor.geometry.ratio,
            "contact_angle_deg": round(degrees(motor.geometry.angle_rad), 3),
            "gear_teeth": motor.teeth,
        }
        if label in _FAULTS:
            fault, snr_db = _FAULTS[label], uniform(rng, -8.0, 10.0)
            faults[fault] = decibels(snr_db)
            more["fault_hz"] = round(motor.per_revolution(fault) * motor.rotation.f_hz, 3)
            more["snr_db"] = round(snr_db, 2)
        at = uniform(rng, 0.0, 1000.0)
        x = vibration(motor, faults, t0_s=at, length=length, rate_hz=RATE_HZ, seed=derived(seed, i))[:length]
        group = f"motor-{machine + 1}-bearing-{specimen:03d}"
        yield Recording(
            path=f"{group}/{i:04d}.npz",
            samples=(np.rint(x / _STEP_M_S2) * _STEP_M_S2).astype(np.float32),
            rate_hz=RATE_HZ,
            unit="m/s2",
            label=label,
            group=group,
            machine=f"motor-{machine + 1}",
            sensor="accelerometer",
            modality="vibration",
            split=SPLITS[(specimen // len(_LABELS) // len(_GEOMETRIES) + specimen) % len(SPLITS)],
            more=more,
        )


def _motor(seed: int, machine: int, specimen: int, *, label: str, rng: np.random.Generator, name: str) -> Motor:
    """Structure of the machine, state of the specimen, speed and load of the recording."""
    fixed = generator(seed, "motor", machine)
    rpm = uniform(fixed, 900.0, 3000.0)
    motor = Motor.draw(fixed, rpm, _GEOMETRIES[machine], seed, name)
    fresh = generator(seed, "motor", machine, "specimen", specimen)
    speed, load = rpm * uniform(rng, 0.8, 1.2), uniform(rng, 0.6, 1.5)
    return replace(
        motor,
        rotation=Rotation(speed, uniform(rng, 0.0005, 0.003), seed, name),
        f_res_hz=motor.f_res_hz * uniform(fresh, 0.9, 1.1),
        teeth=max(motor.teeth, 23) if label == "gear_tooth" else motor.teeth,
        axes=motor.axes * fresh.uniform(0.7, 1.4, 3),
        lines=motor.lines * fresh.uniform(0.5, 2.0, len(motor.lines)) * load,
        mesh=motor.mesh * load,
        noise=motor.noise * uniform(rng, 0.7, 1.4),
    )
