"""The figures of docs/results.md: random halves of the normal groups commission, everything else is scored.

python scripts/results.py MANIFEST.csv [--normal good] [--machine M01] [--unit group] [--seeds 5]

A split draws half of the normal groups of each operating state; abnormal recordings of a drawn group are left out, so
that no group stands on both sides. Printed are means over the splits: of the value, and of the limits of its 95 %
interval (groups resampled within a split), with the standard deviation between splits. The trivial baselines see the
same rows.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.commissioning import commission_manifest
from pipeline.manifest import Row, read_manifest
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.validate import validate

SHOWN = ("auc", "pauc_0.1", "recall", "precision", "false_alarms_per_day")


def split(rows: Sequence[Row], normal: frozenset[str], seed: int, unit: str, share: float = 0.5) -> list[Row]:
    """The rows of one split, marked train or test."""
    rng = random.Random(seed)
    if unit == "machine":  # learn one machine's normal, judge the others by it
        machines = sorted({r.machine for r in rows})
        taught = machines[seed % len(machines)]
        learns = [replace(r, machine="any", split="train") for r in rows if r.machine == taught and r.label in normal]
        return learns + [replace(r, machine="any", split="test") for r in rows if r.machine != taught]
    if unit == "recording":  # the occasion is known: groups stand on both sides
        rows = [replace(r, group=r.name) for r in rows]
    drawn: set[str] = set()
    for state in sorted({r.state for r in rows}):
        groups = sorted({r.group for r in rows if r.label in normal and r.state == state})
        if groups:
            drawn |= set(rng.sample(groups, max(1, round(len(groups) * share))))
    return [
        replace(r, split="train" if r.label in normal and r.group in drawn else "test")
        for r in rows
        if r.label in normal or r.group not in drawn
    ]


def main() -> None:
    """Run all splits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--normal", default="good,normal,healthy,stable")
    parser.add_argument("--machine")
    parser.add_argument("--unit", choices=["group", "recording", "machine"], default="group", help="what is drawn")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keep the validation folders here")
    args = parser.parse_args()
    normal = frozenset(args.normal.split(","))
    rows = [r for r in read_manifest(args.manifest) if args.machine in {None, r.machine}]
    found: dict[str, list[tuple[float, float, float]]] = {}
    scored = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.seeds):
            mine = split(rows, normal, seed, args.unit)
            baselines = {(b.machine, b.sensor): b for b in commission_manifest(mine, normal)}
            result = validate(mine, BaselineScorer(baselines), (args.out or Path(scratch)) / str(seed), normal)
            scored.append(len(result.judged))
            for name in SHOWN:
                if name in result.metrics:
                    m = result.metrics[name]
                    found.setdefault(name, []).append((m.value, m.low, m.high))
            for other, metrics in result.comparison.items():
                m = metrics["auc"]
                found.setdefault(f"auc of {other}", []).append((m.value, m.low, m.high))
    counts = f"{min(scored)} to {max(scored)} recordings scored"
    print(f"{args.manifest.name} {args.machine or ''} by {args.unit}: {args.seeds} splits, {counts}")
    print("| figure | mean | 95 % interval (mean limits) | sd between splits |\n|---|---|---|---|")
    for name, values in found.items():
        value, low, high = np.mean(values, axis=0)
        print(f"| {name} | {value:.3f} | {low:.2f} – {high:.2f} | {np.std([v for v, _, _ in values]):.3f} |")


if __name__ == "__main__":
    main()
