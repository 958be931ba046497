"""The rules of `benchmarks.drill_rules` in one go: a classifier is taught, frames are made, every rule is judged.

    python -m benchmarks.drill_rules_run [--minutes 15] [--starts 8]

Seeds and steps are those of `benchmarks/drill_rules.py`, which says what they are for; fewer starts give wider
intervals than those in `docs/drill-paper.md`. Prints one line of JSON a rule.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.drill_rules import FINAL, TAUGHT, TRAIN, Count, frames, read
from models.drill.live import CLASSIFIER, LearnedBreak, Rule
from models.packages import Package, load
from operators.base import Stateful
from operators.breakage_detector import BREAK, BreakDetector
from tests.operators.simulated import wilson

THRESHOLD = 0.2
COMBINED: tuple[Rule, ...] = ("both", "either", "burst")


def taught(folder: Path, minutes: float) -> Package:
    """The classifier, made by the commands that a user types."""
    stethos = [sys.executable, "-m", "pipeline.cli.main"]
    sounds, package = folder / "train", folder / "fracture"
    lines = [
        [*stethos, "simulate", "drill", "--seed", str(TRAIN), "--minutes", str(minutes), "--out", str(sounds)],
        [*stethos, "train", "drill", "--manifest", str(sounds / "manifest.csv"), "--out", str(package)],
    ]
    for line in lines:
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return load(package)


def contenders(package: Package) -> Iterator[tuple[str, Callable[[], Stateful], str]]:
    """Name of the rule, its detector, and the scores that it is judged by."""

    def learned(rule: Rule) -> LearnedBreak:
        return LearnedBreak(TAUGHT, THRESHOLD, rule, package.digest)

    yield "physics alone", partial(BreakDetector, TAUGHT), BREAK
    yield "classifier alone", partial(learned, "advisory"), CLASSIFIER
    for rule in COMBINED:
        yield rule, partial(learned, rule), BREAK


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0, help="of sound to teach")
    parser.add_argument("--starts", type=int, default=8, help="of machines, fifteen judged holes each")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = taught(folder, asked.minutes)
        sys.stdout, told = sys.stderr, sys.stdout  # what `frames` says is no figure
        frames(FINAL, range(asked.starts), folder / "frames")
        sys.stdout = told
        starts = [read(path, package) for path in sorted((folder / "frames").glob("*.npz"))]
    for rule, make, judged in contenders(package):
        count = Count()
        for made, truth in starts:
            count.add(made, truth, make(), judged)
        holes = count.whole + count.fractures
        low, high = (round(v, 3) for v in wilson(count.found, count.fractures))
        few, many = (round(1000 * v, 1) for v in wilson(count.false, holes))
        row = {"rule": rule, "threshold": THRESHOLD, "seed": FINAL, "fractures": count.fractures, "holes": holes}
        row |= {"recall": round(count.found / count.fractures, 3), "low": low, "high": high}
        row |= {"false_per_1000": round(1000 * count.false / holes, 1), "false_low": few, "false_high": many}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
