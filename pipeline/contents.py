"""Recordings by what they hold: what taught is known again under any name and from any folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from pipeline.manifest import Row

CONTENTS = "contents"
"""Key of a card's `training` under which the seconds stand that taught."""
_FINGER = 64 << 10
Contents: TypeAlias = Mapping[str, Sequence[Sequence[float | None]]]
"""Content → [start, end) each, in seconds; an end of None is the file's."""


def fingerprint(path: Path) -> str:
    """What tells two recordings of one name apart, at the price of two short reads: size, beginning and end."""
    facts = path.stat()
    return _ends(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _ends(path: Path, size: int, changed_ns: int) -> str:
    del changed_ns
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(_FINGER))
        file.seek(-min(size, _FINGER), os.SEEK_END)
        found.update(file.read(_FINGER))
    return f"{size}:{found.hexdigest()[:16]}"


def contents_of(rows: Sequence[Row]) -> dict[str, list[list[float | None]]]:
    """The seconds that rows name, by content; rows without a file have none."""
    found: dict[str, list[list[float | None]]] = {}
    for row in rows:
        if row.path.is_file():
            found.setdefault(_content(row), []).append([row.start_s, row.end_s])
    return found


def held(row: Row, contents: Contents) -> bool:
    """Whether a second of the row is among these contents."""
    if not contents or not row.path.is_file():
        return False
    return any(
        (row.end_s is None or (start or 0.0) < row.end_s) and (end is None or row.start_s < end)
        for start, end in contents.get(_content(row), ())
    )


def _content(row: Row) -> str:
    return f"{fingerprint(row.path)} {row.inside}".strip()
