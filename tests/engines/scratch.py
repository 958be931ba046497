"""Folders that last as long as this process, for packages that many tests read."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path


def scratch(what: str) -> Path:
    """The one for this, made when first asked for: a process that asks for none, and is killed, leaves none behind."""
    return Path(_made(what).name)


@cache
def _made(what: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f"stethos-{what}-")  # removed at this process' exit
