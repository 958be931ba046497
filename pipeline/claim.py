"""One engine on one state: two would write the same lanes' snapshots and positions."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import StateError


@contextmanager
def claim(state: Path) -> Iterator[None]:
    """Hold a state file for this process, until the context or the process ends, however it ends.

    The lock is POSIX': shard processes that were forked under it do not hold it on.

    Args:
        state: path of the state file; the lock lies beside it.

    Raises:
        StateError: another process holds it, or the folder cannot be written.
    """
    path = state.with_name(state.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        why = f"{error.strerror}; give engine.state_dir a folder that can be written"
        raise StateError(f"{state}: cannot be used as state: {why}") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EAGAIN}:
                raise StateError(f"{path}: {error.strerror}: engine.state_dir must be on a disk with locks") from None
            file.seek(0)
            holder = file.read(20).decode("ascii", "replace").strip() or "unknown"
            raise StateError(
                f"{state}: in use by another engine (process {holder}): end that one first, or give this one an "
                "engine.state_dir of its own"
            ) from None
        with suppress(OSError):  # a full disk: who holds it is not known then, but it is held
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        yield
