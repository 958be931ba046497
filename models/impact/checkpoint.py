"""Checkpoints of a training run: tensors as safetensors, the rest as JSON, written whole or not at all.

A checkpoint is a folder ``step-00001500`` with ``state.safetensors`` and ``state.json``; the latter holds the hash of
the former. It is written under another name and renamed at the end, so that a run killed at any moment loses at most
what came after the last one. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.impact.network import Encoder, Size
from pipeline.errors import BadInput, StateError

FORMAT = 1
KEEP = 2
"""Checkpoints that stay; older ones are deleted."""


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a step and delete those before the last two.

    Args:
        folder: of the run.
        step: steps done.
        tensors: by name.
        facts: JSON values.

    Raises:
        StateError: it cannot be written; those before stay.
    """
    final = folder / f"step-{step:08d}"
    for left in folder.glob(".step-*.new"):  # of a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    new = folder / f".{final.name}.new"
    try:
        _write(new, step, tensors, facts)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(new, final)  # noqa: PTH105 - the atomic one
        _sync(folder)
    except (OSError, SafetensorError) as error:
        mend = "make room or mend the folder, and run the same command: it goes on from the checkpoint before"
        raise StateError(f"{final}: cannot be written: {error}; {mend}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    for old in _found(folder)[:-KEEP]:
        shutil.rmtree(old)
    return final


def _write(new: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    new.mkdir(parents=True)
    save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, new / "state.safetensors")
    digest = hashlib.sha256((new / "state.safetensors").read_bytes()).hexdigest()
    note = {"format": FORMAT, "step": step, "sha256": digest, **facts}
    (new / "state.json").write_text(json.dumps(note, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for part in new.iterdir():
        _sync(part)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a run; None before the first."""
    found = _found(folder)
    return found[-1] if found else None


def load(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a checkpoint.

    Raises:
        BadInput: there is none.
        StateError: it is damaged or of a newer format.
    """
    note, data = checkpoint / "state.json", checkpoint / "state.safetensors"
    if not note.is_file() or not data.is_file():
        raise BadInput("missing", f"{checkpoint}: is no checkpoint; it lacks state.json or state.safetensors")
    try:
        facts = json.loads(note.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not {"step", "settings", "size", "data"} <= facts.keys():
            raise ValueError("state.json is not what stethos writes")
        if facts["format"] > FORMAT:
            raise StateError(f"{checkpoint}: format {facts['format']} is newer than this program's: update stethos")
        if hashlib.sha256(data.read_bytes()).hexdigest() != facts["sha256"]:
            raise StateError(f"{data}: its hash is not the one that state.json names: the file is damaged; delete it")
        return load_file(data), facts
    except (ValueError, KeyError, SafetensorError) as error:
        raise StateError(f"{checkpoint}: is damaged: {error}; delete it") from error


def size_facts(size: Size) -> dict[str, Any]:
    """A size as JSON values."""
    return asdict(size)


def load_encoder(run: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder that a run's newest checkpoint holds (or the checkpoint `run` itself), ready to embed.

    Returns:
        The student's encoder in evaluation mode, and the checkpoint's facts.

    Raises:
        BadInput: there is no checkpoint.
        StateError: it is damaged.
    """
    checkpoint = run if (run / "state.json").is_file() else newest(run)
    if checkpoint is None:
        raise BadInput(
            "missing", f"{run}: holds no checkpoint; name the folder of a training run, such as OUT.training"
        )
    tensors, facts = load(checkpoint)
    encoder = Encoder(Size(**facts["size"]))
    prefix = "student.encoder."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return encoder.eval(), facts


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
