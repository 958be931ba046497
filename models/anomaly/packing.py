"""A baseline as named bytes, for recordings that carry it by content."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from models.anomaly.baseline import Baseline
from models.anomaly.store import ARRAYS, DOCUMENT, load, save


def pack(baseline: Baseline) -> dict[str, bytes]:
    """The baseline's files by name."""
    with tempfile.TemporaryDirectory() as folder:
        saved = save(baseline, Path(folder))
        return {name: (saved / name).read_bytes() for name in (DOCUMENT, ARRAYS)}


def unpack(files: Mapping[str, bytes]) -> Baseline:
    """The baseline that `pack` made these of.

    Raises:
        StateError: a file is missing or damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / Path(name).name).write_bytes(data)
        return load(Path(folder))
