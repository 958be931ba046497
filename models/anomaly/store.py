"""Baselines on disk: a folder each, with ``baseline.json`` and ``arrays.npz``, named after its content.

Folders are written once and never changed; ``baselines.json`` beside them says which one of a sensor is current, so
that older ones stay for rollback and replay.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.anomaly.backends import BACK_ENDS, Bank
from models.anomaly.baseline import SCHEMA, Baseline, Cell, FalseAlarms
from models.anomaly.fusion import Fusion, Member
from models.anomaly.scale import Scale
from pipeline.errors import StateError
from pipeline.messages import Float32, Rate

DOCUMENT = "baseline.json"
ARRAYS = "arrays.npz"
INDEX = "baselines.json"
_INDEX_SCHEMA = 1


def folder_name(baseline: Baseline) -> str:
    """``machine-sensor-hash``, with everything but letters, digits, dot and underscore of the names replaced."""
    names = (re.sub(r"[^\w.]+", "_", name).strip(".") for name in (baseline.machine, baseline.sensor))
    return "-".join((*names, baseline.settings))


def save(baseline: Baseline, root: Path) -> Path:
    """Write a baseline into its own folder under `root`, whole or not at all.

    Writing it again changes nothing, but mends what was damaged meanwhile.
    """
    folder = root / folder_name(baseline)
    if folder.is_dir():
        try:
            load(folder)
        except StateError:
            shutil.rmtree(folder)
        else:
            return folder
    partial = root / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(baseline, partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # of a full disk; what was written in full bears another name now
    return folder


def _write(baseline: Baseline, folder: Path) -> None:
    folder.mkdir(parents=True)
    document = {**baseline.document(), "sha256": baseline.sha256}
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    arrays: dict[str, Any] = {k.replace("/", "__"): v for k, v in baseline.arrays().items()}
    np.savez(folder / ARRAYS, **arrays)
    for path in (folder / DOCUMENT, folder / ARRAYS):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a power cut would leave a folder with its name and without its content


def save_all(baselines: Sequence[Baseline], root: Path) -> list[Path]:
    """Write baselines and make them the current ones of their sensors."""
    root.mkdir(parents=True, exist_ok=True)
    folders = [save(baseline, root) for baseline in baselines]
    index = root / INDEX
    current = _current(index) if index.exists() else {}
    for baseline, folder in zip(baselines, folders, strict=True):
        current[f"{baseline.machine}|{baseline.sensor}"] = folder.name
    partial = index.with_suffix(".partial")
    partial.write_text(
        json.dumps({"schema": _INDEX_SCHEMA, "current": current}, indent=1, sort_keys=True) + "\n", "utf-8"
    )
    partial.replace(index)
    return folders


def load_all(root: Path) -> dict[tuple[str, str], Baseline]:
    """The current baseline of each (machine, sensor) under `root`, or the one that `root` itself is.

    Raises:
        StateError: nothing is there, something is damaged, or was written by a newer version.
    """
    if (root / DOCUMENT).exists():
        folders = [root]
    elif (root / INDEX).exists():
        folders = [root / name for name in _current(root / INDEX).values()]
    else:
        folders = sorted(path.parent for path in root.glob(f"*/{DOCUMENT}"))
    if not folders:
        raise StateError(f"{root}: holds no baseline; make one with 'stethos commission'")
    found: dict[tuple[str, str], Baseline] = {}
    for folder in folders:
        baseline = load(folder)
        key = (baseline.machine, baseline.sensor)
        if key in found:
            raise StateError(f"{root}: holds two baselines of {key[0]}/{key[1]} and no {INDEX} that says which counts")
        found[key] = baseline
    return found


def load(folder: Path) -> Baseline:
    """Read a baseline and verify that it is what it was.

    Raises:
        StateError: a file is missing or damaged, the content is not that of the hash, or the schema is newer.
    """
    document = _json(folder / DOCUMENT, SCHEMA)
    try:
        with (folder / ARRAYS).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name.replace("__", "/"): file[name].astype(np.float32) for name in file.files}
        baseline = _baseline(document, arrays)
        whole = baseline.sha256 == document.get("sha256")
    except Exception as error:  # whatever numpy, archives and our own classes make of what is not theirs
        raise StateError(f"{folder}: is damaged ({error!r}); restore it or commission again") from error
    if not whole:
        raise StateError(f"{folder}: its content does not match its hash; it was changed or damaged, commission again")
    return baseline


def _current(index: Path) -> dict[str, str]:
    current = _json(index, _INDEX_SCHEMA).get("current")
    if not isinstance(current, dict) or not all(isinstance(name, str) for name in current.values()):
        raise StateError(f"{index}: does not name the current baselines; restore it or commission again")
    return current


def _json(path: Path, newest: int) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{path}: cannot be read: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, int):
        raise StateError(f"{path}: names no schema version; it is no file of stethos")
    if schema > newest:
        raise StateError(f"{path}: schema {schema} is newer than {newest}, which this version reads; upgrade stethos")
    assert isinstance(document, dict)
    return document


def _baseline(document: Mapping[str, Any], arrays: Mapping[str, Float32]) -> Baseline:
    cells = tuple(
        {
            name: _cell(cell, {k.split("/", 2)[2]: v for k, v in arrays.items() if k.startswith(f"{i}/{name}/")})
            for name, cell in detectors.items()
        }
        for i, detectors in enumerate(document["cells"])
    )
    return Baseline(
        machine=document["machine"],
        sensor=document["sensor"],
        modality=document["modality"],
        rate=Rate(*document["rate"]),
        channels=document["channels"],
        unit=document["unit"],
        front_end=document["front_end"],
        states=document["states"],
        cells=cells,
        starts=tuple(document["starts"]),
        hours=document["hours"],
        provisional=document["provisional"],
        notes=tuple(document["notes"]),
        versions=document["versions"],
        encoder=document.get("encoder", ""),
        pooling=document.get("pooling", ""),
    )


def _cell(document: Mapping[str, Any], parts: Mapping[str, Float32]) -> Cell:
    members = tuple(
        Member(
            BACK_ENDS[entry["name"]](
                **{k.split("/")[1]: v for k, v in parts.items() if k.startswith(f"{entry['name']}/")}
            ),
            entry["mean"],
            entry["std"],
        )
        for entry in document["back_ends"]
    )
    rates = document["false_alarms"]
    return Cell(
        fusion=Fusion(Scale(parts["median"], parts["spread"]), Bank(parts["bank"]), members),
        threshold=document["threshold"],
        recording_threshold=document["recording_threshold"],
        minute_mean=document["minute_mean"],
        minute_std=document["minute_std"],
        windows=document["windows"],
        starts=document["starts"],
        false_alarms=FalseAlarms(rates["count"], rates["hours"], rates["per_day"], rates["upper"]),
    )
