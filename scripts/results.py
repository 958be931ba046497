"""The figures of docs/results.md: random halves of the normal groups commission, everything else is scored.

python scripts/results.py MANIFEST.csv [--normal good] [--machine M01] [--unit group] [--seeds 5]

A split draws half of the normal groups of each operating state; abnormal recordings of a drawn group are left out, so
that no group stands on both sides. Printed are means over the splits: of the value, and of the limits of its 95 %
interval (of groups within a split), with the standard deviation between splits; where a figure or its interval is not
defined in some splits, the number of splits in which it is. The trivial baselines see the same rows.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.commissioning import commission_manifest
from pipeline.errors import BadInput, StethosError
from pipeline.manifest import Labels, Row, read_manifest
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.metrics import Metric
from pipeline.validation.validate import validate

SHOWN = ("auc", "pauc_0.1", "recall", "precision", "false_alarms_per_day")


def split(rows: Sequence[Row], normal: Collection[str], seed: int, unit: str, share: float = 0.5) -> list[Row]:
    """The rows of one split, marked train or test."""
    rng = random.Random(seed)
    if unit == "machine":  # learn one machine's normal, judge the others by it
        machines = sorted({r.machine for r in rows})
        if len(machines) < 2:
            raise BadInput("manifest", f"--unit machine needs two machines; there is {machines[0]!r} alone")
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


def line(name: str, found: Sequence[Metric], splits: int) -> str:
    """A row of the table: means over the splits in which the figure, and its interval, are defined."""
    values, bounded = [m.value for m in found], [m for m in found if m.bounded]
    of = "" if len(found) == splits else f" ({len(found)} of {splits} splits)"
    span = "–"
    if bounded:
        some = "" if len(bounded) == len(found) else f" ({len(bounded)} of {splits} splits)"
        span = f"{np.mean([m.low for m in bounded]):.2f} – {np.mean([m.high for m in bounded]):.2f}{some}"
    return f"| {name}{of} | {np.mean(values):.3f} | {span} | {np.std(values):.3f} |"


def main() -> None:
    """Run all splits and print the table; 2 and a sentence where the manifest allows none."""
    try:
        run(sys.argv[1:])
    except StethosError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def run(argv: Sequence[str]) -> None:
    """All splits and the table.

    Raises:
        StethosError: the manifest, or what was asked of it, has no sense.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--normal", default="good,normal,healthy,stable")
    parser.add_argument("--machine")
    parser.add_argument("--unit", choices=["group", "recording", "machine"], default="group", help="what is drawn")
    parser.add_argument("--seeds", type=int, default=5, help="number of splits, 1 or more")
    parser.add_argument("--out", type=Path, help="keep the validation folders here")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    normal = Labels(label.strip() for label in args.normal.split(",") if label.strip())
    every = read_manifest(args.manifest)
    rows = [r for r in every if args.machine in {None, r.machine}]
    if not rows:
        known = ", ".join(sorted({r.machine for r in every}))
        raise BadInput("manifest", f"{args.manifest}: has no machine {args.machine!r}, only {known}")
    found: dict[str, list[Metric]] = {}
    scored = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.seeds):
            mine = split(rows, normal, seed, args.unit)
            baselines = {(b.machine, b.sensor): b for b in commission_manifest(mine, normal)}
            result = validate(mine, BaselineScorer(baselines), (args.out or Path(scratch)) / str(seed), normal)
            scored.append(len(result.judged))
            for name in SHOWN:
                if name in result.metrics:
                    found.setdefault(name, []).append(result.metrics[name])
            for other, metrics in result.comparison.items():
                found.setdefault(f"auc of {other}", []).append(metrics["auc"])
    counts = f"{min(scored)} to {max(scored)} recordings scored"
    print(f"{args.manifest.name} {args.machine or ''} by {args.unit}: {args.seeds} splits, {counts}")
    print("| figure | mean | 95 % interval (mean limits) | sd between splits |\n|---|---|---|---|")
    for name, metrics_of in found.items():
        print(line(name, metrics_of, args.seeds))


if __name__ == "__main__":
    main()
