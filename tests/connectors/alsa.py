"""An ALSA capture device with a clock: its file plug-in reads a pipe into which a thread writes at real speed.

`tests/servers/microphone.py` delivers as fast as it is read; this one delivers when sound is due, stops and goes on
by hand, and can be taken out of the system's list, so that real PortAudio sees a device come and go.
"""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np

# PortAudio insists on a device called default beside the others.
_CONFIGURATION = """\
pcm.default {{ type null }}
pcm.{name} {{ type file slave.pcm {{ type null }} file /dev/null infile {pipe} format raw }}
"""


class PacedMicrophone:
    """A capture device of one int16 channel whose sample n is n modulo 2**15.

    Args:
        block: frames per buffer that the reader asks for; a shorter read would leave a hole in it.
        rate_hz: its true rate.
    """

    name = "pacedmic"

    def __init__(self, block: int, rate_hz: int) -> None:
        self.block, self.rate_hz = block, rate_hz
        self._stop, self._run = threading.Event(), threading.Event()
        self._run.set()

    @property
    def env(self) -> dict[str, str]:
        return {"ALSA_CONFIG_PATH": str(self.folder / "asound.conf"), "JACK_NO_START_SERVER": "1"}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="stethos-paced-"))
        self._pipe = self.folder / "pipe"
        os.mkfifo(self._pipe)
        self._fd = os.open(self._pipe, os.O_RDWR)  # held open, so that neither side ever waits for the other to open
        self.plug()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._run.set()
        self._thread.join()
        os.close(self._fd)
        shutil.rmtree(self.folder, ignore_errors=True)

    def plug(self) -> None:
        (self.folder / "asound.conf").write_text(_CONFIGURATION.format(name=self.name, pipe=self._pipe))

    def unplug(self) -> None:
        """Off the list; what is open goes on."""
        (self.folder / "asound.conf").write_text("pcm.default { type null }\npcm.other { type null }\n")

    def mute(self) -> None:
        """Deliver nothing: whoever reads waits."""
        self._run.clear()

    def unmute(self) -> None:
        self._run.set()

    def _waiting(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, count)
        return count[0]

    def _write(self) -> None:
        n = 0
        due = time.monotonic()
        while not self._stop.is_set():
            if self._waiting() == 0:  # nobody reads: a device would write over it
                os.write(self._fd, (np.arange(n, n + self.block) % 32768).astype("<i2").tobytes())
                n += self.block
            due += self.block / self.rate_hz
            self._stop.wait(max(due - time.monotonic(), 0))
            if not self._run.is_set():
                self._run.wait()
                due = time.monotonic()
