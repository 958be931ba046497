"""Model packages: a folder with the graph, its card, golden rows, hashes and perhaps a signature.

A package is written whole or not at all and never changed. Loading reads every file once, verifies it, runs the golden
rows, and never unpickles. The digest, SHA-256 of `SHA256SUMS`, is the package's identity in results and decisions.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from models.packages.card import Card, parse
from models.packages.checks import (
    CARD,
    GOLDEN,
    LARGEST,
    MODEL,
    SIGNATURE,
    SUMS,
    Golden,
    check_golden,
    read_files,
    read_golden,
    rows_move,
    sums,
    whole,
)
from models.packages.session import Session
from models.packages.signature import verify as verify_signature
from pipeline.errors import BadInput, StateError
from pipeline.messages import Float32


class Package:
    """A verified model package; made by `load` and `write`.

    Attributes:
        folder: where it was read.
        card: its card.
        digest: SHA-256 of its `SHA256SUMS`, 64 hex digits.
        golden: its golden rows.
        model: the graph, as it was hashed.
        alone: whether each row runs in a padded batch of its own, because this machine gives a row other bits at
            another position of the batch.
        deviation: largest ‖y − golden‖ / ‖golden‖ on this machine.
        signed: whether a signature was verified with the public key that `load` was given.
    """

    def __init__(self, folder: Path, files: dict[str, bytes], signed: bool) -> None:
        self.folder, self.signed = folder, signed
        self.card = parse(files[CARD], str(folder / CARD))
        self.digest = hashlib.sha256(files[SUMS]).hexdigest()
        self.golden: Golden = read_golden(files[GOLDEN], self.card, str(folder / GOLDEN))
        self.model = files[MODEL]
        self._sessions: dict[int, Session] = {}
        session = Session(self.model, self.card)
        self.alone = session.alone = rows_move(session, self.golden)
        self.deviation = check_golden(session, self.golden, str(folder))
        self._sessions[1] = session

    @property
    def size(self) -> int:
        """Bytes of the graph."""
        return len(self.model)

    def session(self, threads: int = 1) -> Session:
        """A session with its golden rows verified; the same one for the same number of threads.

        Raises:
            BadInput: with so many threads the golden rows are not met.
            StateError: the runtime failed.
        """
        if threads < 1:
            raise BadInput("threads", f"a session needs at least one thread, not {threads}")
        if threads not in self._sessions:
            session = Session(self.model, self.card, threads)
            session.alone = rows_move(session, self.golden)
            check_golden(session, self.golden, str(self.folder))
            self._sessions[threads] = session
        return self._sessions[threads]


def load(folder: Path, public_key: str | None = None) -> Package:
    """Read a package and verify all of it.

    Args:
        folder: of the package.
        public_key: minisign public key (its base64 line); with one, a package without its signature is refused.

    Raises:
        StateError: a file is missing, too many, a link, too large, damaged, or of a newer schema; or the runtime
            refuses the graph.
        BadInput: the card contradicts itself or the graph, the golden rows are not met, or the signature is missing
            or not that of `public_key` (reasons ``card``, ``shape``, ``golden``, ``signature``).
        MissingExtra: ONNX Runtime is not installed, or, for a signature, cryptography.
    """
    folder = Path(folder)
    files = read_files(folder)
    if public_key is not None:
        verify_signature(files[SUMS], files.get(SIGNATURE), public_key, str(folder / SIGNATURE))
    return Package(folder, files, signed=public_key is not None)


def write(folder: Path, card: Card, model: bytes, x: Float32, y: Float32 | None = None) -> Package:
    """Write a package, whole or not at all, and load it.

    Args:
        folder: of the package; must not exist, or hold the same package.
        card: its card.
        model: the ONNX graph, its first dimension free under the name ``B``.
        x: 2 to `card.batch` different rows that become golden, float32.
        y: what the model gives for them (first output), each alone in its batch; by default what it gives here.

    Raises:
        BadInput: the card, the graph and the rows contradict each other, or a file would be too large.
        StateError: the folder exists and holds something else, or cannot be written.
    """
    folder = Path(folder)
    card_json = card.json()
    whole(model, str(folder / MODEL))
    x = np.ascontiguousarray(x, np.float32)
    if y is None:
        y = Session(model, card, alone=True).run(x)[card.outputs[0].name]
    golden = io.BytesIO()
    np.savez_compressed(golden, x=x, y=np.ascontiguousarray(y, np.float32))
    files = {CARD: card_json, MODEL: model, GOLDEN: golden.getvalue()}
    files[SUMS] = sums(files)
    for name, data in files.items():
        if len(data) > LARGEST[name]:
            raise BadInput("size", f"{folder / name}: {len(data)} bytes; at most {LARGEST[name]} can be loaded")
    if folder.exists():
        package = load(folder)
        if package.digest != hashlib.sha256(files[SUMS]).hexdigest():
            raise StateError(f"{folder}: holds another package; packages never change, write to a new folder")
        return package
    return _put(folder, files)


def _put(folder: Path, files: dict[str, bytes]) -> Package:
    package = Package(folder, files, signed=False)
    partial = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, data in files.items():
            with (partial / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(partial)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return package


def _sync(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not all file systems sync folders
            os.fsync(handle)
    finally:
        os.close(handle)
