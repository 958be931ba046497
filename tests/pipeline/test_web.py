"""The web server of page and workers: hostile, slow and broken clients cost it little, and nobody else anything."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from pipeline import web
from pipeline.errors import ConfigError
from pipeline.status import StatusServer
from pipeline.web import WebServer

KEYS = ("status.host", "status.port")
ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def reply(path: str, _host: str | None) -> web.Answer:
    """An answer, or none."""
    if path == "/broken":
        raise KeyError("no such thing")
    return 200, path.encode(), "text/plain"


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[WebServer]:
    """A running server."""
    server = WebServer(reply, host, 0, KEYS)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(server: WebServer) -> socket.socket:
    """A client."""
    return socket.create_connection((server.host, server.port), timeout=5)


def said(client: socket.socket, request: bytes = ASKED) -> bytes:
    """All that the server says to it until it hangs up; nothing where it is hung up on at once."""
    found = b""
    try:
        client.sendall(request)
        while got := client.recv(65536):
            found += got
    except ConnectionError:
        pass
    return found


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes so."""
    until_s = time.monotonic() + 2
    while not true() and time.monotonic() < until_s:
        time.sleep(0.01)
    return true()


def test_idle_clients_take_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make room for who comes later, never a place more."""
    monkeypatch.setattr(web, "MOST", 8)
    threads = threading.active_count()
    with serving() as server:
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(closing(connect(server))).sendall(b"GET / HTTP/1.1\r\nX: ")
            with closing(connect(server)) as last:
                assert said(last).startswith(b"HTTP/1.1 200 ")
            assert threading.active_count() <= threads + 9
        assert soon(lambda: threading.active_count() == threads + 1)


@pytest.mark.parametrize(
    "holds", [b"", b"G", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n\r\n", b"GET /large HTTP/1.1\r\n\r\n"]
)
def test_clients_that_hold_all_places_keep_nobody_out(monkeypatch: pytest.MonkeyPatch, holds: bytes) -> None:
    """Silent ones, those that ask for ever, keep what was answered, or never take a large answer: 64, as in a plant."""
    monkeypatch.setattr(web, "SLOW_S", 0.0)
    asked, body = threading.Semaphore(0), bytes(50_000_000)

    def large(path: str, host: str | None) -> web.Answer:
        asked.release()
        return reply(path, host) if path != "/large" else (200, body, "text/plain")

    with serving() as server, ExitStack() as stack:
        server.reply = large
        for _ in range(web.MOST):
            stack.enter_context(closing(connect(server))).sendall(holds)
        if holds.endswith(b"\r\n\r\n"):
            assert all(asked.acquire(timeout=5) for _ in range(web.MOST))
        for _ in range(3):
            with closing(connect(server)) as client:
                assert said(client).startswith(b"HTTP/1.1 200 ")


def test_who_holds_most_makes_room_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that keeps one connection keeps it, though it has waited for longer than those of the crowd."""
    monkeypatch.setattr(web, "MOST", 8)
    with serving() as server, ExitStack() as stack:
        page = stack.enter_context(closing(connect(server)))
        crowd = []
        for _ in range(30):
            one = socket.create_connection((server.host, server.port), 5, source_address=("127.0.0.2", 0))
            crowd.append(stack.enter_context(closing(one)))
            one.sendall(b"G")
        assert said(crowd[20], b"") == b""  # by now so many have made room
        assert said(page).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_is_being_made_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all places are, a further connection is closed at once."""
    monkeypatch.setattr(web, "MOST", 4)
    asked, go = threading.Semaphore(0), threading.Event()

    def slow(path: str, host: str | None) -> web.Answer:
        asked.release()
        assert go.wait(20)
        return reply(path, host)

    with serving() as server, ExitStack() as stack:
        server.reply = slow
        clients = [stack.enter_context(closing(connect(server))) for _ in range(4)]
        for client in clients:
            client.sendall(ASKED)
        assert all(asked.acquire(timeout=5) for _ in clients)
        with closing(connect(server)) as late:
            assert said(late) == b""
        go.set()
        assert all(said(client, b"").startswith(b"HTTP/1.1 200 ") for client in clients)


def test_a_download_goes_on_while_idle_connections_can_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same client, such as a proxy: a slow line takes evidence for longer than any of them has been idle."""
    monkeypatch.setattr(web, "MOST", 4)
    monkeypatch.setattr(web, "SLOW_S", 0.0)
    body = bytes(50_000_000)
    with serving() as server, ExitStack() as stack:
        server.reply = lambda path, host: reply(path, host) if path != "/large" else (200, body, "text/plain")
        slow = stack.enter_context(closing(connect(server)))
        slow.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        begun = slow.recv(65536)
        for _ in range(3):
            stack.enter_context(closing(connect(server)))
        for _ in range(2):
            with closing(connect(server)) as late:
                assert said(late).startswith(b"HTTP/1.1 200 ")
        taken = len(begun.partition(b"\r\n\r\n")[2])
        while got := slow.recv(1_000_000):
            taken += len(got)
        assert taken == len(body)


@pytest.mark.parametrize("trickle", [b"", b"G", b"\r\n"])
def test_a_request_has_a_total_time(monkeypatch: pytest.MonkeyPatch, trickle: bytes) -> None:
    """A byte now and then does not keep a connection."""
    monkeypatch.setattr(web, "REQUEST_S", 0.3)
    with serving() as server, closing(connect(server)) as client:
        began_s = time.monotonic()
        client.settimeout(0.05)
        while time.monotonic() - began_s < 3:
            try:
                client.sendall(trickle)
                if client.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - began_s < 1.5


def test_each_request_of_a_kept_connection_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that asks every second keeps its connection."""
    monkeypatch.setattr(web, "REQUEST_S", 0.3)
    with serving() as server, closing(connect(server)) as client:
        for _ in range(4):
            client.sendall(b"GET /x HTTP/1.1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"/x"):
                answer += client.recv(65536) or pytest.fail("it hung up")
            time.sleep(0.15)


@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_is_no_request(head: bytes) -> None:
    """One answer, then the connection is closed."""
    inner = b"GET /inner HTTP/1.1\r\nConnection: close\r\n\r\n"
    head = head % len(inner) if b"%" in head else head
    with serving() as server, closing(connect(server)) as client:
        answer = said(client, b"GET /outer HTTP/1.1\r\n" + head + b"\r\n" + inner)
    assert answer.count(b"HTTP/1.1 ") == 1 and answer.endswith(b"/outer") and b"Connection: close" in answer


def test_a_broken_answer_has_a_reason() -> None:
    """And the next one comes."""
    with serving() as server, closing(connect(server)) as client:
        both = said(client, b"GET /broken HTTP/1.1\r\n\r\n" + ASKED)
    assert both.startswith(b"HTTP/1.1 500 ") and b"KeyError: 'no such thing'" in both
    assert both.count(b"HTTP/1.1 200 ") == 1


def test_resets_leave_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """As probes send them."""
    with serving() as server:
        for _ in range(5):
            with closing(connect(server)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                probe.sendall(b"GET /live HTTP/1.1\r\n")
        with closing(connect(server)) as client:
            assert said(client).endswith(b"/")
    assert capfd.readouterr().err == ""


def test_without_descriptors_it_waits_without_work() -> None:
    """A connection that cannot be taken would wake it at once, again and again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving() as server, closing(socket.socket()) as client:
        client.settimeout(5)
        with closing(socket.socket()) as last:
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
            try:
                client.connect((server.host, server.port))
                began_s = time.process_time()
                time.sleep(0.5)
                assert time.process_time() - began_s < 0.1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert said(client).startswith(b"HTTP/1.1 200 ")


def test_an_address_of_ipv6(tmp_path: Path) -> None:
    """With the URL as browsers want it; the page answers to its name. A box without IPv6 is told the key."""
    if not Path("/proc/net/if_inet6").exists():
        with pytest.raises(ConfigError, match=r"status\.host = '::1', status\.port = 0: "):
            WebServer(reply, "::1", 0, KEYS)
        return
    with serving("::1") as server, closing(connect(server)) as client:
        assert server.address == f"http://[::1]:{server.port}"
        assert said(client).startswith(b"HTTP/1.1 200 ")
    page = StatusServer(tmp_path / "s.sqlite", tmp_path, lambda: (b"", ""), lambda: True, "::1")
    page.start()
    try:
        for host, code in (("[::1]:8420", b"200"), ("evil.example", b"421")):
            with closing(socket.create_connection(("::1", page.port), timeout=5)) as client:
                asked = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                assert said(client, asked).split()[1] == code
    finally:
        page.stop()


def test_an_address_that_is_none_names_its_key() -> None:
    """Whatever is wrong with it."""
    with pytest.raises(ConfigError, match=r"status\.host = '2001:db8::1', status\.port = 0: "):
        WebServer(reply, "2001:db8::1", 0, KEYS)
