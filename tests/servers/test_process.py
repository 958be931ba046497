"""How servers are found, built, started and ended."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from . import cache, ports
from .cache import ServerError, built, tool
from .kafka import KafkaServer
from .process import Server

_ROOT = Path(__file__).resolve().parents[2]


class Sleeper(Server):
    """A server that is a shell with a child and answers at once."""

    def prepare(self) -> None:
        (self.folder / "prepared").touch()

    def command(self) -> Sequence[str]:
        return ["/bin/sh", "-c", "echo started; sleep 600 & wait"]

    def is_ready(self) -> bool:
        return "started" in self.log()


class Failing(Sleeper):
    def command(self) -> Sequence[str]:
        return ["/bin/sh", "-c", "echo no such luck; exit 3"]

    def is_ready(self) -> bool:
        return False


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "stethos" / "servers"


def _members(server: Server) -> list[psutil.Process]:
    """The server's process and its child, once it has one."""
    process = psutil.Process(server.pid)
    deadline = time.monotonic() + 10
    while not process.children():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [process, *process.children()]


def _wait_until_gone(members: Sequence[psutil.Process]) -> None:
    deadline = time.monotonic() + 10
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in members):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_server_ends_with_its_block_even_when_the_test_fails() -> None:
    def fail() -> None:
        with server:
            members.extend(_members(server))
            raise ZeroDivisionError

    server, members = Sleeper("sleeper"), list[psutil.Process]()
    folder = server.folder
    with pytest.raises(ZeroDivisionError):
        fail()
    _wait_until_gone(members)
    assert not folder.exists()
    with pytest.raises(ServerError, match="does not run"):
        _ = server.pid


def test_server_starts_again_after_stop_kill_and_pause() -> None:
    with Sleeper("sleeper") as server:
        for end in (server.stop, server.kill):
            members = _members(server)
            server.pause()
            end()
            _wait_until_gone(members)
            assert not server.running
            assert server.start().pid != members[0].pid


def test_server_ends_when_its_owner_is_killed() -> None:
    code = """
        import os, signal
        from tests.servers.test_process import Sleeper, _members
        server = Sleeper("sleeper").start()
        print(server.folder, *(process.pid for process in _members(server)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=_ROOT, check=False, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    folder, *numbers = done.stdout.split()
    deadline = time.monotonic() + 10
    while Path(folder).exists() or any(psutil.pid_exists(int(number)) for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_failing_server_is_reported_with_its_log() -> None:
    with pytest.raises(ServerError, match="no such luck"), Failing("failing"):
        pass


def test_address_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STETHOS_TEST_KAFKA", "broker.example:9092")
    with KafkaServer() as kafka:
        assert kafka.bootstrap == "broker.example:9092"
        with pytest.raises(ServerError, match="not ours"):
            kafka.kill()
    own = KafkaServer(own=True)
    assert own.bootstrap.startswith("127.0.0.1:")
    own.close()


def test_missing_tool_is_named() -> None:
    with pytest.raises(ServerError, match="'no-such-tool' is not installed: it comes with the Debian package x"):
        tool("no-such-tool", "the Debian package x")


@pytest.mark.usefixtures("own_cache")
def test_two_runs_build_once(tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("1")
    calls: list[Path] = []

    def build(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.1)
        (folder / "server").touch()

    threads = [threading.Thread(target=built, args=("thing", [pin], build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    first = built("thing", [pin], build)
    assert (first / "server").exists()
    pin.write_text("2")
    assert built("thing", [pin], build) != first


def test_failed_build_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch()

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise ServerError("half way")

    with pytest.raises(ServerError, match="half way"):
        built("thing", [pin], build)
    assert [path.name for path in own_cache.iterdir()] == ["thing.lock"]
    assert cache.cache_folder() == own_cache


def test_reserved_port_is_not_given_twice() -> None:
    taken = [ports.reserve_port() for _ in range(20)]
    assert len(set(taken)) == 20
    code = "import sys; from tests.servers import ports; print([ports._lock(int(port)) for port in sys.argv[1:]])"
    for port in taken[1:]:
        ports.release_port(port)
    command = [sys.executable, "-c", code, *map(str, taken[:2])]
    assert subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout == "[False, True]\n"
    ports.release_port(taken[0])
