"""Cuts the demonstration's excerpts out of the public recordings; see docs/data.md for where those come from.

    python scripts/demo_data.py LATHE_JUST_RIGHT.flac LATHE_TOO_FAST.flac CNC_FOLDER

`CNC_FOLDER` holds ``good/*.npz`` and ``bad/*.npz`` as `scripts/convert_cnc.py` makes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

OUT = Path(__file__).parent.parent / "pipeline" / "demo" / "recordings"

LATHE = [  # name, which file, first second, last second
    ("lathe-normal-1.flac", 0, 10, 30),
    ("lathe-normal-2.flac", 0, 130, 150),
    ("lathe-normal-3.flac", 0, 250, 270),
    ("lathe-play-normal.flac", 0, 320, 345),
    ("lathe-play-too-fast.flac", 1, 20, 45),
]
CNC = [  # name, recording: operation OP07 on machine M02
    ("mill-normal-1.npz", "good/M02_Aug_2019_OP07_002.npz"),
    ("mill-normal-2.npz", "good/M02_Aug_2019_OP07_010.npz"),
    ("mill-normal-3.npz", "good/M02_Aug_2019_OP07_017.npz"),
    ("mill-normal-4.npz", "good/M02_Aug_2021_OP07_000.npz"),
    ("mill-normal-5.npz", "good/M02_Feb_2019_OP07_000.npz"),
    ("mill-play-good.npz", "good/M02_Feb_2021_OP07_004.npz"),
    ("mill-play-bad.npz", "bad/M02_Aug_2019_OP07_000.npz"),
]


def main() -> None:
    """Write all excerpts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, told in (("right", "LATHE_JUST_RIGHT.flac"), ("fast", "LATHE_TOO_FAST.flac"), ("cnc", "CNC_FOLDER")):
        parser.add_argument(name, metavar=told, type=Path)
    args = parser.parse_args()
    right, fast, cnc = args.right, args.fast, args.cnc
    for path in (right, fast, *(cnc / source for _, source in CNC)):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    OUT.mkdir(parents=True, exist_ok=True)
    for name, which, first, last in LATHE:
        x, rate = soundfile.read((right, fast)[which], dtype="int16")
        soundfile.write(OUT / name, x[first * rate : last * rate], rate, subtype="PCM_16")
    for name, source in CNC:
        with np.load(cnc / source, allow_pickle=False) as file:
            x = file["x"].astype(np.int16)  # (windows, 10,000, 3): five-second windows, not all of them consecutive
            np.savez_compressed(OUT / name, x=x, fs=np.int64(file["fs"]))
    for path in sorted(OUT.iterdir()):
        print(f"{path.name:<28}{path.stat().st_size:>10,}")


if __name__ == "__main__":
    main()
