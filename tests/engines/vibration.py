"""A machine whose heads read a microphone, an accelerometer and a slow one, for every engine to answer alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from config.schema import Model
from models.anomaly.chain import windows
from models.anomaly.vectors import extraction
from models.heads.export import Reads, write_head
from models.heads.prototypes import fit_prototypes
from models.heads.vibration import vector
from models.packages import VIBRATION, Package
from pipeline.machine_models import MachineModels, configured
from pipeline.messages import NS, Anchor, Decision, Input, Segment, Stream
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from tests.engines.scenarios import T0, Scenario, chunks, end, machine, normal_noise, stream
from tests.engines.scratch import scratch

ACC = stream("acc", "vibration", 2000, 2)
FAN = stream("fan", "vibration", 100, 3)
MIC = stream("mic", "acoustic", 16_000)
LABELS = ("loud", "quiet")


def vectors(s: Stream, x: np.ndarray) -> np.ndarray:
    """What heads read of samples in the stream's counts, (windows, k), as recordings are read."""
    segment = Segment(s, Anchor(0, T0), 0, x.astype(np.float32) * np.float32(s.scale))
    found = [vector(extraction(s), window) for window in windows(s, extraction(s), [segment])]
    return np.stack([v for v in found if v is not None])


def taught(folder: Path, s: Stream, seed: int = 0, unit: str = "m/s2") -> Package:
    """A head that tells quiet noise from loud noise, by prototypes of six seconds each."""
    parts = [vectors(s, normal_noise(s, 6.0, 40 + 2 * seed + k, (0.0, 6.0 * k))) for k in (0, 1)]
    x = np.concatenate(parts)
    y = np.repeat([1, 0], [len(part) for part in parts]).astype(np.intp)
    reads = Reads(VIBRATION, VIBRATION, features=extraction(s).hash, rate_hz=s.rate.hz, unit=unit)
    return write_head(folder, fit_prototypes(x, y, LABELS), reads, x, {"seed": seed}, {})


@cache
def folder() -> Path:
    """Heads on each sensor, and a second one on the accelerometer; the folder lasts as long as we."""
    from tests.pipeline import packages

    made = scratch("vibration")
    taught(made / "acc-1", ACC)
    taught(made / "acc-2", ACC, seed=1)
    taught(made / "fan-1", FAN)
    packages.told_apart(made / "mic-1", None)
    return made


def models() -> MachineModels:
    """States of all three sensors, and a score of the accelerometer."""
    said = {
        "every": 1,
        "head": [
            {"package": str(folder() / "mic-1"), "name": "heard", "k": 2, "n": 3},
            {"package": str(folder() / "acc-1"), "name": "felt", "k": 2, "n": 3},
            {"package": str(folder() / "acc-1"), "name": "shaking", "gives": "score", "abnormal": ["loud"]},
            {"package": str(folder() / "fan-1"), "name": "turning", "k": 2, "n": 3},
        ],
    }
    return configured("m", Model.model_validate(said), Shelf())


def heads_on_vibration() -> Scenario:
    """Three sensors with heads of their own; a shadow of one head, its promotion, the way back; a gap, a restart."""
    known = models()
    settings = LaneSettings(machine(ACC, FAN, MIC, model=known.config.model_dump(by_alias=True)), models=known)
    log: dict[str, list[Input]] = {s.sensor: chunks(s, normal_noise(s, 24.0, 7, (5.0, 12.0))) for s in (FAN, MIC)}
    first = chunks(ACC, normal_noise(ACC, 14.0, 7, (5.0, 10.0)))
    del first[30:34]
    again = replace(ACC, epoch=1)
    later = chunks(again, normal_noise(again, 9.0, 8, (3.0, 9.0)), anchor=Anchor(0, T0 + 15 * NS))
    log["acc"] = [*first, *later, end(again, later[-1].n1)]
    lane, decisions = settings.for_lane().models, list[Input]()
    assert lane is not None
    newer = [{"path": str(folder() / "acc-2"), "head": name} for name in ("felt", "shaking")]
    wishes = [("shadow", newer, 4.1), ("promote", [], 11.3), ("rollback", [], 18.7)]
    for number, (action, packages, at_s) in enumerate(wishes):
        body = lane.verify({"action": action, "packages": packages})
        decision = Decision("m", f"m|model|{number}", T0 + round(at_s * NS), "model", body)
        lane.decide(decision)
        decisions.append(decision)
    return Scenario(settings, {"": decisions, **log})
