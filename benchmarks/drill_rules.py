"""How the learned drill classifier should be combined with the physics detector: measured, not assumed.

Seeds: `TRAIN` made the sounds that the package learned from (`stethos simulate drill`), on `CHOOSE` thresholds and rule
were chosen, `FINAL` gave the figures in `docs/drill-paper.md`. None is used by any other test or benchmark.

    python -m benchmarks.drill_rules frames --seed 9402 --starts 24 --frames FOLDER
    python -m benchmarks.drill_rules judge  --seed 9402 --frames FOLDER --package PKG
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.drill.live import CLASSIFIER, LEARNED, RULES, LearnedBreak, LearnedFrames, Rule
from models.packages import Package, load
from operators.base import Stateful
from operators.breakage import FRAME
from operators.breakage_detector import BREAK, BreakDetector
from pipeline.messages import NS, Feature, Score, Segment
from tests.operators.pieces import ANCHOR, stream
from tests.operators.simulated import DRILL_HZ, holes, wilson

TRAIN, CHOOSE, FINAL = 9401, 9402, 9403
TAUGHT = 4
FAULTS = ["none"] * TAUGHT + ["none", "fracture", "none"] * 5
SECONDS = 3.0


def frames(seed: int, starts: Sequence[int], out: Path) -> None:
    """Frames of 19 holes per start, physics and level differences, one file each; those that exist are kept."""
    source = stream(DRILL_HZ)
    out.mkdir(parents=True, exist_ok=True)
    for start in starts:
        path = out / f"{seed}-{start:03d}.npz"
        if path.exists():
            continue
        rows: list[NDArray[np.float64]] = []

        def keep(row: NDArray[np.float64], rows: list[NDArray[np.float64]] = rows) -> float:
            rows.append(row)
            return float(len(rows) - 1)

        operator = LearnedFrames(source, keep)
        made: list[Feature] = []
        truth = []
        for n, hole in enumerate(holes(seed, start, FAULTS, snr_db=snr_of(start))):  # type: ignore[arg-type]
            truth.append(np.nan if hole.break_s is None else hole.break_s)
            found = operator.process(Segment(source, ANCHOR, n * len(hole.sound), hole.sound))
            made += [f for f in found if isinstance(f, Feature)]
        names = [key for key in made[0].values if key != LEARNED]
        part = path.with_suffix(".part")  # one that is interrupted must not look made
        with part.open("wb") as file:
            np.savez_compressed(
                file, truth=truth, names=names, rows=np.array(rows, np.float32),
                t_ns=[f.t_end_ns for f in made], learned=[int(f.values.get(LEARNED, -1)) for f in made],
                values=[[f.values[key] for key in names] for f in made],
            )  # fmt: skip
        part.replace(path)
        print(path.name, f"{time.process_time():.0f} s", flush=True)


def snr_of(start: int) -> float:
    """10 to 20 dB, as in `benchmarks.detectors`."""
    return 10.0 + 10.0 * ((start * 0.37) % 1.0)


def read(path: Path, package: Package) -> tuple[list[Feature], NDArray[np.float64]]:
    """Frames of one start with the package's log odds in them, and the time of each hole's fracture or nan."""
    with np.load(path) as held:
        logits = package.session().run(held["rows"])["logits"]
        odds = logits[:, 1].astype(np.float64) - logits[:, 0]
        names = held["names"].tolist()
        made = []
        for t_ns, row, values in zip(held["t_ns"], held["learned"], held["values"], strict=True):
            told = dict(zip(names, values.tolist(), strict=True))
            if row >= 0:
                told[LEARNED] = float(odds[row])
            made.append(Feature("m", ("s",), FRAME, int(t_ns), told))
        return made, held["truth"]


@dataclass(slots=True)
class Count:
    """Fractures stopped within 200 ms, fractures, holes stopped without one (or before it), whole holes."""

    found: int = 0
    fractures: int = 0
    false: int = 0
    whole: int = 0

    def add(self, made: Sequence[Feature], truth: NDArray[np.float64], detector: Stateful, name: str) -> None:
        """Judge one start; its first holes teach."""
        stops: dict[int, list[float]] = {}
        for frame in made:
            for score in detector.process(frame):
                if isinstance(score, Score) and score.detector == name and score.abnormal:
                    t = (score.t_end_ns - ANCHOR.t_ns) / NS
                    hole = int((t - 1e-9) // SECONDS)
                    stops.setdefault(hole, []).append(t - SECONDS * hole)
        for hole in range(TAUGHT, len(truth)):
            at, told = truth[hole], stops.get(hole, [])
            self.whole += bool(np.isnan(at))
            self.fractures += not np.isnan(at)
            self.found += any(-0.005 <= t - at <= 0.2 for t in told)
            self.false += any(np.isnan(at) or t < at - 0.005 for t in told)

    def __str__(self) -> str:
        low, high = (round(v, 3) for v in wilson(self.found, self.fractures))
        few, many = (round(1000 * v, 1) for v in wilson(self.false, self.whole + self.fractures))
        holes = self.whole + self.fractures
        return (
            f"recall {self.found}/{self.fractures} = {self.found / self.fractures:.3f} [{low}, {high}]; "
            f"false stops {self.false}/{holes} = {1000 * self.false / holes:.1f} [{few}, {many}] per 1,000 holes"
        )


def judge(seed: int, folder: Path, package: Package, thresholds: Sequence[float], rules: Sequence[Rule]) -> None:
    """Physics alone, the classifier alone, and each rule at each threshold, over all starts at hand."""
    starts = [read(path, package) for path in sorted(folder.glob(f"{seed}-*.npz"))]
    print(f"seed {seed}: {len(starts)} starts, package {package.digest[:16]}")

    def row(label: str, make: Callable[[], Stateful], name: str = BREAK) -> None:
        count = Count()
        for made, truth in starts:
            count.add(made, truth, make(), name)
        print(f"{label:24} {count}", flush=True)

    row("physics alone", lambda: BreakDetector(TAUGHT))
    for threshold in thresholds:
        row(f"classifier alone {threshold:g}", lambda t=threshold: _learned(t, "advisory"), CLASSIFIER)  # type: ignore[misc]
        for rule in rules:
            row(f"{rule} {threshold:g}", lambda t=threshold, r=rule: _learned(t, r))  # type: ignore[misc]


def _learned(threshold: float, rule: Rule) -> LearnedBreak:
    return LearnedBreak(TAUGHT, threshold, rule, "benchmark")


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["frames", "judge"])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--starts", type=int, default=24)
    parser.add_argument("--frames", type=Path, required=True, help="folder of the frames")
    parser.add_argument("--package", type=Path)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.2, 0.5, 0.9])
    parser.add_argument("--rules", nargs="+", choices=sorted(RULES), default=["both", "either", "burst"])
    asked = parser.parse_args()
    if asked.what == "frames":
        frames(asked.seed, range(asked.starts), asked.frames)
        return
    if asked.package is None:
        parser.error("judge needs --package")
    if not any(asked.frames.glob(f"{asked.seed}-*.npz")):
        parser.error(f"--frames {asked.frames}: none of seed {asked.seed}; `frames --seed {asked.seed}` makes them")
    judge(asked.seed, asked.frames, load(asked.package), asked.thresholds, asked.rules)


if __name__ == "__main__":
    main()
