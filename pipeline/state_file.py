"""SQLite as the durable state uses it: what is the file's fault is a StateError, wherever SQLite notices it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from pipeline.errors import StateError


class _Cursor(sqlite3.Cursor):
    """Rows of a damaged file fail when they are fetched, not when they are asked for."""

    connection: Connection

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except sqlite3.DatabaseError as error:
            raise self.connection.told(error) from None

    def fetchone(self) -> Any:
        """As `sqlite3.Cursor.fetchone`."""
        try:
            return super().fetchone()
        except sqlite3.DatabaseError as error:
            raise self.connection.told(error) from None


class Connection(sqlite3.Connection):
    """Says as a StateError what SQLite cannot do: disk full or gone, file locked, read-only or damaged.

    Raises:
        StateError: the file, or one of the two beside it, may not be written. SQLite is not asked then: it would make
            the missing ones with the same mode, and they would stay.
    """

    path: Path | str = "the state"

    def __init__(self, path: Path | str, *args: Any, **more: Any) -> None:
        for file in (Path(f"{path}{end}") for end in ("", "-wal", "-shm")):
            if file.exists() and not os.access(file, os.W_OK):
                raise StateError(f"{file}: may not be written; give it back to the user whose engine writes it (chown, "
                                 "chmod u+w), or run this as that user (sudo -u USER ...)")  # fmt: skip
        super().__init__(path, *args, **more)

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """As `sqlite3.Connection.execute`."""
        try:
            return self.cursor(_Cursor).execute(*args)
        except sqlite3.DatabaseError as error:
            raise self.told(error) from None

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """As `sqlite3.Connection.executemany`."""
        try:
            return super().executemany(*args)
        except sqlite3.DatabaseError as error:
            raise self.told(error) from None

    def told(self, error: sqlite3.DatabaseError) -> Exception:
        """What a user should read; the program's own errors as they are."""
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            return error
        if "readonly" in str(error):
            return StateError(f"{self.path}: {error}; run this as the user whose engine writes it (sudo -u USER ...)")
        damaged = "malformed" in str(error) or "not a database" in str(error)
        cure = "move it away, or" if damaged else "free space on that disk, or"
        return StateError(f"{self.path}: {error}; {cure} give engine.state_dir another one")
