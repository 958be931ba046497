"""Free ports that stay ours while a server is down.

The kernel hands out the ports of its ephemeral range to outgoing connections, so a port of that range could be taken
while its server is being restarted, even by a client that tries to reach the server. Ports come from outside that
range, and locks on a file in the cache folder keep two test runs apart.
"""

import fcntl
import functools
import os
import random
import socket
from pathlib import Path

from .cache import ServerError, cache_folder

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_reserved: set[int] = set()


def reserve_port() -> int:
    """Reserve a free loopback port until `release_port` or the end of this process."""
    low, high = (int(word) for word in _EPHEMERAL.read_text().split()) if _EPHEMERAL.exists() else (32768, 60999)
    usable = [port for port in range(10_000, 65_000) if not low <= port <= high] or list(range(10_000, 65_000))
    for port in random.sample(usable, k=min(len(usable), 1000)):
        if port not in _reserved and _lock(port):
            _reserved.add(port)
            if _is_free(port):
                return port
            release_port(port)
    raise ServerError("no free port was found on the loopback interface")


def release_port(port: int) -> None:
    """Give a reserved port back."""
    if port in _reserved:
        _reserved.remove(port)
        fcntl.lockf(_lock_file(), fcntl.LOCK_UN, 1, port)


@functools.cache
def _lock_file() -> int:
    """A file whose byte number N stands for port N; it stays open, because closing it would give all locks back."""
    return os.open(cache_folder() / "ports.lock", os.O_CREAT | os.O_RDWR, 0o644)


def _lock(port: int) -> bool:
    try:
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
