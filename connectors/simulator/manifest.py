"""Recordings of a simulated set on disk, with the table that tells the truth about them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

COLUMNS = (
    "path",
    "label",
    "group",
    "machine",
    "sensor",
    "modality",
    "rate_hz",
    "unit",
    "start_s",
    "end_s",
    "split",
    "spindle_rpm",
    "teeth",
    "onset_s",
)
"""Columns of every manifest; sets add their own behind them."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One file to be.

    Attributes:
        path: relative to the manifest; ``.wav`` (16-bit) or ``.npz`` (arrays ``x`` and ``fs``).
        samples: int16 of shape (n,) or (n, channels) for WAV, float32 of shape (n, channels) for NPZ.
        rate_hz: samples per second.
        unit: of the samples.
        label: what it is.
        group: what must not be split.
        machine: whose it is.
        sensor: which sensor's it is.
        modality: ``"acoustic"`` or ``"vibration"``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        more: further columns.
    """

    path: str
    samples: NDArray[np.int16] | NDArray[np.float32]
    rate_hz: int
    unit: str
    label: str
    group: str
    machine: str
    sensor: str
    modality: str
    split: str
    more: Mapping[str, str | int | float] = field(default_factory=dict)

    def row(self) -> dict[str, str | int | float]:
        """The manifest's line."""
        return {
            "path": self.path,
            "label": self.label,
            "group": self.group,
            "machine": self.machine,
            "sensor": self.sensor,
            "modality": self.modality,
            "rate_hz": self.rate_hz,
            "unit": self.unit,
            "start_s": 0.0,
            "end_s": round(len(self.samples) / self.rate_hz, 6),
            "split": self.split,
            **self.more,
        }


def write(recordings: Iterable[Recording], total: int, out: Path, progress: Progress | None = None) -> Path:
    """Write recordings as they come and ``manifest.csv`` at last.

    Args:
        recordings: the set.
        total: how many there will be.
        out: folder, made if it is not there.
        progress: called with (done, total) after each file.

    Returns:
        Path of the manifest.

    Raises:
        OSError: the folder cannot be written.
    """
    rows: list[dict[str, str | int | float]] = []
    for recording in recordings:
        path = out / recording.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez(path, x=recording.samples, fs=np.float64(recording.rate_hz))
        else:
            soundfile.write(path, recording.samples, recording.rate_hz, subtype="PCM_16")
        rows.append(recording.row())
        if progress is not None:
            progress(len(rows), total)
    extra = sorted({key for row in rows for key in row} - set(COLUMNS))
    manifest = out / "manifest.csv"
    out.mkdir(parents=True, exist_ok=True)
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*COLUMNS, *extra])
        table.writeheader()
        table.writerows(rows)
    return manifest


def sizes(minutes: float, most: int, longest_s: float, shortest_s: float) -> tuple[int, float]:
    """Number and length in s of equal recordings that last `minutes` in all.

    As long as `longest_s`, but shorter, down to `shortest_s`, where fewer than `most` would come out.
    """
    length = min(longest_s, max(shortest_s, 60.0 * minutes / most))
    count = max(1, round(60.0 * minutes / length))
    return count, 60.0 * minutes / count


SPLITS = ("train", "test", "train", "train", "test", "validation")
"""Parts that consecutive groups of one kind belong to: half, a third and a sixth."""
