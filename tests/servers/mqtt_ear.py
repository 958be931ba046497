"""A subscriber that remembers what a broker sends it."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .cache import ServerError
from .mosquitto import MosquittoServer


class Ear:
    """Subscribes to everything with QoS 1, and leaves when its with block ends.

    Attributes:
        heard: What came, oldest first.
        then: Called with each message when it has come, in the subscriber's own thread.

    Args:
        broker: Where to.
        user: Whom to be.
        name: Of a subscriber whose messages the broker keeps while it is away; without it, nothing is kept.
    """

    def __init__(self, broker: MosquittoServer, user: tuple[str, str] | None = None, name: str = "") -> None:
        self.heard: list[MQTTMessage] = []
        self.then: Callable[[MQTTMessage], object] | None = None
        self._come = threading.Condition()
        self._subscribed = threading.Event()
        self._client = client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
        client.on_message = self._take
        client.on_connect = self._subscribe
        client.on_subscribe = lambda *_: self._subscribed.set()
        if user is not None:
            client.username_pw_set(*user)
        if broker.certificates is not None:
            client.tls_set(str(broker.certificates.ca))
        keep = Properties(PacketTypes.CONNECT)
        keep.SessionExpiryInterval = 600 if name else 0
        client.connect("127.0.0.1", broker.tcp_port, clean_start=not name, properties=keep)

    def texts(self, topic: str) -> list[str]:
        """The payloads of a topic."""
        return [m.payload.decode() for m in list(self.heard) if m.topic == topic]

    def wait(self, enough: Callable[[], Any], timeout_s: float = 20.0) -> None:
        """Return when what was heard is enough.

        Raises:
            ServerError: It was not until the end.
        """
        until = time.monotonic() + timeout_s
        with self._come:
            while not enough():
                if time.monotonic() > until:
                    told = [(m.topic, m.payload) for m in self.heard]
                    raise ServerError(f"after {timeout_s:.0f} s only this was heard: {told}")
                self._come.wait(0.05)

    def __enter__(self) -> Self:
        self._client.loop_start()
        if not self._subscribed.wait(20.0):
            raise ServerError("the broker does not take the subscription")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, *_: Any) -> None:
        self._client.subscribe("#", 1)

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if self.then is not None:
            self.then(message)
        with self._come:
            self.heard.append(message)
            self._come.notify_all()
