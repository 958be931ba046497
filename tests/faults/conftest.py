"""A disk that can be filled up."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

MEGABYTE = 1_000_000


class Disk:
    """A folder on a disk of 24 MB of its own, or one that behaves so where we may not mount."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        self._mounted = False
        folder.mkdir()
        if os.geteuid() == 0:
            line = ["mount", "-t", "tmpfs", "-o", "size=24m", "stethos-test", str(folder)]
            self._mounted = subprocess.run(line, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Leave not a byte."""
        if not self._mounted:
            self._pretend()
            return
        with (self.folder / "filler").open("ab", buffering=0) as file:
            for size in (MEGABYTE, 4096, 1):
                with suppress(OSError):  # no space left
                    while file.write(b"\0" * size):
                        pass

    def free(self) -> None:
        """Give the space back."""
        self._patch.undo()
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount."""
        self._patch.undo()
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, capture_output=True)

    def _pretend(self) -> None:
        import sqlite3

        from pipeline.recording.recorder import _Disk
        from pipeline.state_file import Connection

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        ours, execute = Path.open, Connection.execute

        def opened(path: Path, mode: str = "r", *args: object, **more: object) -> object:
            if path.is_relative_to(self.folder) and mode[0] in "wax":
                refuse()
            return ours(path, mode, *args, **more)  # type: ignore[call-overload]

        def executed(connection: Connection, *args: str) -> sqlite3.Cursor:
            if args[0].startswith("COMMIT") and Path(connection.path).is_relative_to(self.folder):
                raise connection.told(sqlite3.OperationalError("database or disk is full"))
            return execute(connection, *args)

        for name in ("write", "sync", "__init__"):
            self._patch.setattr(_Disk, name, refuse)
        self._patch.setattr(Path, "open", opened)
        self._patch.setattr(Connection, "execute", executed)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small disk, empty."""
    with pytest.MonkeyPatch.context() as patch:
        made = Disk(tmp_path / "disk", patch)
        yield made
        made.close()
