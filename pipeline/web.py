"""A small read-only web server: few connections, a time limit for each request, nothing on the terminal.

Where all places are taken, whoever holds most of them gives one up: a client that asks is served within seconds,
however many connections others hold and say nothing.
"""

from __future__ import annotations

import io
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.errors import ConfigError

MOST = 64
"""Connections at a time, as descriptors are for recordings and state first; a further one takes the place of another,
or is closed at once where all others are being answered."""
REQUEST_S = 10.0
"""A request must be here within so long, however it trickles; a kept connection must bring its next one."""
ANSWER_S = 60.0
"""An answer must be taken within so long."""
SLOW_S = 2.0
"""A reader that has not taken its answer by then may have to give its place up."""
ROOM_S = 0.5
"""Longest wait for a place that was given up."""
_POLICY = "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

Answer = tuple[int, bytes, str]
"""Status, body and its media type."""


def family(host: str) -> socket.AddressFamily:
    """Of an address to listen on; names are of IPv4."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def try_port(host: str, port: int) -> None:
    """Listen for a moment, as a server would.

    Raises:
        OSError: it could not.
    """
    with socket.socket(family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


class _Held:
    """A connection: whose it is, and since when it keeps us waiting; `inf` while we make its answer."""

    def __init__(self, connection: socket.socket, client: str) -> None:
        self.connection, self.client = connection, client
        self.idle_s = time.monotonic()
        self.answering = False


class WebServer(ThreadingHTTPServer):
    """Answers GET and HEAD, each connection in a thread of its own.

    Args:
        reply: answers a request's path and `Host`; what it raises becomes a status 500 with the reason.
        host: address to listen on.
        port: 0 takes a free one.
        keys: of host and port in the configuration, for errors.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    request_queue_size = MOST  # socketserver's 5 lets a burst of connections wait for a second

    def __init__(self, reply: Callable[[str, str | None], Answer], host: str, port: int, keys: tuple[str, str]) -> None:
        self.reply = reply
        self.ended = False
        self._places = threading.BoundedSemaphore(MOST)
        self._held: dict[int, _Held] = {}  # by the connection's identity; a place that is given up is not here any more
        self._lock = threading.Lock()
        self.address_family = family(host)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            where = f"{keys[0]} = {host!r}, {keys[1]} = {port}"
            raise ConfigError(f"{where}: {error.strerror or error}: choose another port (0 takes a free one)") from None
        self.host, self.port = str(self.server_address[0]), int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, name="web", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as a URL without a path."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; readers that are still connected are sent away."""
        self.ended = True
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection."""
        try:
            return super().get_request()
        except OSError:  # without a free descriptor it goes on waiting, and would wake this loop at once again
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, if there is a place or one that can be given up."""
        free = self._places.acquire(blocking=False)
        if not free and not (self._make_room() and self._places.acquire(timeout=ROOM_S)):
            self.shutdown_request(request)
            return
        with self._lock:
            self._held[id(request)] = _Held(request, str(client_address[0]))
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._let_go(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._let_go(request)

    def _let_go(self, request: socket.socket) -> None:
        with self._lock:
            if (held := self._held.get(id(request))) is not None and held.connection is request:
                del self._held[id(request)]
        self._places.release()

    def waits(self, request: socket.socket, since_s: float, answering: bool = False) -> None:
        """From when on (monotonic seconds) a connection keeps us waiting and may have to give its place up.

        One that is `answering` does so after all others of its client.
        """
        with self._lock:
            if (held := self._held.get(id(request))) is not None:
                held.idle_s, held.answering = since_s, answering

    def _make_room(self) -> bool:
        """End the connection that has kept us waiting for longest, of the client that holds most; whether one has."""
        with self._lock:
            now_s = time.monotonic()
            waiting = [(key, held) for key, held in self._held.items() if held.idle_s <= now_s]
            if not waiting:
                return False
            held_by = Counter(held.client for held in self._held.values())
            key, held = min(waiting, key=lambda one: (-held_by[one[1].client], one[1].answering, one[1].idle_s))
            del self._held[key]
            with suppress(OSError):  # it has gone already
                held.connection.shutdown(socket.SHUT_RDWR)  # its thread wakes up, and closes it
        return True

    def handle_error(self, *_args: Any) -> None:
        """Stay quiet: readers go away as they like."""


class _Incoming(io.RawIOBase):
    """What comes over a connection until a moment of the monotonic clock."""

    until_s = 0.0

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(ANSWER_S)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = ANSWER_S
    server: WebServer

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        now_s = time.monotonic()
        self._incoming.until_s = now_s + REQUEST_S
        self.server.waits(self.connection, now_s)
        super().handle_one_request()

    def parse_request(self) -> bool:
        fine = super().parse_request()
        if fine and ("Content-Length" in self.headers or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # its body stays unread and must not be taken for the next request
        return fine

    def do_GET(self) -> None:
        self.server.waits(self.connection, math.inf, answering=True)
        kind = "text/plain; charset=utf-8"
        if self.server.ended:
            self.close_connection = True
            code, body = int(HTTPStatus.SERVICE_UNAVAILABLE), b"ended\n"
        else:
            try:
                code, body, kind = self.server.reply(self.path, self.headers.get("Host"))
            except Exception as error:
                code = int(HTTPStatus.INTERNAL_SERVER_ERROR)
                body = f"{type(error).__name__}: {error}\n".encode(errors="replace")
        self.server.waits(self.connection, time.monotonic() + SLOW_S, answering=True)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()  # a reader that goes away, or takes nothing, ends the connection: `handle_error`
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_args: Any) -> None:
        """Stay quiet: the terminal belongs to the machines, and probes are no news."""
