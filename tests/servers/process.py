"""A server process of the tests: started, watched, paused, killed, started again, and never left behind."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .cache import ServerError
from .ports import release_port, reserve_port

# Waits for the end of this process's side of the pipe. Without the word that all is well, it kills what is left.
_GUARD = 'read -r word && exit 0; kill -s KILL -- "-$1"; [ -z "$2" ] || rm -rf -- "$2"'


class Server(ABC):
    """A server in a process group of its own, with its data in a folder and its ports reserved as long as it exists.

    `start`, `stop`, `kill`, `pause` and `resume` may follow each other in any order; ports and data stay the same until
    `close`, which leaving the `with` block calls. A guard process ends the server even when this process is killed.

    Args:
        name: What the server is, for messages and the names of its files.
        folder: Where its data are kept and left; without it, a temporary folder that is removed by `close`.
        external: The address of a server that somebody else runs, which is then used in place of our own.
    """

    ready_s = 60.0
    stop_s = 20.0

    def __init__(self, name: str, *, folder: Path | None = None, external: str | None = None) -> None:
        self.name = name
        self.external = external
        self._temporary = folder is None
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"stethos-{name}-"))
        atexit.register(self.close)

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server needs before it starts; called at every start."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server answers; an OSError counts as no."""

    def environment(self) -> Mapping[str, str]:
        """What the server's environment has beside our own."""
        return {}

    def port(self) -> int:
        """A port that stays reserved until `close`."""
        self._ports.append(reserve_port())
        return self._ports[-1]

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's number.

        Raises:
            ServerError: It does not run.
        """
        if self._process is None or not self.running:
            raise ServerError(f"{self.name} does not run")
        return self._process.pid

    def start(self, *, wait: bool = True) -> Self:
        """Start the server, again with the ports and data it had.

        Args:
            wait: Whether to return only when it answers.

        Returns:
            The server itself.
        """
        if self.external is None and not self.running:
            self._ended()
            self.prepare()
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    list(self.command()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, **self.environment()},
                    start_new_session=True,
                )
            arguments = [str(self._process.pid), str(self.folder) if self._temporary else ""]
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", *arguments], stdin=subprocess.PIPE, start_new_session=True
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            ServerError: It ended, or it did not answer in time; the message carries the end of its log.
        """
        deadline = time.monotonic() + self.ready_s
        while not self._answers():
            if self.external is None and not self.running:
                raise ServerError(f"{self.name} ended while it was being started:\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer within {self.ready_s:.0f} s:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server as a service manager does: SIGTERM, after `stop_s` seconds SIGKILL."""
        self._check_ours()
        if self._process is not None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            try:
                self._process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self._ended()

    def kill(self) -> None:
        """End the server and its children at once, as a crash or a lost machine does: SIGKILL."""
        self._check_ours()
        self._signal(signal.SIGKILL)
        self._ended()

    def pause(self) -> None:
        """Freeze the server: its connections stay open, nothing is answered."""
        self._check_ours()
        os.killpg(self.pid, signal.SIGSTOP)
        while not _is_stopped(self.pid):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._check_ours()
        os.killpg(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server and give back its ports and its temporary folder. Nothing happens the second time."""
        if self.external is None:
            self.kill()
        while self._ports:
            release_port(self._ports.pop())
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def log(self) -> str:
        """Everything that the server wrote to its standard output and error."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except OSError:
            return False

    def _check_ours(self) -> None:
        if self.external is not None:
            raise ServerError(f"{self.name} at {self.external} is not ours to stop; ask for one with own=True")

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process group, unless the process is known to be gone."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.communicate(b"well\n")
            self._guard = None


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process have taken notice of SIGSTOP; taken for granted where there is no `/proc`."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
