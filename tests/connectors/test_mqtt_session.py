"""A connection over its time: who we are to a broker that asks for a certificate, and whether it is still there."""

from __future__ import annotations

import socket
from dataclasses import replace

from connectors.mqtt_hook import MqttCommand
from tests.connectors.test_mqtt_hook import alarm, at, until
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
