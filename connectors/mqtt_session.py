"""One connection to an MQTT 5 broker, from its opening to its end; paho-mqtt stops here.

A connection that has ended is never taken up again. paho would send what was on its way once more after a reconnection,
however old it is by then; here the owner decides what is still worth sending.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, MissingExtra

try:
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError:  # pragma: no cover
    raise MissingExtra("mqtt", "a command by MQTT") from None

CONNECT_S = 3.0
"""Longest wait for the broker to take a connection."""
OFFLINE = b"offline"
_AT_ONCE = 65_535
"""Messages without an answer that a broker takes which does not say how many."""
_AROUND = 17
"""Most bytes of a packet that are neither topic nor payload: headers, number, format and expiry (MQTT 5, 3.3)."""


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True)
class Broker:
    """How to reach a broker.

    Attributes:
        host: name or address.
        port: usually 1883, with TLS 8883.
        client_id: of this process; a second client of the same name throws the first one out.
        username: None to say nothing.
        password: it appears in no message.
        tls: whether the connection is encrypted and the broker's certificate checked.
        ca_file: authority of that certificate; None: those that the system trusts.
        cert_file: this client's own certificate, PEM, where the broker asks for one.
        key_file: its key.
        keepalive_s: the broker takes the client for dead after one and a half of these without a sign of life.
    """

    host: str = "localhost"
    port: int = 1883
    client_id: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 5

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs; None without TLS.

        Raises:
            ConfigError: a file cannot be read or is none of its kind.
        """
        if not self.tls:
            return None
        try:
            made = ssl.create_default_context(cafile=self.ca_file)
            made.sslsocket_class = _Socket
            if self.cert_file is not None:
                made.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            given = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
            files = ", ".join(f"{key} {path}" for key, path in given.items() if path is not None)
            raise ConfigError(f"MQTT broker {self}: its TLS files ({files}) cannot be used: {error}") from None
        return made

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@contextmanager
def wake_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: what is written to the second ends a `Session.turn` that waits on the first."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


class Session:
    """A connection, used by one thread alone; it opens when it is made.

    Attributes:
        connected: whether the broker has taken the connection.
        lost: why it has ended; empty while it has not.
        answers: for each number of a message, the broker's answer: empty if it took it, else why not.

    Args:
        broker: where to.
        context: what TLS needs.
        status_topic: where the broker says "offline", retained, when the connection ends in whatever way.

    Raises:
        OSError: the broker cannot be reached.
    """

    def __init__(self, broker: Broker, context: ssl.SSLContext | None, status_topic: str) -> None:
        self.connected = False
        self.lost = ""
        self.answers: list[tuple[int, str]] = []
        self._most_bytes: int | None = None
        self._at_once = _AT_ONCE
        self._open: dict[int, float] = {}
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, broker.client_id, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.will_set(status_topic, OFFLINE, qos=1, retain=True)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if context is not None:
            client.tls_set_context(context)
        client.connect(broker.host, broker.port, broker.keepalive_s, clean_start=True)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None) -> int:
        """Send a message with QoS 1; its number comes back in `answers`.

        Args:
            topic: without wildcards.
            payload: UTF-8.
            retain: whether the broker keeps it for those who subscribe later.
            expiry_s: after so many seconds the broker throws away what it could not deliver (MQTT 5, 3.3.2.3.3).
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.PayloadFormatIndicator = 1
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        number = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        self._open[number] = time.monotonic()
        return number

    @property
    def room(self) -> bool:
        """Whether the broker takes one more message before it has answered those on their way (MQTT 5, 3.2.2.3.3)."""
        return len(self._open) < self._at_once

    @property
    def owed_s(self) -> float:
        """How long the broker has owed the oldest answer; 0 where it owes none."""
        return time.monotonic() - min(self._open.values()) if self._open else 0.0

    def check(self, topic: str, payload: bytes) -> None:
        """Refuse what would cost the connection.

        Raises:
            ValueError: the broker has said that it takes no packet of this size (MQTT 5, 3.2.2.3.6).
        """
        size = len(topic.encode()) + len(payload) + _AROUND
        if self._most_bytes is not None and size > self._most_bytes:
            raise ValueError(f"{size} bytes, and the broker takes {self._most_bytes} at most")

    def turn(self, timeout_s: float, wake: socket.socket) -> None:
        """Read and write what there is; wait for it, or for `wake` to become readable, at most `timeout_s`."""
        sock = self._client.socket()
        if sock is None:
            self.lost = self.lost or "the connection was lost"
            return
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            timeout_s = 0.0  # decrypted already: the selector would not see it
        with selectors.DefaultSelector() as selector:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            selector.register(sock, selectors.EVENT_READ | writing)
            selector.register(wake, selectors.EVENT_READ)
            ready = {key.fileobj: events for key, events in selector.select(timeout_s)}
        if wake in ready:
            with suppress(BlockingIOError):
                wake.recv(4096)
        if ready.get(sock, 0) & selectors.EVENT_READ or not timeout_s:
            self._client.loop_read()
        if ready.get(sock, 0) & selectors.EVENT_WRITE:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            self.lost = self.lost or "the connection was lost"

    def leave(self) -> None:
        """Say goodbye; the broker publishes "offline" as if the connection had broken (reason 4 of MQTT 5, 3.14.2)."""
        self._client.on_disconnect = None
        with suppress(OSError, ValueError):
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))

    def close(self) -> None:
        """Let the socket go, whatever waits in it. May be called twice."""
        sock = self._client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self.lost = f"the broker refuses us: {reason}"
            return
        self.connected = True
        self._most_bytes = getattr(properties, "MaximumPacketSize", None)
        self._at_once = getattr(properties, "ReceiveMaximum", _AT_ONCE)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self.connected = False
        self.lost = self.lost or f"the connection has ended: {reason}"

    def _on_publish(self, _client: Any, _data: Any, number: int, reason: ReasonCode, _properties: Any) -> None:
        self._open.pop(number, None)
        self.answers.append((number, str(reason) if reason.is_failure else ""))
