"""Tells systemd that we are ready, alive and stopping (sd_notify protocol: a datagram to $NOTIFY_SOCKET)."""

from __future__ import annotations

import socket

import config


def notify(state: str) -> None:
    """Send one state; does nothing where systemd does not listen."""
    address = config.notify_socket()
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.setblocking(False)  # a service manager that does not read must not hold up the engine
            out.connect("\0" + address[1:] if address.startswith("@") else address)
            out.send(state.encode())
        except OSError:
            pass  # systemd will restart us if it misses too many
