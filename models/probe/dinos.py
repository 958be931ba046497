"""The folder layout of DINOS (doi 10.7910/DVN/FWAZBQ) and its CSV manifests, as files with what a split must know.

``DINOS_Downstreams_train|test/<machine>/<class>/*.wav``, also without the part's folder. Both parts are pooled: the
protocols make their own splits. File names end in a running number; what stands before it is the recording, the number
the second in it. Takes of one moment by two sensors differ by the sensor's name alone: they share group and time.

The authors' anomaly configuration lists the chatter folders of Yornew as normal; here `normal_classes` means the
folders without chatter.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.probe.tasks import CHATTER_PAIRS, MACHINES, TASKS, class_key, task_of
from pipeline.errors import BadInput

RATE_HZ = 48_000
_PARTS = ("DINOS_Downstreams_train", "DINOS_Downstreams_test")
_SENSOR = re.compile(r"[-_ ]*(stethoscope|steth|microphone|mic)(?=[-_ .\d]|$)", re.IGNORECASE)
_NUMBER = re.compile(r"^(?P<stem>.*?)[-_ ]*(?P<number>\d+)$")
_COLUMNS = ("filepath", "start_sample", "label", "class_name")


@dataclass(frozen=True, slots=True)
class File:
    """One file, or one second of it where a manifest names its first sample.

    Attributes:
        path: where it is.
        machine: of `MACHINES`.
        label: task name, T1 to T30.
        condition: the class without the sensor.
        group: the original recording, the same for both sensors.
        sensor: ``stethoscope`` or ``mic``; ``unknown`` where nothing tells.
        second: place of the file's beginning in the recording.
        first_s: where in the file the clip begins; None for the whole file, cut into clips.
    """

    path: Path
    machine: str
    label: str
    condition: str
    group: str
    sensor: str
    second: float
    first_s: float | None = None


def is_dinos_csv(manifest: Path) -> bool:
    """Whether a CSV file has the columns of DINOS rather than those of a manifest of ours."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "filepath" in header and "path" not in header


def read_layout(folder: Path) -> list[File]:
    """All files of the benchmark under `folder` (or its ``Datasets``), by machine, class and name.

    Raises:
        BadInput: no machine of the benchmark is there, or a folder's name cannot be read.
    """
    files = [
        _file(path, machine, classes.name, classes.name)
        for machine, place in _machine_folders(folder)
        for classes in sorted(p for p in place.iterdir() if p.is_dir())
        for path in sorted(classes.glob("[!.]*.wav"))
    ]
    if not files:
        raise BadInput(
            "layout", f"{folder}: holds no DINOS_Downstreams_train or _test with {', '.join(MACHINES)} and WAV files"
        )
    return files


def read_csv(manifest: Path) -> list[File]:
    """A manifest with the columns filepath, start_sample, label, class_name; paths count from its folder.

    The machine is the folder of the path that bears its name.

    Raises:
        BadInput: a column is missing, a number is none, no machine is named, or it has no such class.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("manifest", f"{manifest}: cannot be read as a UTF-8 CSV file: {error}") from error
    missing = [c for c in _COLUMNS if not rows or c not in rows[0]]
    if missing:
        raise BadInput("manifest", f"{manifest}: the column {missing[0]!r} is missing or there are no rows")
    found = []
    for line, row in enumerate(rows, 2):
        try:
            first = int(row["start_sample"]) / RATE_HZ
        except ValueError:
            raise BadInput("manifest", f"{manifest}, line {line}: start_sample must be a whole number") from None
        path = manifest.parent / row["filepath"]
        machine = next((part for part in reversed(path.parts) if part in MACHINES), None)
        if machine is None:
            raise BadInput("manifest", f"{manifest}, line {line}: no folder of {path} is named {' or '.join(MACHINES)}")
        found.append(_file(path, machine, row["class_name"], path.parent.name, first))
    return found


def normal_classes(machine: str) -> frozenset[str]:
    """Tasks that are normal running: for Yornew those without chatter, by the folders' own names."""
    abnormal = {"Yornew": "/y", "RenishawL": "off", "VF2": "off"}
    return frozenset(
        t.name
        for t in TASKS
        if t.machine == machine
        and (t.key.startswith("normal") if machine == "ColdSpray" else not t.key.endswith(abnormal[machine]))
    )


def remarks(machine: str, clips: Mapping[str, int]) -> list[str]:
    """What a reader of a machine's figures should know: counts that are not the published ones, and what is normal.

    Args:
        machine: of `MACHINES`.
        clips: task → clips that were found.
    """
    tasks = [t for t in TASKS if t.machine == machine]
    wrong = [f"{t.name} {clips.get(t.name, 0)} of {t.clips}" for t in tasks if clips.get(t.name, 0) != t.clips]
    found = [f"not the published number of clips: {', '.join(wrong)}"] if wrong else []
    if machine == "Yornew":
        pairs = " and ".join("/".join(pair) for pair in CHATTER_PAIRS)
        found.append(
            f"chatter alone differs in {pairs} only; normal for a detector are "
            f"{', '.join(_sorted(normal_classes(machine)))} (no chatter), the opposite of the authors' configuration"
        )
    return found


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: int(name[1:]))


def _machine_folders(folder: Path) -> list[tuple[str, Path]]:
    roots = [root / part for root in (folder, folder / "Datasets") for part in _PARTS]
    found = [(m, root / m) for m in MACHINES for root in (*roots, folder) if (root / m).is_dir()]
    return list(dict.fromkeys(found))


def _file(path: Path, machine: str, class_name: str, folder: str, first_s: float | None = None) -> File:
    key = class_key(machine, class_name)
    condition = key.split("/")[0] if machine == "ColdSpray" else key
    stem, second = _place(path.stem)
    return File(
        path=path,
        machine=machine,
        label=task_of(machine, key).name,
        condition=condition,
        group=f"{machine}/{condition}/{stem}",
        sensor=_sensor(machine, key, f"{folder} {path.stem}"),
        second=second,
        first_s=first_s,
    )


def _place(stem: str) -> tuple[str, float]:
    """Recording and second of a file's name, its sensor left out."""
    plain = _SENSOR.sub("", stem)
    match = _NUMBER.match(plain)
    return (match["stem"], float(match["number"])) if match else (plain, 0.0)


def _sensor(machine: str, key: str, text: str) -> str:
    if machine == "ColdSpray":
        return key.split("/")[1]
    if machine != "Yornew":
        return "stethoscope"
    match = _SENSOR.search(text)
    if match is None:
        return "unknown"
    return "stethoscope" if match[1].lower().startswith("steth") else "mic"
