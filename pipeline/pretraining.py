"""Recordings to pretrain on: a folder of sound files, a manifest, recorded topics; read a crop at a time.

DINOS's own layout is a folder of WAV files per sensor (``DINOS_Pretrain/SENSOR/*.wav``), its second format a CSV file
with the columns ``filepath,start_sample,label,class_name``, a line per second of sound.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from models.impact.crops import SHORTEST_S, SILENT, Take
from pipeline.clips import read_clip
from pipeline.contents import fingerprint
from pipeline.errors import BadInput, ConfigError
from pipeline.manifest import Row, learning_rows, read_manifest
from pipeline.messages import NS, Chunk, Float32, Rate, Stream
from pipeline.recording.reader import read as read_recording

_SOUND = {".wav", ".flac"}
_DINOS = {"filepath", "start_sample"}
_DINOS_FOLDERS = ("DINOS_Pretrain", "Datasets/DINOS_Pretrain")
_DINOS_TESTS = "DINOS_Downstreams"
_AT_ONCE = 1 << 20


def takes_of(path: Path, normal_only: frozenset[str] | None = None) -> list[Take]:
    """Takes of a folder, a manifest (either format) or a recording, in a fixed order.

    A folder is searched through all levels for WAV, FLAC and MCAP files; its first level names the sensors. Where it
    holds DINOS's folder for pretraining, the first level in there does, and what lies beside it for DINOS's benchmark
    is left out. Of a manifest those rows are taken that learn.

    Args:
        path: the folder or file.
        normal_only: labels to keep of a manifest; None keeps all.

    Raises:
        ConfigError: there is no such path, or a manifest has no sense.
        BadInput: a file is missing or cannot be read, or nothing was found.
    """
    if path.is_dir():
        found = _of_folder(path)
    elif path.suffix.lower() == ".mcap":
        found = _recorded(path)
    elif path.is_file():
        found = _of_csv(path, normal_only)
    else:
        raise ConfigError(f"{path}: there is no such folder or manifest")
    if not found:
        raise BadInput("empty", f"{path}: holds no WAV, FLAC or MCAP recording of at least {SHORTEST_S} s")
    return found


def check(takes: Sequence[Take], progress: Callable[[float], None] | None = None) -> None:
    """Read everything once, so that a run does not meet a bad recording after days, when it cannot be mended any more.

    Args:
        takes: of `takes_of`.
        progress: called with the seconds that were read, again and again: a take may last for days.

    Raises:
        BadInput: takes are damaged, hold samples that are not finite, or are all that a sensor has and silent; the
            first by name, and how many there are.
    """
    bad: list[BadInput] = []
    silent: dict[str, str] = {}
    heard: set[str] = set()
    done_s = 0.0
    for take in takes:
        try:
            loudest = 0.0
            for n0 in range(0, take.samples, _AT_ONCE):
                if progress:
                    progress(done_s + n0 / take.rate.hz)
                loudest = max(loudest, _loudness(take, n0))
        except BadInput as error:
            bad.append(error)
            heard.add(take.sensor)
            continue
        finally:
            done_s += take.seconds
        if loudest >= SILENT * take.full_scale:
            heard.add(take.sensor)
        silent.setdefault(take.sensor, take.name)
    bad += [
        BadInput("silent", f"{sensor}: its recordings, such as {silent[sensor]}, hold only silence")
        for sensor in sorted(set(silent) - heard)
    ]
    if bad:
        more = f"; {len(bad) - 1} more cannot be used either" if len(bad) > 1 else ""
        raise BadInput(bad[0].reason, f"{bad[0]}{more}")


def _loudness(take: Take, n0: int) -> float:
    """Standard deviation of the loudest channel of a block."""
    x = take.read(n0, min(take.samples, n0 + _AT_ONCE))
    if not np.isfinite(x).all():
        raise BadInput("not_finite", f"{take.name}: holds infinite or not-a-number samples")
    return float(x.std(axis=0).max())


def _of_folder(root: Path) -> list[Take]:
    dinos = next((root / name for name in _DINOS_FOLDERS if (root / name).is_dir()), None)
    tests = [] if dinos is None else list(dinos.parent.glob(f"{_DINOS_TESTS}*"))
    found: list[Take] = []
    for file in sorted(root.rglob("[!.]*")):
        if not any(file.is_relative_to(folder) for folder in tests):
            found += _of_file(file, dinos if dinos is not None and file.is_relative_to(dinos) else root)
    return found


def _of_file(file: Path, root: Path) -> Iterable[Take]:
    if file.suffix.lower() == ".mcap":
        return _recorded(file)
    if file.suffix.lower() not in _SOUND:
        return []
    parts = file.relative_to(root).parts
    take = _sound(file, str(file.relative_to(root)), parts[0] if len(parts) > 1 else root.name)
    return [take] if take.seconds >= SHORTEST_S else []


def _of_csv(path: Path, labels: frozenset[str] | None) -> list[Take]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = {h.strip() for h in next(csv.reader(file), [])}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a UTF-8 CSV file: {error}") from error
    if header >= _DINOS:
        return _dinos(path)
    rows = learning_rows(read_manifest(path))
    rows = [row for row in rows if row.modality != "frames" and (labels is None or row.label in labels)]
    _present(path, [row.path for row in rows])
    return [take for row in rows for take in _of_row(row)]


def _dinos(path: Path) -> list[Take]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        rows = []
        for cells in reader:
            row = {k.strip(): v for k, v in cells.items() if k}
            if any(row[name] is None for name in _DINOS):
                raise BadInput("broken", f"{path}: line {reader.line_num} has fewer cells than the header has names")
            rows.append(row)
    files = [path.parent / row["filepath"] for row in rows]
    _present(path, files)
    found = []
    for row, file in zip(rows, files, strict=True):
        try:
            start = int(row["start_sample"] or 0)
        except ValueError:
            raise ConfigError(f"{path}: start_sample = {row['start_sample']!r} is no whole number") from None
        if start < 0:
            raise ConfigError(f"{path}: start_sample = {start} of {row['filepath']} lies before the file's start")
        sensor = row.get("class_name") or row.get("label") or file.parent.name
        found.append(_sound(file, f"{row['filepath']}@{start}", sensor, start, 1.0))
    return [take for take in found if take.seconds >= SHORTEST_S]


def _present(manifest: Path, files: Sequence[Path]) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise BadInput(
            "missing",
            f"{manifest}: {len(missing)} of {len(files)} files are missing, the first is {missing[0]}; "
            "paths count from the manifest's folder",
        )


def _of_row(row: Row) -> Iterable[Take]:
    if row.path.suffix.lower() in _SOUND:
        first = row.start_s
        take = _sound(row.path, row.name, f"{row.machine}/{row.sensor}", 0, None, row.modality != "vibration")
        if row.rate is not None and abs(row.rate.hz - take.rate.hz) > 1e-6 * take.rate.hz:
            raise BadInput(
                "rate",
                f"{row.name}: the file says {take.rate.hz:g} Hz, the manifest {row.rate.hz:g} Hz; mend one",
            )
        n0 = round(first * take.rate.hz)
        n1 = take.samples if row.end_s is None else min(take.samples, round(row.end_s * take.rate.hz))
        cut = replace(_part(take, n0, n1), source=row.extra.get("source") or row.machine)
        return [cut] if cut.seconds >= SHORTEST_S else []
    clip, source = read_clip(row), row.extra.get("source") or row.machine
    stream, pieces, content = clip.stream, _pieces(row), fingerprint(row.path)
    scale = max(float(np.abs(x).max()) for x in pieces) or 1.0

    def piece(i: int) -> Take:
        def read(n0: int, n1: int) -> Float32:
            return _pieces(row)[i][n0:n1]

        name, sensor = f"{row.name}#{i}", f"{row.machine}/{row.sensor}"
        average, samples = row.modality != "vibration", len(pieces[i])
        first = round(clip.pieces[i].t0_ns * stream.rate.hz / NS)
        return Take(name, sensor, stream.rate, samples, stream.channels, read, source, average, scale, first, content)

    return [piece(i) for i in range(len(pieces))]


@lru_cache(maxsize=256)
def _loaded(path: Path, size: int, changed_ns: int, row: _Key) -> tuple[Float32, ...]:
    del path, size, changed_ns
    return tuple(np.concatenate(list(piece.blocks())) for piece in read_clip(row.row).pieces)


class _Key:
    """A row that hashes by what its samples depend on, so that they can be kept."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def __hash__(self) -> int:
        return hash(self._facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._facts == self._facts

    @property
    def _facts(self) -> tuple[object, ...]:
        row = self.row
        return row.path, row.start_s, row.end_s, row.rate, row.unit, row.scale


def _pieces(row: Row) -> tuple[Float32, ...]:
    facts = row.path.stat()
    return _loaded(row.path, facts.st_size, facts.st_mtime_ns, _Key(row))


def _part(take: Take, n0: int, n1: int) -> Take:
    def read(a: int, b: int) -> Float32:
        return take.read(n0 + a, n0 + b)

    return replace(take, samples=max(0, n1 - n0), read=read, first=take.first + n0)


def _sound(
    file: Path, name: str, sensor: str, start: int = 0, seconds: float | None = None, average: bool = True
) -> Take:
    try:
        info = soundfile.info(str(file))
    except soundfile.LibsndfileError as error:
        raise BadInput("broken", f"{name}: cannot be read as sound: {error}") from error
    end = info.frames if seconds is None else min(info.frames, start + round(seconds * info.samplerate))

    def read(n0: int, n1: int) -> Float32:
        try:
            with soundfile.SoundFile(str(file)) as sound:
                sound.seek(start + n0)
                x: Float32 = sound.read(n1 - n0, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = (start + n0) / info.samplerate
            raise BadInput("broken", f"{name}: is damaged or cut off somewhere after {at:.2f} s: {error}") from error
        if len(x) < n1 - n0:
            raise BadInput("broken", f"{name}: ends {n1 - n0 - len(x)} samples before its header says")
        return x

    return Take(
        name, sensor, Rate(info.samplerate), max(0, end - start), info.channels, read, sensor, average, 1.0,
        start, fingerprint(file),
    )  # fmt: skip


def _recorded(path: Path) -> list[Take]:
    """Uninterrupted stretches of a recording's sensors, held in memory as they were sent."""
    runs: dict[tuple[str, str, int], list[list[Chunk]]] = {}
    for logged in read_recording(path).messages():
        item = logged.message
        if isinstance(item, Chunk) and not logged.preroll:  # that belongs to the file before
            key = (item.stream.machine, *item.stream.key)
            parts = runs.setdefault(key, [])
            if parts and parts[-1][-1].n1 == item.n0:
                parts[-1].append(item)
            else:
                parts.append([item])
    takes = [_run(path, run) for parts in runs.values() for run in parts]
    return [take for take in takes if take.seconds >= SHORTEST_S]


def _run(path: Path, run: Sequence[Chunk]) -> Take:
    stream: Stream = run[0].stream
    x = np.concatenate([chunk.samples for chunk in run])
    scale = np.float32(stream.scale)

    def read(n0: int, n1: int) -> Float32:
        return x[n0:n1].astype(np.float32) * scale

    name = f"{path.name}:{stream.machine}/{stream.sensor}@{run[0].n0}"
    return Take(
        name, f"{stream.machine}/{stream.sensor}", stream.rate, len(x), stream.channels, read, stream.machine,
        stream.modality != "vibration", float(np.iinfo(x.dtype).max * scale) if x.dtype.kind == "i" else 1.0,
        run[0].n0, hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16],
    )  # fmt: skip
