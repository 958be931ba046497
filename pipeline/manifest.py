"""Manifests: CSV files that say what recordings are, so that nothing is learned or judged from a guess.

Columns (UTF-8, comma): `path` (relative to the CSV), `label`, `group` (never split: recording, start, specimen), and
optionally `machine`, `sensor`, `modality`, `rate_hz` (or `sample_rate`), `unit`, `scale`, `state`, `start_s`, `end_s`,
`split`, `spindle_rpm`, `teeth`, `onset_s`, `crop_x`, `crop_y`, `crop_w`, `crop_h`. Others are kept in `extra`.

In place of a CSV file stands a folder of sound files, `LABEL/FILE` or `LABEL/GROUP/FILE`.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from connectors.rates import exact_rate
from pipeline.errors import ConfigError
from pipeline.messages import Modality, Rate


class Labels(frozenset[str]):
    """Labels whose case does not matter."""

    def __contains__(self, label: object) -> bool:
        return isinstance(label, str) and any(label.casefold() == mine.casefold() for mine in self)


NORMAL_LABELS = Labels({"normal", "good", "healthy", "stable"})
SPLITS = frozenset({"train", "validation", "test"})
MODALITIES: Mapping[str, Modality] = {
    "acoustic": "acoustic",
    "audio": "acoustic",
    "sound": "acoustic",
    "stethoscope": "stethoscope",
    "vibration": "vibration",
    "frames": "frames",
    "image": "frames",
}
_BY_SUFFIX: Mapping[str, Modality] = {
    ".wav": "acoustic",
    ".flac": "acoustic",
    ".npz": "vibration",
    ".csv": "vibration",
    ".png": "frames",
    ".jpg": "frames",
    ".jpeg": "frames",
}
_SOUND = frozenset({".wav", ".flac"})
_OTHER_SOUND = frozenset({".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff", ".mcap"})
_REQUIRED = ("path", "label", "group")
_LEAST_HZ, _MOST_HZ = Fraction(1, 1000), 100_000_000
_KNOWN = frozenset(
    {*_REQUIRED, "machine", "sensor", "modality", "rate_hz", "sample_rate", "unit", "scale", "state", "start_s"}
    | {"end_s", "split", "spindle_rpm", "teeth", "onset_s", "crop_x", "crop_y", "crop_w", "crop_h"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One recording of a manifest.

    Attributes:
        name: the path as the manifest writes it.
        path: where the file is.
        label: what it shows.
        group: what must not be split.
        machine: ``"machine"`` where the manifest names none.
        sensor: the modality where the manifest names none.
        modality: by the file's suffix where the manifest names none.
        rate: None where the manifest does not tell.
        unit: of the file's numbers times `scale`; empty where the manifest does not tell.
        scale: unit per count, as in a sensor's configuration; None where the manifest does not tell.
        state: operating state; empty for a machine with one.
        start_s: first second of the file that counts.
        end_s: where it stops counting; None for the file's end.
        split: ``"train"``, ``"validation"``, ``"test"``, or empty for an unsplit row.
        spindle_rpm: None where not told.
        teeth: of the tool; None where not told.
        onset_s: when the event begins, in seconds of the file; None without one.
        crop: (x, y, w, h) in pixels; None for the whole image.
        extra: unknown columns.
    """

    name: str
    path: Path
    label: str
    group: str
    machine: str
    sensor: str
    modality: Modality
    rate: Rate | None = None
    unit: str = ""
    scale: float | None = None
    state: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    split: str = ""
    spindle_rpm: float | None = None
    teeth: int | None = None
    onset_s: float | None = None
    crop: tuple[int, int, int, int] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def inside(self) -> str:
        """Which part of the file it is: machine/sensor of a recording in MCAP; empty for others, read as a whole."""
        return f"{self.machine}/{self.sensor}" if self.path.suffix.lower() == ".mcap" else ""

    def cells(self) -> dict[str, str]:
        """Columns whose values can be classes, as text; empty where the manifest does not tell."""
        numbers = {"spindle_rpm": self.spindle_rpm, "teeth": self.teeth}
        told = {name: "" if value is None else f"{value:g}" for name, value in numbers.items()}
        named = ("label", "group", "machine", "sensor", "modality", "unit", "state", "split")
        return {name: str(getattr(self, name)) for name in named} | told | dict(self.extra)


Group: TypeAlias = str | tuple[str, str, str]
"""A group that was learned from, of every sensor; or as (machine, sensor, group) that of one."""


def read_manifest(path: Path) -> list[Row]:
    """All rows of a manifest, in order; of a folder those of its WAV and FLAC files.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or a cell has no sense; says where and how to mend it.
    """
    if path.is_dir():
        return _of_folder(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [h.strip() for h in reader.fieldnames or []]
            missing = [c for c in _REQUIRED if c not in header]
            if missing:
                apart = " (separate columns by commas)" if {";", "\t"} & set("".join(header)) else ""
                raise ConfigError(
                    f"{path}: the column {missing[0]!r} is missing; a manifest needs path,label,group{apart}"
                )
            reader.fieldnames = header
            cells = [(reader.line_num, _cells(path, reader.line_num, row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a UTF-8 CSV file: {error}") from error
    rows = [_Cells(path, line, values).row() for line, values in cells if any(values.values())]
    if not rows:
        raise ConfigError(f"{path}: has no rows; add one per recording")
    return rows


def _of_folder(folder: Path) -> list[Row]:
    """Rows of `LABEL/FILE` and `LABEL/GROUP/FILE`.

    Without a folder for the group all files of a label are one: nothing tells whether they are pieces of one recording.
    """
    rows: list[Row] = []
    others: dict[str, Path] = {}
    for file in _files(folder):
        parts = file.relative_to(folder).parts
        suffix = file.suffix.lower()
        if suffix in _OTHER_SOUND and len(parts) > 1:
            others.setdefault(parts[0], file)
        if suffix not in _SOUND:
            continue
        if len(parts) == 1:
            raise ConfigError(f"{file}: lies in no folder that says what it shows; put it into {folder}/LABEL")
        group = "/".join(parts[1:-1]) or parts[0]
        rows.append(Row("/".join(parts), file, parts[0], group, "machine", "acoustic", "acoustic"))
    for label in sorted(set(others) - {row.label for row in rows}):
        raise ConfigError(f"{others[label]}: folders are read for WAV and FLAC alone, and {label!r} holds none")
    if not rows:
        raise ConfigError(f"{folder}: holds no WAV or FLAC file; put them into {folder}/LABEL, or name a CSV manifest")
    return rows


def _files(folder: Path) -> list[Path]:
    """Files below a folder, by name, also behind links; hidden ones are left out.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(place).resolve()
        # a link to a folder that holds it would be followed for ever
        folders[:] = [f for f in folders if f[0] != "." and not here.is_relative_to((here / f).resolve())]
        found += [Path(place, name) for name in names if name[0] != "."]
    return sorted(found)


def _cells(path: Path, line: int, row: Mapping[str | None, Any]) -> dict[str, str]:
    """A line's cells by column; what a spreadsheet leaves empty behind the last column does not count."""
    if any((cell or "").strip() for cell in row.get(None) or ()):
        raise ConfigError(
            f"{path}, line {line} has more cells than the header; a path or label with a comma in it stands in quotes"
        )
    return {column: (cell or "").strip() for column, cell in row.items() if column}


def is_split(rows: Sequence[Row]) -> bool:
    """Whether the manifest says which rows learn and which are scored."""
    return any(row.split for row in rows)


def learning_rows(rows: Sequence[Row]) -> list[Row]:
    """Rows that commission or train: those with ``split=train``, or, where none is marked so, those without a split."""
    return [row for row in rows if row.split == "train"] or [row for row in rows if not row.split]


def scoring_rows(rows: Sequence[Row], used: Collection[Group] = ()) -> list[Row]:
    """Rows that are scored: those with ``split=test``, or of an unsplit manifest those whose group was not learned."""
    if is_split(rows):
        return [row for row in rows if row.split == "test"]
    return [row for row in rows if not was_learned(row, used)]


def was_learned(row: Row, used: Collection[Group]) -> bool:
    """Whether a row's group is among those that were learned from."""
    return row.group in used or (row.machine, row.sensor, row.group) in used


def torn_groups(rows: Sequence[Row]) -> list[str]:
    """Groups that stand in more than one split: their scores flatter whatever learned from them."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        if row.split:
            splits.setdefault(row.group, set()).add(row.split)
    return sorted(group for group, found in splits.items() if len(found) > 1)


def alike(labels: Collection[str]) -> str:
    """A sentence about two labels that differ in case alone, which would be two classes; empty if all is well."""
    seen: dict[str, str] = {}
    for label in sorted(labels):
        if (other := seen.setdefault(label.casefold(), label)) != label:
            return f"the labels '{other}' and '{label}' differ in case alone; write one of them throughout"
    return ""


def torn_recordings(rows: Sequence[Row], classes: bool = False, by_sensor: bool = False) -> str:
    """A sentence about two rows of the same seconds of a recording in different groups or splits; empty if all is well.

    What learns from the one row is judged by the other, whatever the groups promise. Only a recording in MCAP holds
    several sensors; of any other file all rows hear the same.

    Args:
        rows: of a manifest.
        classes: whether labels are what is learned: then the same seconds must not have two.
        by_sensor: whether each sensor learns from its own rows alone: then two may hear the same.
    """
    files: dict[tuple[Path, str], list[Row]] = {}
    for row in rows:
        shared = f"{row.machine}/{row.sensor}" if by_sensor else row.inside
        files.setdefault((row.path.resolve(), shared), []).append(row)
    for same in files.values():
        same.sort(key=lambda row: row.start_s)
        for i, one in enumerate(same):
            for other in same[i + 1 :]:
                if one.end_s is not None and other.start_s >= one.end_s:
                    break
                if (one.group, one.split) != (other.group, other.split):
                    sides = " and as ".join(f"group '{r.group}' {r.split}".strip() for r in (one, other))
                    return f"the same seconds of {one.name} stand in it twice, as {sides}"
                if classes and one.label != other.label:
                    return f"the same seconds of {one.name} are labelled '{one.label}' and '{other.label}'"
    return ""


class _Cells:
    """One line of the file, with errors that say where they stand."""

    def __init__(self, manifest: Path, line: int, cells: dict[str, str]) -> None:
        self.manifest, self.line, self.cells = manifest, line, cells

    def row(self) -> Row:
        name = self._needed("path")
        path = self.manifest.parent / name
        modality = self._modality(path)
        start_s, end_s = self._number("start_s") or 0.0, self._number("end_s")
        if start_s < 0.0 or (end_s is not None and end_s <= start_s):
            raise self._wrong("end_s", "must lie after start_s, and neither below 0")
        teeth = self._number("teeth")
        return Row(
            name=name,
            path=path,
            label=self._needed("label"),
            group=self.cells["group"] or name,
            machine=self.cells.get("machine") or "machine",
            sensor=self.cells.get("sensor") or modality,
            modality=modality,
            rate=self._rate(),
            unit=self.cells.get("unit", ""),
            scale=self._scale(),
            state=self.cells.get("state", ""),
            start_s=start_s,
            end_s=end_s,
            split=self._split(),
            spindle_rpm=self._number("spindle_rpm"),
            teeth=None if teeth is None else round(teeth),
            onset_s=self._number("onset_s"),
            crop=self._crop(),
            extra={k: v for k, v in self.cells.items() if k not in _KNOWN},
        )

    def _needed(self, column: str) -> str:
        if not self.cells[column]:
            raise self._wrong(column, "must not be empty")
        return self.cells[column]

    def _modality(self, path: Path) -> Modality:
        text = self.cells.get("modality", "").lower()
        if not text:
            if path.suffix.lower() not in _BY_SUFFIX:
                raise self._wrong("modality", f"cannot be told from {path.name}; name one of {', '.join(MODALITIES)}")
            return _BY_SUFFIX[path.suffix.lower()]
        if text not in MODALITIES:
            raise self._wrong("modality", f"must be one of {', '.join(MODALITIES)}")
        return MODALITIES[text]

    def _split(self) -> str:
        text = self.cells.get("split", "").lower()
        if text in {"", "open"}:
            return ""
        if text not in SPLITS:
            raise self._wrong("split", "must be train, validation, test or open")
        return text

    def _rate(self) -> Rate | None:
        column = "rate_hz" if self.cells.get("rate_hz") else "sample_rate"
        text = self.cells.get(column, "")
        if text.lower() in {"", "unknown", "nan"}:
            return None
        try:
            told = Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise self._wrong(column, "must be a number of hertz") from None
        if told <= 0:
            raise self._wrong(column, "must be positive")
        if not _LEAST_HZ <= told <= _MOST_HZ:
            raise self._wrong(column, f"must lie between {float(_LEAST_HZ):g} and {_MOST_HZ:g} Hz")
        return Rate(told.numerator, told.denominator) if "/" in text else exact_rate(float(told), column)

    def _scale(self) -> float | None:
        scale = self._number("scale")
        if scale is not None and scale <= 0.0:
            raise self._wrong("scale", "must be positive: what one count is in the row's unit")
        return scale

    def _number(self, column: str) -> float | None:
        text = self.cells.get(column, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise self._wrong(column, "must be a number") from None
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise self._wrong(column, "must be finite")
        return value

    def _crop(self) -> tuple[int, int, int, int] | None:
        x, y, w, h = (self._number(f"crop_{side}") for side in "xywh")
        if x is None and y is None and w is None and h is None:
            return None
        if x is None or y is None or w is None or h is None:
            raise self._wrong("crop_x", "needs crop_y, crop_w and crop_h beside it")
        if x < 0 or y < 0 or w <= 0 or h <= 0:
            raise self._wrong("crop_w", "must describe a rectangle inside the image")
        return round(x), round(y), round(w), round(h)

    def _wrong(self, column: str, mend: str) -> ConfigError:
        return ConfigError(f"{self.manifest}, line {self.line}, {column} = {self.cells.get(column, '')!r}: {mend}")
