"""From confusions to what is written: JSON, CSV tables, and the lines that are printed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.metrics import Interval
from models.probe.clips import Clips
from models.probe.metrics import Units, difference, f1, interval, machine_f1
from models.probe.run import BASELINE, Tables
from models.probe.splits import Plan


@dataclass(frozen=True, slots=True)
class Figure:
    """Mean and standard deviation over the repeats, and the interval under resampling of units."""

    mean: float
    std: float
    low: float
    high: float

    def document(self) -> dict[str, float]:
        """As JSON."""
        return {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One model under one protocol.

    Attributes:
        machine: unweighted mean of the F1 of all classes.
        classes: by label, those that occur in a test part.
        against: machine score less the baseline's, same splits, same draws; None for the baseline.
    """

    machine: Figure
    classes: Mapping[str, Figure]
    against: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """All models under one protocol of one problem."""

    name: str
    plan: Plan
    units: Units
    judged: Mapping[str, Judged]

    @property
    def best(self) -> str:
        """The model with the highest machine score."""
        return max(self.judged, key=lambda name: self.judged[name].machine.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A machine whose classes are told apart.

    Attributes:
        name: of the machine.
        clips: what was judged.
        protocols: in the order in which they ran.
        notes: sentences about what was left out or refused.
    """

    name: str
    clips: Clips
    protocols: tuple[Protocol, ...]
    notes: tuple[str, ...] = ()


def summarise(name: str, clips: Clips, plan: Plan, units: Units, tables: Mapping[str, Tables]) -> Protocol:
    """Figures of all models of one protocol.

    Args:
        name: of the protocol.
        clips: of the problem.
        plan: its splits.
        units: of resampling.
        tables: model → confusions (repeats, units, classes, classes).
    """
    judged = {}
    for model, confusions in tables.items():
        whole = confusions.sum(axis=1)
        tested = whole.sum(axis=(0, 2)) > 0
        (bounds,) = interval(confusions)
        by_class = interval(confusions, classes=True)
        each = f1(whole)
        judged[model] = Judged(
            machine=Figure(bounds.value, float(machine_f1(whole).std()), bounds.low, bounds.high),
            classes={
                label: Figure(b.value, float(np.nanstd(each[:, c])), b.low, b.high)
                for c, (label, b) in enumerate(zip(clips.labels, by_class, strict=True))
                if tested[c]
            },
            against=None if model == BASELINE else difference(confusions, tables[BASELINE]),
        )
    return Protocol(name, plan, units, judged)


def document(problems: list[Problem], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """`summary.json`."""
    return {"schema": 1, "provenance": dict(provenance), "problems": {p.name: _problem(p) for p in problems}}


def machine_rows(problems: list[Problem]) -> Iterator[dict[str, Any]]:
    """A row per machine, protocol and model; also the lines of ``--json``."""
    for problem in problems:
        for protocol in problem.protocols:
            for model, judged in protocol.judged.items():
                row: dict[str, Any] = {"problem": problem.name, "protocol": protocol.name, "model": model}
                row |= {k: round(v, 4) for k, v in judged.machine.document().items()}
                if judged.against is not None:
                    row |= {
                        "minus_baseline": round(judged.against.value, 4),
                        "minus_baseline_low": round(judged.against.low, 4),
                        "minus_baseline_high": round(judged.against.high, 4),
                    }
                yield row


def class_rows(problems: list[Problem]) -> Iterator[dict[str, Any]]:
    """A row per class, protocol and model."""
    for problem in problems:
        for protocol in problem.protocols:
            for model, judged in protocol.judged.items():
                for label, figure in judged.classes.items():
                    row: dict[str, Any] = {"problem": problem.name, "class": label, "protocol": protocol.name}
                    yield row | {"model": model} | {k: round(v, 4) for k, v in figure.document().items()}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A CSV file; columns as they first occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _problem(problem: Problem) -> dict[str, Any]:
    clips = problem.clips
    return {
        "clips": len(clips),
        "groups": len(np.unique(clips.group)),
        "classes": {label: int((clips.label == label).sum()) for label in clips.labels},
        "notes": list(problem.notes),
        "protocols": {p.name: _protocol(p) for p in problem.protocols},
    }


def _protocol(protocol: Protocol) -> dict[str, Any]:
    parts = [(len(s.train), len(s.test)) for s in protocol.plan.splits]
    return {
        "split": protocol.plan.mode,
        "meaning": protocol.plan.sentence,
        "repeats": len(parts),
        "train_clips": [n for n, _ in parts],
        "test_clips": [n for _, n in parts],
        "resampled": protocol.units.name,
        "best": protocol.best,
        "models": {
            name: {
                "f1": j.machine.document(),
                "classes": {label: f.document() for label, f in j.classes.items()},
                "minus_baseline": None if j.against is None else vars_of(j.against),
            }
            for name, j in protocol.judged.items()
        },
    }


def vars_of(value: Interval) -> dict[str, float]:
    """As JSON."""
    return {"value": value.value, "low": value.low, "high": value.high}
