"""What a package's files must be before anything in them is used: present, whole, of bounded size, and no others."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.packages.card import Card
from models.packages.session import Session
from pipeline.errors import BadInput, StateError
from pipeline.messages import Float32

MODEL, CARD, GOLDEN, SUMS, SIGNATURE = "model.onnx", "card.json", "golden.npz", "SHA256SUMS", "SHA256SUMS.minisig"
HASHED = (CARD, GOLDEN, MODEL)
LARGEST: Mapping[str, int] = {
    MODEL: 256 << 20, CARD: 1 << 20, GOLDEN: 64 << 20, SUMS: 4 << 10, SIGNATURE: 4 << 10
}  # fmt: skip
"""Bytes that a file may have."""
_OUTSIDE = re.compile(rb"(?:\x08|\x88[\x80-\xff]{0,8}[\x00-\x1f])location")
"""The key of every reference to another file, after its length as protobuf writes it, or might have been made to."""
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.]+)")


class Golden(NamedTuple):
    """Rows and what the model gave for each, alone in its batch, where it was exported; float32, two or more."""

    x: Float32
    y: Float32


def read_files(folder: Path) -> dict[str, bytes]:
    """The package's files by name, with hashes verified; what is returned is what was hashed.

    Raises:
        StateError: no folder, a file missing, too many, too large, a link, or damaged.
    """
    if not folder.is_dir():
        raise StateError(f"{folder}: is no folder; a model package is a folder with {', '.join((*HASHED, SUMS))}")
    present = {entry.name for entry in os.scandir(folder)}
    for name in (*HASHED, SUMS):
        if name not in present:
            raise StateError(f"{folder}: '{name}' is missing; copy the package again")
    if extra := sorted(present - set(LARGEST)):
        raise StateError(f"{folder}: {extra[0][:80]!r} does not belong to a model package; move it elsewhere")
    files = {name: read_regular(folder / name, LARGEST[name]) for name in sorted(present)}
    for name, digest in _sums(files[SUMS], folder).items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise StateError(f"{folder / name}: does not match its hash in {SUMS}; it was changed or damaged, copy it")
    whole(files[MODEL], str(folder / MODEL))
    return files


def whole(model: bytes, where: str) -> None:
    """Refuse a graph whose tensors lie in other files: its bytes are not all that would run.

    Raises:
        StateError: it names such a file.
    """
    if _OUTSIDE.search(model):  # ONNX Runtime would resolve it against any folder
        raise StateError(f"{where}: refers to data outside the package; export it as one file")


def sums(files: Mapping[str, bytes]) -> bytes:
    """`SHA256SUMS` as ``sha256sum`` writes it, in order of the names."""
    return b"".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode() for name in HASHED)


def _sums(data: bytes, folder: Path) -> dict[str, str]:
    lines = data.decode("ascii", "replace").splitlines()
    found = {m[2]: m[1] for line in lines if (m := _LINE.fullmatch(line))}
    if len(lines) != len(HASHED) or set(found) != set(HASHED):
        raise StateError(f"{folder / SUMS}: must hold one line each for {', '.join(HASHED)}; copy the package again")
    return found


def read_regular(path: Path, largest: int) -> bytes:
    """A regular file of bounded size; never through a link, not even one that replaces the file meanwhile.

    Raises:
        StateError: it is missing, too large, a link or no regular file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - of a descriptor
            told = os.fstat(handle)
            if not stat.S_ISREG(told.st_mode):
                raise StateError(f"{path}: is no regular file")
            if told.st_size > largest:
                raise StateError(f"{path}: {told.st_size} bytes; at most {largest} are read")
            return file.read(largest)
    except OSError as error:
        linked = path.is_symlink()
        raise StateError(f"{path}: {'is a link; a package holds its files itself' if linked else error}") from error


def read_golden(data: bytes, card: Card, where: str) -> Golden:
    """The golden rows.

    Raises:
        StateError: no archive of the arrays `x` and `y`, or larger than it may be.
        BadInput: shapes that the card does not have, fewer than two rows, equal rows, numbers that are not finite.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info.file_size for info in archive.infolist()}
        if set(members) != {"x.npy", "y.npy"} or sum(members.values()) > LARGEST[GOLDEN]:
            raise StateError(f"{where}: must hold the arrays x and y and nothing else")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            x, y = file["x"], file["y"]
    except StateError:
        raise
    except Exception as error:  # archive, compression and header have no common base for what damage leads to
        raise StateError(f"{where}: cannot be read: {str(error)[:200]}") from error
    for name, a, shape in (("x", x, card.input.shape), ("y", y, card.outputs[0].shape)):
        if a.dtype != np.float32 or a.shape[1:] != shape or a.ndim == 0:
            raise BadInput("golden", f"{where}: {name} must be float32 of shape (n, {str(shape)[1:-1]}), not {a.dtype} "
                           f"{a.shape}")  # fmt: skip
        if not np.isfinite(a).all():
            raise BadInput("golden", f"{where}: {name} holds infinite or not-a-number values")
    if len(x) != len(y) or len(x) < 2 or len(x) > card.batch or len(np.unique(x.reshape(len(x), -1), axis=0)) < len(x):
        raise BadInput("golden", f"{where}: needs 2 to {card.batch} different rows, as many in x as in y")
    return Golden(x, y)


def check_golden(session: Session, golden: Golden, where: str) -> float:
    """Compare what the model gives here with what it gave where it was exported.

    Returns:
        The largest ‖y − golden‖ / ‖golden‖ of a row.

    Raises:
        BadInput: it is larger than the card's tolerance.
    """
    y = session.run(golden.x)[session.card.outputs[0].name].astype(np.float64).reshape(len(golden.x), -1)
    wanted = golden.y.astype(np.float64).reshape(y.shape)
    error = np.linalg.norm(y - wanted, axis=1) / np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)
    worst = float(error.max()) if np.isfinite(error).all() else float("inf")
    if worst > session.card.tolerance:
        raise BadInput(
            "golden",
            f"{where}: golden rows deviate by {worst:.2g} (relative norm), tolerated are {session.card.tolerance:g}: "
            "this processor or version of ONNX Runtime computes the model otherwise",
        )
    return worst


def rows_move(session: Session, golden: Golden) -> bool:
    """Whether a golden row's bits depend on its position in the batch, on the rows beside it, or on padding."""
    batch, n = session.card.batch, len(golden.x)
    padded = np.zeros((batch, *session.card.input.shape), np.float32)
    padded[:1] = golden.x[:1]
    first = None
    for shift in range(batch):  # every golden row visits every position, each time beside others
        order = (np.arange(batch) + shift) % n
        ys = session.batch(np.ascontiguousarray(golden.x[order]))
        if first is None:
            first = [[y[i].tobytes() for i in range(n)] for y in ys]
            if any(y[0].tobytes() != rows[0] for y, rows in zip(session.batch(padded), first, strict=True)):
                return True
        for y, rows in zip(ys, first, strict=True):
            if any(y[i].tobytes() != rows[row] for i, row in enumerate(order)):
                return True
    return False
