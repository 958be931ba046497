"""One engine on one state, one feed on one spool: two would write the same snapshots, positions or files."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StateError

_OWN: set[Path] = set()
"""Locks that this process holds: the system tells of those of others alone."""


@contextmanager
def claim(state: Path, setting: str = "engine.state_dir") -> Iterator[None]:
    """Hold a state file, or a folder, for this process, until the context or the process ends, however it ends.

    The lock is POSIX': shard processes that were forked under it do not hold it on.

    Args:
        state: path of the state file or folder; the lock lies beside it.
        setting: where the configuration says where it lies, for messages.

    Raises:
        StateError: another process holds it, or the folder cannot be written.
    """
    path = state.with_name(state.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        why = f"{error.strerror}; give {setting} a folder that can be written"
        raise StateError(f"{state}: cannot be used: {why}") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise StateError(f"{path}: {error.strerror}: {setting} must be on a disk with locks") from None
            file.seek(0)
            holder = file.read(20).decode("ascii", "replace").strip() or "unknown"
            raise StateError(
                f"{state}: in use by another engine (process {holder}): end that one first, or give this one "
                f"another {setting}"
            ) from None
        with suppress(OSError):  # a full disk: who holds it is not known then, but it is held
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        own = path.resolve()
        _OWN.add(own)
        try:
            yield
        finally:
            _OWN.discard(own)


_FLOCK = "@hhqqi"  # l_type, l_whence, l_start, l_len, l_pid of Linux


def claimed(state: Path) -> bool:
    """Whether a process holds the state now, without holding it even for a moment; true where that cannot be known."""
    path = state.with_name(state.name + ".lock")
    if sys.platform != "linux" or path.resolve() in _OWN:  # POSIX lets go of a lock when any handle is closed
        return True
    try:
        with path.open("rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind: int = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0]
            return kind != fcntl.F_UNLCK
    except FileNotFoundError:
        return False
    except OSError:
        return True
