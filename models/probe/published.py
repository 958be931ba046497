"""The scores that the paper prints (arXiv 2507.06481, Tables 3 and 4), to stand beside ours, and their arithmetic."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from models.probe.tasks import MACHINES, TASKS

SOURCE = "Han et al., IMPACT, arXiv 2507.06481, Tables 3 and 4 (20 % training, 10 random splits, mean F1)"
_WIDTHS = 2.0
_PRINTED = 5e-5  # four decimals are printed
_FILE = Path(__file__).with_name("published.csv")


class Score(NamedTuple):
    """Mean and standard deviation over ten splits."""

    mean: float
    std: float


@lru_cache(maxsize=1)
def published() -> dict[str, dict[str, Score]]:
    """Machine (Table 3) or task (Table 4) → model → score."""
    found: dict[str, dict[str, Score]] = {}
    with _FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["row"], {})[row["model"]] = Score(float(row["mean"]), float(row["std"]))
    return found


def models() -> tuple[str, ...]:
    """The eight models of the tables."""
    return tuple(published()[MACHINES[0]])


def machine_means(model: str) -> dict[str, float]:
    """Table 3's means, recomputed as unweighted means of Table 4's classes."""
    table = published()
    means: dict[str, float] = {}
    for machine in MACHINES:
        scores = [table[task.name][model].mean for task in TASKS if task.machine == machine]
        means[machine] = sum(scores) / len(scores)
    return means


def agreement(machine: str, own: Mapping[str, float]) -> str | None:
    """How the best own encoder stands to what is printed of IMPACT; None where there is nothing to compare.

    Args:
        machine: of Table 3.
        own: model → mean F1 of its classes in the paper's protocol.
    """
    printed = published().get(machine, {}).get("IMPACT")
    if printed is None or not own:
        return None
    name, mean = max(own.items(), key=lambda item: item[1])
    reach = max(_WIDTHS * printed.std, _PRINTED)
    how = "within" if abs(mean - printed.mean) <= reach else "above" if mean > printed.mean else "below"
    return f"{name} {mean:.4f}: {how} two published standard deviations of {printed.mean:.4f} ± {printed.std:.4f}"


def largest_deviation() -> float:
    """Largest difference of Table 3 from the means of Table 4, over all machines and models."""
    table = published()
    return max(abs(table[machine][m].mean - mean) for m in models() for machine, mean in machine_means(m).items())
