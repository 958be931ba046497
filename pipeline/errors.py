"""Errors that cross a boundary; each says what is wrong, where, and how to mend it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout, or where packages are installed."""


def adding(extra: str) -> str:
    """How an extra is added to what runs: a checkout, or an installed wheel."""
    if (ROOT / "pyproject.toml").exists():
        return f"in the folder of stethos: .venv/bin/uv pip install --python .venv/bin/python -e '.[{extra}]'"
    return f"{shlex.quote(sys.executable)} -m pip install 'stethos[{extra}]'"


class StethosError(Exception):
    """Anything that stethos raises on purpose."""


class ConfigError(StethosError):
    """The configuration cannot be used: names the file, the key and the mend."""


class DecodeError(StethosError):
    """Bytes that are no message of a known version; `reason` is a bounded label for metrics and dead letters."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the label apart from the sentence."""
        super().__init__(detail)
        self.reason = reason


class BadInput(StethosError):
    """A file, an array or a message whose content cannot be used; `reason` is a bounded label."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the label apart from the sentence."""
        super().__init__(detail)
        self.reason = reason


class SourceError(StethosError):
    """A source cannot go on: device gone, file unreadable."""


class SinkBusy(StethosError):
    """A sink cannot take more for now; try again after `retry_after_s`."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        """Carry the sink's own wish for how long to wait."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class SinkWaits(SinkBusy):
    """A sink waits for what comes by itself: nothing is wrong."""


class SinkRejected(StethosError):
    """A sink will never take these records (malformed, unauthorised): retrying the same bytes is useless."""


class StateError(StethosError):
    """Durable state is damaged or was written by a newer version."""


class MissingExtra(StethosError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, what: str, how: str = "") -> None:
        """Name the extra that brings it, or how else to get it."""
        super().__init__(f"{what} needs the extra '{extra}'; {how or adding(extra)}")
        self.extra = extra
