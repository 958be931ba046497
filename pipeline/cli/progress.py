"""Progress bars on stderr, so that stdout stays for results."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


def progress_bar(*more: ProgressColumn) -> Progress:
    """A bar that leaves nothing behind."""
    columns = (TextColumn("{task.description}"), BarColumn(), *more, TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
