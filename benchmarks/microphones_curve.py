"""Draws how many microphones an encoder serves in real time, by its rhythm, from what `microphones --curve` printed.

    .venv/bin/python -m benchmarks.microphones_curve small=FILE base=FILE edge=FILE --out docs/pictures/microphones.png

A point for each run: the age of the 99th percentile of the scores when they were durable. What is over two seconds fell
behind, and is drawn there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

AIM_MS, BEHIND_MS = 400.0, 2000.0


def figures(path: Path) -> list[dict[str, Any]]:
    """The runs of a file, whatever else was printed."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def draw(files: dict[str, Path], out: Path) -> None:
    """One panel for each encoder."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(files), figsize=(4 * len(files), 3.6), sharey=True, layout="constrained")
    for axes, (name, path) in zip([panels] if len(files) == 1 else panels, files.items(), strict=True):
        runs = figures(path)
        for every_s in sorted({run["every_s"] for run in runs}, reverse=True):
            mine = sorted((run["sensors"], run["age_ms_p99"] or BEHIND_MS) for run in runs if run["every_s"] == every_s)
            axes.plot(*zip(*mine, strict=True), marker="o", label=f"every {every_s:g} s")
        axes.axhline(AIM_MS, color="black", linestyle=":", label="aim")
        axes.set(title=f"{name}", xlabel="microphones at 48 kHz", yscale="log", ylim=(50, 2500))
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.supylabel("age of a score, p99, ms", fontsize=10)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="SIZE=FILE")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    draw({name: Path(path) for name, _, path in (one.partition("=") for one in asked.files)}, asked.out)


if __name__ == "__main__":
    main()
