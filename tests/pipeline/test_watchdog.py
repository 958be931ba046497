"""The sd_notify protocol: what systemd would hear of a run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.watchdog import notify

CONFIG = """
schema_version = 1
[engine]
state_dir = "state"
[recording]
enabled = false
[status]
enabled = false
[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "mg"
source = { type = "playback", files = ["x.npz"], loop = true }
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as systemd opens one, named in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield heard


def everything(heard: socket.socket) -> list[str]:
    """All datagrams that wait in the socket."""
    heard.setblocking(False)
    found = []
    while True:
        try:
            found.append(heard.recv(4096).decode())
        except BlockingIOError:
            return found


def test_a_run_says_ready_then_alive_then_stopping(tmp_path: Path, manager: socket.socket) -> None:
    """READY once and first, WATCHDOG about once a second, STOPPING once and last; all from the main process."""
    manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    (tmp_path / "c.toml").write_text(CONFIG)
    np.savez(tmp_path / "x.npz", x=np.zeros((2000, 1), np.int16), fs=2000)
    line = [sys.executable, "-m", "pipeline.cli.main", "run", "--config", str(tmp_path / "c.toml"), "--for", "3"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said: list[str] = []
    senders = set()
    manager.settimeout(60.0)
    while not said or said[-1] != "STOPPING=1":
        data, more, _, _ = manager.recvmsg(4096, 64)
        said.append(data.decode())
        senders.add(int.from_bytes(more[0][2][:4], sys.byteorder))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert everything(manager) == []
    assert said[0] == "READY=1"
    assert said.count("READY=1") == said.count("STOPPING=1") == 1
    assert set(said[1:-1]) == {"WATCHDOG=1"}
    assert 2 <= len(said) - 2 <= 4  # three seconds of the engine's own clock
    assert senders == {process.pid}  # NotifyAccess=main


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with @ lies in Linux' abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0stethos-test-{os.getpid()}")
        heard.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@stethos-test-{os.getpid()}")
        notify("READY=1")
        assert heard.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a socket, or with one that is gone, the run goes on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("WATCHDOG=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("WATCHDOG=1")


def test_a_full_socket_does_not_stop_the_engine(manager: socket.socket) -> None:
    """Systemd that does not read must not make the engine wait for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        flood.connect(manager.getsockname())
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.send(b"x")
    notify("WATCHDOG=1")
    manager.setblocking(False)
    assert "WATCHDOG=1" not in everything(manager)
