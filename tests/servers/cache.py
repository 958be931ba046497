"""The folder where servers are kept once they are built, and how several test runs share it."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVERS = Path(__file__).resolve().parent


class ServerError(RuntimeError):
    """A server of the tests could not be built, started or steered."""


def cache_folder() -> Path:
    """The cache folder of the servers, `${XDG_CACHE_HOME:-~/.cache}/stethos/servers`, created when it is missing."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "stethos" / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep every other process of this user out of the section called `name`."""
    with (cache_folder() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def built(name: str, inputs: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """The cached folder of a server, built now if it is not there.

    Args:
        name: The server.
        inputs: The files that pin what is built; when one changes, the server is built anew.
        build: Fills the empty folder that it is given. The folder appears in the cache only when it returns.

    Returns:
        The folder that `build` filled, now or earlier.
    """
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:12]
    target = cache_folder() / f"{name}-{digest}"
    if target.is_dir():
        return target
    with locked(name):
        if target.is_dir():
            return target
        part = cache_folder() / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            build(part)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target


def tool(command: str, source: str) -> str:
    """The path of a program, or an error that says where it comes from.

    Args:
        command: The program's name on the search path.
        source: What has to be installed when it is missing, in words.

    Raises:
        ServerError: The program is not on the search path.
    """
    path = shutil.which(command)
    if path is None:
        raise ServerError(f"'{command}' is not installed: it comes with {source}")
    return path


def debian_package(name: str) -> str:
    """What `tool` says of a program that `scripts/install-servers` installs."""
    return f"the Debian package {name}, which scripts/install-servers installs"
