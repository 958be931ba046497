"""Model packages at hand in this process: found by their digest, verified once, and kept loaded.

A package that was in force stays loaded, so that going back to it needs no disk. What a process inherits or is sent
holds paths alone: the runtime's sessions are made in the process that uses them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StateError

if TYPE_CHECKING:
    from models.packages import Package

KEPT = "models"
"""Folder in the state directory for packages that decisions name."""
_SUMS = "SHA256SUMS"


class Shelf:
    """Packages by digest.

    Args:
        search: folders of packages, or of folders of packages.
        public_key: minisign key with which every package must be signed.
    """

    def __init__(self, search: Iterable[Path] = (), public_key: str | None = None) -> None:
        self._search = tuple(search)
        self._public_key = public_key
        self._paths: dict[str, Path] = {}
        self._loaded: dict[str, Package] = {}
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}}

    def hint(self, digest: str, folder: Path) -> None:
        """Say where a package should lie."""
        self._paths.setdefault(digest, folder)

    def add(self, folder: Path) -> Package:
        """Load the package in a folder, or the one that ships, where `folder` is a bare name.

        Raises:
            StateError: missing or damaged.
            BadInput: its card, graph and golden rows contradict each other, or it is not signed.
        """
        from models.packages import load  # ONNX Runtime only where a model runs

        folder = shipped(folder)
        digest = digest_of(folder)
        known = self._mine().get(digest) if digest else None
        package = known or load(folder, self._public_key)
        self._paths[package.digest] = folder
        return self._mine().setdefault(package.digest, package)

    def get(self, digest: str) -> Package:
        """The package of this digest.

        Raises:
            StateError: it is nowhere, or damaged.
        """
        found = self._mine().get(digest)
        if found is not None:
            return found
        damaged: StateError | None = None
        for folder in self._places(digest):
            if digest_of(folder) == digest:
                try:
                    return self.add(folder)
                except StateError as error:
                    damaged = damaged or error
        if damaged is not None:
            raise damaged
        places = ", ".join(str(p) for p in dict.fromkeys([*self._paths.values(), *self._search])) or "nowhere"
        raise StateError(
            f"the model package {digest[:16]} is not found; looked in {places}: copy the package there, or name its "
            "folder under [models] search"
        )

    def _mine(self) -> dict[str, Package]:
        if self._pid != os.getpid():  # inherited by a fork
            self._loaded, self._pid = {}, os.getpid()
        return self._loaded

    def _places(self, digest: str) -> Iterator[Path]:
        if digest in self._paths:
            yield self._paths[digest]
        for root in self._search:
            yield root
            if root.is_dir():
                yield from sorted(path.parent for path in root.glob(f"*/{_SUMS}"))


def shipped(folder: Path) -> Path:
    """A folder as it is; a bare name that is no folder here is that of a package that ships with stethos."""
    from models.packages.shipped import WEIGHTS

    bare = str(folder) == folder.name and not folder.exists()
    return WEIGHTS / folder if bare and (WEIGHTS / folder).is_dir() else folder


def digest_of(folder: Path) -> str:
    """The digest that a folder's package claims to have; empty where there is none. `load` verifies it."""
    from models.packages.checks import LARGEST, read_regular

    try:
        return hashlib.sha256(read_regular(folder / _SUMS, LARGEST[_SUMS])).hexdigest()
    except StateError:
        return ""


def keep(package: Package, copies: Path) -> Path:
    """Copy a package under its digest, so that what decisions name lasts as long as the state; returns the folder.

    Raises:
        StateError: it cannot be copied.
    """
    from models.packages.checks import read_files

    folder = copies / package.digest[:16]
    if digest_of(folder) == package.digest:
        with contextlib.suppress(StateError):
            read_files(folder)
            return folder
    partial = copies / f".{folder.name}.{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(package.folder, partial)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged copy
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StateError(f"{folder}: the package cannot be kept: {error}") from None
    return folder
