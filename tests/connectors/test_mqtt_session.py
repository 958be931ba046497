"""A connection over its time: who we are to a broker that asks, what it takes at once, whether it is still there."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from connectors import mqtt_hook
from connectors.mqtt_hook import STANDING, MqttCommand
from connectors.mqtt_session import CONNECT_S, Broker
from tests.connectors.test_mqtt_hook import STATUS, alarm, at, until
from tests.servers.mosquitto import MosquittoServer


class Asking(MosquittoServer):
    """It takes nobody without a certificate of its authority."""

    def prepare(self) -> None:
        super().prepare()
        assert self.certificates is not None
        with (self.folder / "mosquitto.conf").open("a") as file:
            file.write(f"cafile {self.certificates.ca}\nrequire_certificate true\n")

    def is_ready(self) -> bool:
        """Whether it listens; the port is its own."""
        socket.create_connection(("127.0.0.1", self.tcp_port), 1.0).close()
        return True


def test_a_broker_asks_for_a_certificate() -> None:
    """Who has one gets its commands through; who has none is told that the connection does not come about."""
    with Asking(tls=True) as server:
        files = server.certificates
        assert files is not None
        bare = at(server, tls=True, ca_file=files.ca)
        with MqttCommand(replace(bare, cert_file=files.client, key_file=files.client_key)) as hook:
            hook(alarm())
            until(lambda: hook.counts["published"] == 1)
        with MqttCommand(bare) as hook:
            until(lambda: hook.counts["connection_failed"] > 0)
            assert f"127.0.0.1:{server.tcp_port}" in hook.trouble and hook.counts["connected"] == 0


def test_a_broker_that_freezes_while_nothing_is_sent_is_left() -> None:
    """It does not answer the signs of life; there is a new connection once it does."""
    with MosquittoServer() as server, MqttCommand(at(server, keepalive_s=1)) as hook:
        until(lambda: hook.counts["connected"] == 1)
        server.pause()
        until(lambda: hook.counts["connection_lost"] == 1)
        assert f"127.0.0.1:{server.tcp_port}" in hook.trouble
        server.resume()
        until(lambda: hook.counts["connected"] == 2)


class Single:
    """A broker that answers one message at a time, as it says, and notes how many come at once."""

    def __init__(self, unanswered: str = "none") -> None:
        self._unanswered = unanswered
        self.topics: list[str] = []
        self.most = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def serve(self) -> None:
        """One connection, to its end."""
        heard, told = b"", False
        line, _ = self._listener.accept()
        with line, self._listener:
            while more := line.recv(4096):
                heard += more
                line.settimeout(0.1)
                with suppress(TimeoutError):  # what else is sent before an answer
                    while more := line.recv(4096):
                        heard += more
                line.settimeout(None)
                packets, heard = _packets(heard)
                published = [body for kind, body in packets if kind >> 4 == 3]
                self.most = max(self.most, len(published))
                answers = b"" if told else bytes([0x20, 6, 0, 0, 3, 0x21, 0, 1])  # Receive Maximum 1
                told = True
                for body in published:
                    end = 2 + int.from_bytes(body[:2])
                    self.topics.append(body[2:end].decode())
                    if self.topics[-1] != self._unanswered:
                        answers += bytes([0x40, 2]) + body[end : end + 2]
                line.sendall(answers)


def _packets(heard: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Whole packets, and what is left; all are shorter than 16 kB."""
    found = []
    while len(heard) > 2:
        wide = 2 if heard[1] & 128 else 1
        length = heard[1] & 127 | (heard[2] << 7 if wide == 2 else 0)
        if len(heard) < 1 + wide + length:
            break
        found.append((heard[0], heard[1 + wide : 1 + wide + length]))
        heard = heard[1 + wide + length :]
    return found, heard


def test_a_broker_gets_no_more_at_once_than_it_takes() -> None:
    """One that says one: the list, the status and each command wait for the answer to what is before them."""
    broker = Single()
    thread = threading.Thread(target=broker.serve)
    thread.start()
    with MqttCommand(Broker("127.0.0.1", broker.port), topic="c", expires_s=60.0) as hook:
        for number in range(4):
            hook(alarm(number))
        until(lambda: hook.counts["published"] == 4)
    thread.join(20.0)
    assert broker.most == 1 and broker.topics.count("c") == 4 and hook.counts["connected"] == 1
    assert [topic for topic in broker.topics if topic != "c"][:2] == [STATUS + STANDING, STATUS]


def test_a_broker_that_owes_an_answer_and_takes_nothing_else_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list without an answer must not hold status and commands up for ever."""
    monkeypatch.setattr(mqtt_hook, "CONNECT_S", 0.5)
    broker = Single(STATUS + STANDING)
    thread = threading.Thread(target=broker.serve)
    thread.start()
    with MqttCommand(Broker("127.0.0.1", broker.port, keepalive_s=60), expires_s=0.5) as hook:
        until(lambda: hook.counts["connection_lost"] == 1)
    thread.join(20.0)
    assert broker.topics == [STATUS + STANDING]


def test_a_hook_with_nothing_to_say_keeps_nobody_waiting_for_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intake closes a device that has failed in the thread that polls the others."""
    slow, waited = threading.Event(), list[float]()

    def session(*_: object) -> None:
        slow.wait()
        raise OSError("no route")

    monkeypatch.setattr(mqtt_hook, "Session", session)
    for alarms in ([], [alarm()]):
        with MqttCommand(Broker()) as hook:
            thread = hook._thread
            assert thread is not None
            monkeypatch.setattr(thread, "join", waited.append)
            for one in alarms:
                hook(one)
        slow.set()
        threading.Thread.join(thread)
        slow.clear()
    assert waited[0] == 0.0 < waited[1] < CONNECT_S + 2.0 * mqtt_hook.LEAVE_S


def test_a_hook_that_could_not_be_opened_is_held_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files; the lane that opens it later also closes it."""

    def none() -> None:
        raise OSError("too many open files")

    hook = MqttCommand(Broker("127.0.0.1", 1))
    with monkeypatch.context() as patch:
        patch.setattr(mqtt_hook, "wake_pair", none)
        with pytest.raises(OSError, match="too many"):
            hook.__enter__()
    with hook:
        pass
    assert hook._thread is None
