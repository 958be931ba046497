"""ESC-10 (everyday sounds, among them chainsaws and helicopters) as a manifest "machine or other"; see docs/data.md.

    python scripts/convert_esc10.py ESC-50 [--out ESC-50/manifest.csv] [--train FOLDS]

Reads ``meta/esc50.csv`` and names the clips under ``audio/`` that belong to ESC-10; nothing is copied. Groups are the
recordings on Freesound that clips were cut from. With ``--train 1,2,3`` those folds learn and all others are scored;
ESC-50 keeps the clips of one recording in one fold.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

MACHINES = frozenset({"chainsaw", "helicopter"})
COLUMNS = ("path", "label", "group", "machine", "sensor", "modality", "unit", "split", "category", "fold")


def rows(folder: Path, base: Path, train: set[str]) -> list[dict[str, str]]:
    """A row per clip of ESC-10; paths are relative to `base`."""
    table = folder / "meta" / "esc50.csv"
    if not table.is_file():
        raise SystemExit(f"{table}: no such file; name the folder that holds meta/ and audio/ of ESC-50")
    found = []
    with table.open(encoding="utf-8", newline="") as file:
        for clip in csv.DictReader(file):
            if clip["esc10"].lower() != "true":
                continue
            path = folder / "audio" / clip["filename"]
            if not path.is_file():
                raise SystemExit(f"{path}: no such file, but {table} names it")
            row = {
                "path": Path(os.path.relpath(path, base)).as_posix(),
                "label": "machine" if clip["category"] in MACHINES else "other",
                "group": f"freesound {clip['src_file']}", "machine": "esc10", "sensor": "microphone",
                "modality": "acoustic", "unit": "FS", "category": clip["category"], "fold": clip["fold"],
                "split": "" if not train else "train" if clip["fold"] in train else "test",
            }  # fmt: skip
            found.append(row)
    return found


def main() -> int:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="the manifest; default: manifest.csv in the folder")
    parser.add_argument("--train", default="", help="folds that learn, separated by commas")
    args = parser.parse_args()
    out = args.out or args.folder / "manifest.csv"
    found = rows(args.folder, out.parent, set(filter(None, args.train.split(","))))
    if not found:
        print(f"{args.folder}: no clip of ESC-10", file=sys.stderr)
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    machines = sum(row["label"] == "machine" for row in found)
    print(f"{out}: {len(found)} clips, {machines} of machines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
