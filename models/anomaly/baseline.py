"""What commissioning learned about one sensor of one machine: immutable, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from models.anomaly.fusion import Fusion
from pipeline.errors import BadInput, StateError
from pipeline.messages import Float32, Modality, Rate, Stream, whole

SCHEMA = 2
"""The newest that is read. Baselines without an embedding are written as 1, as they always were."""
_WITHOUT_EMBEDDING = 1
NO_STATE = "(no state)"
"""What recordings without an operating state are called, beside others that have one."""


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """What to expect of a detector on normal running, measured on starts that it had not seen.

    `count` alarms after persistence in `hours`; `per_day` is their rate and `upper` its one-sided 95 % Poisson limit.
    """

    count: int
    hours: float
    per_day: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One detector in one operating state.

    Attributes:
        fusion: how far from normal.
        threshold: of the score of a window.
        recording_threshold: of the mean score of a recording.
        minute_mean: of left-out scores over one-minute means, for drift.
        minute_std: of the same; 1 where there were fewer than ten minutes.
        windows: normal vectors learned from.
        starts: occasions that they come from.
        false_alarms: on starts that were left out.
    """

    fusion: Fusion
    threshold: float
    recording_threshold: float
    minute_mean: float
    minute_std: float
    windows: int
    starts: int
    false_alarms: FalseAlarms

    def __post_init__(self) -> None:
        """Refuse what judges nothing.

        Raises:
            StateError: a threshold, a calibration or a number of the arrays is not finite.
        """
        numbers = (self.threshold, self.recording_threshold, self.minute_mean, self.minute_std)
        calibrated = [number for member in self.fusion.members for number in (member.mean, member.std)]
        arrays = (array for _, array in _parts(self))
        if not (np.isfinite([*numbers, *calibrated]).all() and all(np.isfinite(array).all() for array in arrays)):
            raise StateError("a threshold or scale is no finite number, so that nothing would be judged")

    @property
    def minute_known(self) -> bool:
        """Whether enough minutes were learned from to tell a drift."""
        return self.minute_std != 1.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """Normal of one sensor: a cell per operating state and detector.

    Attributes:
        machine: whose.
        sensor: of which sensor.
        modality: of the sensor.
        rate: of the sensor's own stream.
        channels: of the sensor's own stream.
        unit: of the samples.
        front_end: hash of what turns samples into vectors; scores of another front-end mean nothing.
        states: operating state (empty for a machine with one) → number of its cells; states with few starts share.
        cells: by number, detector → cell.
        starts: groups that were learned from; validation leaves them out.
        hours: of normal running.
        provisional: learned from one start only: the next start may look abnormal.
        notes: sentences for the person who commissioned.
        versions: of the libraries that learned it.
        encoder: digest of the package whose embedding the cells judge beside the log-Mel; empty without one.
        pooling: of that embedding.
    """

    machine: str
    sensor: str
    modality: Modality
    rate: Rate
    channels: int
    unit: str
    front_end: str
    states: Mapping[str, int]
    cells: tuple[Mapping[str, Cell], ...]
    starts: tuple[str, ...]
    hours: float
    provisional: bool
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    encoder: str = ""
    pooling: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hash over everything in it."""
        digest = hashlib.sha256(json.dumps(self.document(), sort_keys=True, separators=(",", ":")).encode())
        for name, array in sorted(self.arrays().items()):
            data = np.ascontiguousarray(array, "<f4")
            digest.update(f"{name}{data.shape}".encode())
            digest.update(data.tobytes())
        return digest.hexdigest()

    @property
    def settings(self) -> str:
        """Short name of the content, as results carry it."""
        return self.sha256[:16]

    def cell(self, state: str | None, detector: str) -> Cell | None:
        """The cell to judge by; None where this state was never commissioned.

        A baseline of a machine without states judges every state by its one cell.
        """
        name = "" if set(self.states) == {""} else state or ""
        number = self.states.get(name, self.states.get(whole(name)))
        return None if number is None else self.cells[number].get(detector)

    def check(self, stream: Stream) -> None:
        """Refuse a sensor that this baseline was not made for.

        Raises:
            BadInput: another modality, rate, unit or number of channels.
        """
        facts = (
            ("modality", self.modality, stream.modality),
            ("rate", f"{self.rate.hz:g} Hz", f"{stream.rate.hz:g} Hz"),
            ("unit", self.unit, stream.unit),
            ("channels", self.channels, stream.channels),
        )
        for name, mine, theirs in facts:
            if mine != theirs:
                raise BadInput(
                    "baseline",
                    f"the baseline {self.settings} of {self.machine}/{self.sensor} was commissioned at {name} {mine}, "
                    f"but {stream.machine}/{stream.sensor} has {theirs}; commission this sensor anew",
                )

    def check_states(self, told: bool) -> None:
        """Refuse a machine whose operating state nobody tells, where every window is judged by its state.

        Raises:
            BadInput: it would judge nothing.
        """
        if not told and "" not in self.states:
            raise BadInput(
                "baseline",
                f"the baseline {self.settings} of {self.machine}/{self.sensor} knows the operating states "
                f"{', '.join(sorted(self.states))}, and nobody tells this machine's, so that nothing would be judged: "
                "set state_context, or commission without the column state",
            )

    def check_encoder(self, encoder: str, pooling: str) -> None:
        """Refuse embeddings that this baseline was not learned from; one without an embedding takes any, and none.

        Raises:
            BadInput: another encoder package or pooling, or none where one is needed.
        """
        if self.encoder and (encoder, pooling) != (self.encoder, self.pooling):
            has = f"runs {encoder[:16]} {pooling}".rstrip() if encoder else "runs no encoder"
            raise BadInput(
                "encoder",
                f"baseline {self.settings} of {self.machine}/{self.sensor} judges the '{self.pooling}' embedding of "
                f"package {self.encoder[:16]}, but the machine {has}; install that package, or commission again",
            )

    def arrays(self) -> dict[str, Float32]:
        """All arrays under the names ``cell number/detector/part``."""
        return {
            f"{number}/{detector}/{part}": array
            for number, cells in enumerate(self.cells)
            for detector, cell in cells.items()
            for part, array in _parts(cell)
        }

    def document(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON values."""
        embedding = {"encoder": self.encoder, "pooling": self.pooling} if self.encoder else {}
        return {
            **embedding,
            "schema": SCHEMA if self.encoder else _WITHOUT_EMBEDDING,
            "machine": self.machine,
            "sensor": self.sensor,
            "modality": self.modality,
            "rate": [self.rate.num, self.rate.den],
            "channels": self.channels,
            "unit": self.unit,
            "front_end": self.front_end,
            "starts": list(self.starts),
            "hours": self.hours,
            "provisional": self.provisional,
            "notes": list(self.notes),
            "versions": dict(self.versions),
            "states": dict(self.states),
            "cells": [{name: _cell_document(cell) for name, cell in cells.items()} for cells in self.cells],
        }

    def sentences(self) -> list[str]:
        """What a person should know about it."""
        starts = counted(len(self.starts), "start")
        where = f"{self.machine}/{self.sensor}"
        lines = [f"{where}: learned from {self.hours:.2f} h of normal running in {starts}, baseline {self.settings}."]
        if self.provisional:
            lines.append("Provisional: one start only, so the next start may look abnormal; add another, better five.")
        for number, cells in enumerate(self.cells):
            states = [state or NO_STATE for state, cell in self.states.items() if cell == number]
            where = f" in {', '.join(states)}" if set(self.states) != {""} else ""
            lines += [f"{name}{where}: {_learned(cell)}" for name, cell in cells.items()]
        return [*lines, *self.notes]


def counted(count: int, noun: str) -> str:
    """``1 start``, ``2 starts``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _learned(cell: Cell) -> str:
    told = f"{cell.windows} windows of {counted(cell.starts, 'start')}, threshold {cell.threshold:.2f}; "
    if cell.starts == 1:
        return told + "how often it alarms without cause cannot be told from one start."
    found = cell.false_alarms
    return told + (
        f"{counted(found.count, 'alarm')} in {found.hours:.2f} h of left-out normal running, "
        f"at most {_plain(found.upper)} false alarms a day with 95 % confidence."
    )


def _plain(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10.0 else f"{rate:.2g}"


def _parts(cell: Cell) -> Iterator[tuple[str, Float32]]:
    yield "median", cell.fusion.scale.median
    yield "spread", cell.fusion.scale.spread
    yield "bank", cell.fusion.bank.vectors
    for member in cell.fusion.members:
        for name, array in member.back_end.arrays.items():
            yield f"{member.back_end.name}/{name}", array


def _cell_document(cell: Cell) -> dict[str, Any]:
    return {
        "threshold": cell.threshold,
        "recording_threshold": cell.recording_threshold,
        "minute_mean": cell.minute_mean,
        "minute_std": cell.minute_std,
        "windows": cell.windows,
        "starts": cell.starts,
        "false_alarms": {
            "count": cell.false_alarms.count,
            "hours": cell.false_alarms.hours,
            "per_day": cell.false_alarms.per_day,
            "upper": cell.false_alarms.upper,
        },
        "back_ends": [
            {"name": member.back_end.name, "mean": member.mean, "std": member.std} for member in cell.fusion.members
        ],
    }
