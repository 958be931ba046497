"""Results that outlive an interruption: one file per cell of the experiment, written whole or not at all."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.errors import StateError


class Cells:
    """The cells of one experiment in one folder.

    Args:
        folder: made if it is not there.
        identity: what all cells depend on (sounds, settings); another folder is needed for another experiment.

    Raises:
        StateError: the folder holds cells of another experiment.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        own = self.get("experiment")
        if own is None:
            self.put("experiment", identity)
        elif own != json.loads(json.dumps(identity)):
            differs = sorted(k for k in {*own, *identity} if own.get(k) != json.loads(json.dumps(identity.get(k))))
            raise StateError(f"{folder} holds cells of another experiment ({', '.join(differs)}): use another --out")

    def get(self, name: str) -> dict[str, Any] | None:
        """What was stored under that name, or None."""
        path = self._path(name)
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def put(self, name: str, content: dict[str, Any]) -> None:
        """Store, on disk before this returns."""
        path = self._path(name)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)  # noqa: PTH105 - atomic, whatever is there

    def count(self) -> int:
        """Cells on disk."""
        return len(list(self.folder.glob("*.json"))) - 1

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '_')}.json"


def seed_of(*path: object) -> int:
    """A seed of its own for each named part of the experiment, below 2^31."""
    return int.from_bytes(sha256("|".join(map(str, path)).encode()).digest()[:4], "big") >> 1
