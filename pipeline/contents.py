"""Recordings by what they hold: what taught is known again under any name and from any folder."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.manifest import Row

CONTENTS = "contents"
"""Key of a card's `training` under which the seconds stand that taught."""
_CUT = "cut"
"""Key of a card's `training` under which stands how many of what there were it names, where it had no room."""
_ROOM = 896 << 10
"""Bytes for what grows with the recordings; a card may have 1 MiB."""
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
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
            found.setdefault(_named(row, _digest(row.path)), []).append([row.start_s, row.end_s])
    return found


def held(row: Row, contents: Contents) -> bool:
    """Whether a second of the row is among these contents."""
    if not contents or not row.path.is_file():
        return False
    return any(
        (row.end_s is None or (start or 0.0) < row.end_s) and (end is None or row.start_s < end)
        for content in (_digest(row.path), fingerprint(row.path))  # cards without digests hold fingerprints
        for start, end in contents.get(_named(row, content), ())
    )


def fitted(training: Mapping[str, Any], room: int = _ROOM) -> dict[str, Any]:
    """What a card says of the training, with the last notes, groups and contents for which it has room.

    Args:
        training: has notes, groups and contents.
        room: bytes for the three together.
    """
    found, cut = dict(training), {}
    for key, most in (("notes", room // 8), ("groups", room // 4), (CONTENTS, room)):
        mapped = isinstance(training[key], Mapping)
        items = list(training[key].items() if mapped else training[key])
        sizes = (len(_JSON.encode(item).encode()) + 1 for item in reversed(items))
        sums = [0, *accumulate(sizes)]
        count = bisect_right(sums, min(most, room)) - 1
        room -= sums[count]
        if count < len(items):
            some = items[len(items) - count :]
            found[key], cut[key] = dict(some) if mapped else some, [count, len(items)]
    return found | ({_CUT: cut} if cut else {})


def cut_short(training: Mapping[str, Any]) -> str:
    """A sentence about what a card had no room for; empty if it names all that taught."""
    cut: Mapping[str, Sequence[int]] = training.get(_CUT, {})
    if not cut:
        return ""
    named = ", ".join(f"{count} of {of} {key}" for key, (count, of) in cut.items())
    return f"The head's card had room for {named}: what it does not name is not known again as what taught it."


def _named(row: Row, content: str) -> str:
    return f"{content} {row.inside}".strip()


def _digest(path: Path) -> str:
    facts = path.stat()
    return _whole(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1 << 16)  # a manifest may name many parts of many files in any order
def _whole(path: Path, size: int, changed_ns: int) -> str:
    del size, changed_ns
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
