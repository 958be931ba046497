"""Bosch CNC_Machining (vibration of three milling machines) as a manifest with NPZ files; see docs/data.md.

    pip install h5py
    python scripts/convert_cnc.py CNC_Machining/data OUT [--machine M01,M02] [--operation OP07] [--train REGEX]
        [--teeth N]

Reads ``M01/OP07/good/M01_Aug_2019_OP07_000.h5`` and its like: the dataset ``vibration_data``, shape (n, 3), 2 kHz.
Writes ``good/*.npz``, ``bad/*.npz`` and ``manifest.csv``. Groups are machine/operation/time frame, so that recordings
of one set-up are never split. With ``--train``, groups that match learn and all others are scored.

The column ``spindle_rpm`` is filled where `SPINDLE_HZ` knows the operation's speed. The tools' teeth are not published;
``--teeth`` says what to take them for.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY = "vibration_data"
RATE_HZ = 2000
SPINDLE_HZ = {"OP01": 250.0, "OP02": 200.0, "OP04": 250.0, "OP07": 200.0, "OP10": 250.0}
"""Nominal rotation: lines of the good recordings lie at multiples of 242 to 250 Hz and of 195 to 200 Hz."""
COLUMNS = (
    "path", "label", "group", "machine", "sensor", "modality", "rate_hz", "unit", "state", "split", "timeframe",
    "spindle_rpm", "teeth",
)  # fmt: skip
NAME = re.compile(r"(?P<machine>M\d+)_(?P<timeframe>[A-Z][a-z]{2}_\d{4})_(?P<operation>OP\d+)_\d+")


def read(path: Path) -> NDArray[Any]:
    """The samples of one file, (n, 3): whole numbers that fit as int16, all others as float32; never scaled."""
    import h5py

    with h5py.File(path, "r") as file:
        if KEY not in file:
            raise SystemExit(f"{path}: holds no dataset '{KEY}'; is this a file of CNC_Machining?")
        x = np.asarray(file[KEY][:])
    if x.ndim != 2 or x.shape[1] != 3 or x.dtype.kind not in "iuf":
        raise SystemExit(f"{path}: {KEY} has {x.dtype} of shape {x.shape}, not numbers of shape (n, 3)")
    whole = bool(np.all(np.abs(x) <= 32767) and np.array_equal(x, np.rint(x)))
    return x.astype(np.int16 if whole else np.float32)


def rows(data: Path, machines: set[str], operations: set[str]) -> list[tuple[Path, dict[str, str]]]:
    """Every file that is wanted with its row of the manifest, without split."""
    found = []
    for path in sorted(data.glob("M*/OP*/*/*.h5")):
        told, label = NAME.fullmatch(path.stem), path.parent.name
        if told is None or label not in {"good", "bad"}:
            raise SystemExit(f"{path}: expected MACHINE/OPERATION/good|bad/MACHINE_Mon_YEAR_OPERATION_NUMBER.h5")
        machine, operation = told["machine"], told["operation"]
        if (machines and machine not in machines) or (operations and operation not in operations):
            continue
        row = {
            "path": f"{label}/{path.stem}.npz", "label": label,
            "group": f"{machine}/{operation}/{told['timeframe']}", "machine": machine, "sensor": "accelerometer",
            "modality": "vibration", "rate_hz": str(RATE_HZ), "unit": "mg", "state": operation,
            "timeframe": told["timeframe"],
        }  # fmt: skip
        found.append((path, row))
    return found


def main() -> int:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--machine", default="", help="only these, separated by commas")
    parser.add_argument("--operation", default="", help="only these, separated by commas")
    parser.add_argument("--train", type=re.compile, help="groups that learn, such as 'M01/.*' or '.*_2019'")
    parser.add_argument("--teeth", type=int, help="cutting edges of the tools, for the chatter detector")
    args = parser.parse_args()
    machines, operations = set(filter(None, args.machine.split(","))), set(filter(None, args.operation.split(",")))
    found = rows(args.data, machines, operations)
    if not found:
        print(f"{args.data}: no file M*/OP*/good|bad/*.h5 that was asked for", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for path, row in found:
            target = args.out / row["path"]
            target.parent.mkdir(exist_ok=True)
            np.savez_compressed(target, x=read(path), fs=np.int64(RATE_HZ))
            split = "" if args.train is None else "train" if args.train.fullmatch(row["group"]) else "test"
            hz = SPINDLE_HZ.get(row["state"])
            rpm, teeth = "" if hz is None else f"{60.0 * hz:g}", args.teeth or ""
            writer.writerow({**row, "split": split, "spindle_rpm": rpm, "teeth": teeth})
    print(f"{args.out / 'manifest.csv'}: {len(found)} recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
