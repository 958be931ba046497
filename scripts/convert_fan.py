"""UCI "Accelerometer" (a fan with weights on its blades) as a manifest with NPZ files; see docs/data.md.

    python scripts/convert_fan.py accelerometer.csv OUT [--train REGEX]

Reads the columns ``wconfid,pctid,x,y,z``: weights (1 red: normal, 2 blue: perpendicular, 3 green: opposite), speed in
per cent, acceleration in g, one row every 20 ms. Writes a minute of 50 Hz per weights and speed, and ``manifest.csv``.
A group is one such minute. With ``--train``, groups that match learn and all others are scored.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from itertools import groupby
from pathlib import Path

import numpy as np

RATE_HZ = 50
HEADER = ["wconfid", "pctid", "x", "y", "z"]
LABELS = {1: "normal", 2: "perpendicular", 3: "opposite"}
COLUMNS = ("path", "label", "group", "machine", "sensor", "modality", "rate_hz", "unit", "state", "split")


def main() -> int:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=re.compile, help="groups that learn, such as 'normal/.*[05]0'")
    args = parser.parse_args()
    if not args.table.is_file():
        raise SystemExit(f"{args.table}: no such file")
    done: set[str] = set()
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        args.table.open(encoding="utf-8-sig", newline="") as file,
        (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as manifest,
    ):
        reader = csv.reader(file)
        if (header := [name.strip() for name in next(reader, [])]) != HEADER:
            raise SystemExit(f"{args.table}: the columns are {header}, not {HEADER}")
        writer = csv.DictWriter(manifest, COLUMNS)
        writer.writeheader()
        for (weights, speed), rows in groupby(reader, key=lambda row: (int(row[0]), int(row[1]))):
            label, state = LABELS[weights], f"speed{speed:03d}"
            group = f"{label}/{state}"
            if group in done:
                raise SystemExit(f"{args.table}: the rows of {group} do not follow each other; is the file whole?")
            done.add(group)
            (args.out / label).mkdir(exist_ok=True)
            x = np.array([row[2:] for row in rows], np.float32)
            np.savez_compressed(args.out / f"{group}.npz", x=x, fs=np.int64(RATE_HZ))
            split = "" if args.train is None else "train" if args.train.fullmatch(group) else "test"
            writer.writerow(
                {
                    "path": f"{group}.npz", "label": label, "group": group, "machine": "fan",
                    "sensor": "accelerometer", "modality": "vibration", "rate_hz": RATE_HZ, "unit": "g",
                    "state": state, "split": split,
                }
            )  # fmt: skip
    print(f"{args.out / 'manifest.csv'}: {len(done)} recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
