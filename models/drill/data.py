"""Very short drill sounds with their events: the paper's folder of files, read without guessing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadInput

Float64 = NDArray[np.float64]

RATE_HZ = 96_000
LENGTHS = (2000, 4000)
"""Samples of a file: 20.83 and 41.67 ms at 96 kHz."""
SAMPLES = 1999
"""Samples that the autoencoder and one Mel frame take."""
CLASSES = ("normal", "anomaly")
TABLE = "groups.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """One recorded clip.

    Attributes:
        name: path relative to the folder.
        samples: shape (2000,) or (4000,), full scale 1.
        anomaly: whether a bit broke in it.
        event: the stroke that it was recorded in; all microphones of one stroke share it.
        run: of the machine (day, set-up), or "" if unknown.
        microphone: which one, or "" if unknown.
    """

    name: str
    samples: Float64
    anomaly: bool
    event: str
    run: str
    microphone: str


def load(folder: Path) -> list[Sound]:
    """Sounds in the paper's layout: ``normal/*.wav`` and ``anomaly/*.wav`` (names in any case), mono, 96 kHz.

    ``groups.csv`` beside them (columns path, event, run, microphone) names the event of every file. Without it every
    file counts as an event of its own, and microphones of one stroke may fall on both sides of a split.

    Args:
        folder: with both class folders.

    Returns:
        All sounds, sorted by name.

    Raises:
        BadInput: a class is missing, a file has another rate, length or number of channels, or the table cannot be
            read, does not name it, names it twice or without an event.
    """
    folders = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()} if folder.is_dir() else {}
    missing = [c for c in CLASSES if c not in folders]
    if missing:
        raise BadInput("missing_class", f"{folder} has no folder {' or '.join(missing)}; it needs normal/ and anomaly/")
    groups = _groups(folder / TABLE)
    sounds = [
        _sound(folder, path, name == "anomaly", groups)
        for name in CLASSES
        for path in sorted(folders[name].glob("[!.]*"))
        if path.suffix.lower() == ".wav"
    ]
    for name in CLASSES:
        if not any(s.anomaly == (name == "anomaly") for s in sounds):
            raise BadInput("missing_class", f"{folders[name]} holds no WAV file")
    return sorted(sounds, key=lambda s: s.name)


def _groups(table: Path) -> dict[str, Mapping[str, str]] | None:
    if not table.is_file():
        return None
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("bad_table", f"{table} cannot be read as a UTF-8 CSV file: {error}") from error
    if not rows or not {"path", "event"} <= set(reader.fieldnames):
        raise BadInput("bad_table", f"{table} needs the columns path and event (and may have run and microphone)")
    found: dict[str, Mapping[str, str]] = {}
    for line, row in rows:
        cells = {column: (row.get(column) or "").strip() for column in ("path", "event", "run", "microphone")}
        if any((cell or "").strip() for cell in row.get(None) or ()):
            raise BadInput("bad_table", f"{table}, line {line} has more cells than the header")
        for column in ("path", "event"):
            if any(cells.values()) and not cells[column]:
                raise BadInput("bad_table", f"{table}, line {line}: {column} must not be empty")
        if cells["path"] in found:
            raise BadInput("bad_table", f"{table}, line {line}: {cells['path']} stands in it twice")
        if cells["path"]:
            found[cells["path"]] = cells
    return found


def _sound(folder: Path, path: Path, anomaly: bool, groups: dict[str, Mapping[str, str]] | None) -> Sound:
    import soundfile

    name = path.relative_to(folder).as_posix()
    try:
        x, rate = soundfile.read(path, dtype="float64", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadInput("unreadable", f"{path}: {error}") from error
    if rate != RATE_HZ:
        raise BadInput("bad_rate", f"{path} has {rate} Hz; these sounds have {RATE_HZ} Hz")
    if x.shape[1] != 1 or len(x) not in LENGTHS:
        raise BadInput("bad_length", f"{path} has {len(x)} samples × {x.shape[1]} channels, not 2000 or 4000 × 1")
    if not np.isfinite(x).all() or not x.any():
        raise BadInput("silent", f"{path} is silent or not finite")
    if groups is None:
        return Sound(name, x[:, 0], anomaly, name, "", "")
    if name not in groups:
        raise BadInput("bad_table", f"{folder / TABLE} does not name {name}")
    row = groups[name]
    return Sound(name, x[:, 0], anomaly, row["event"], row["run"], row["microphone"])


def digest(sounds: Iterable[Sound]) -> str:
    """SHA-256 over names, labels, events and samples."""
    total = sha256()
    for s in sounds:
        total.update(f"{s.name}|{s.anomaly}|{s.event}|{s.run}|".encode())
        total.update(s.samples.astype("<f8").tobytes())
    return total.hexdigest()


def centre(x: Float64, length: int = SAMPLES) -> Float64:
    """The middle `length` samples of x, shape (n,), n >= length.

    All classifiers of the leak-free protocol see the same length, so that none can tell files by it.
    """
    first = (len(x) - length) // 2
    return x[first : first + length]


def centred(sounds: Sequence[Sound]) -> Float64:
    """The middle 1,999 samples of each sound, shape (n, 1999)."""
    return np.stack([centre(s.samples) for s in sounds])


def labels(sounds: Sequence[Sound]) -> Float64:
    """1 for an anomaly and 0 for a normal sound, shape (n,)."""
    return np.array([float(s.anomaly) for s in sounds])
