"""How the engine's clients reach the brokers: one configuration, in the words of three libraries."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from aiokafka.partitioner import murmur2

from config.schema import Kafka
from pipeline.errors import ConfigError

MAX_REQUEST_BYTES = 1_000_000
TAKEN = "taken"
"""Word before an offset in what a worker writes beside those that it commits."""
"""Largest request of a producer and largest message of a topic: below every broker's default limit."""


class Client:
    """The `[kafka]` section as client settings.

    Args:
        kafka: the section.
    """

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.bootstrap = [part.strip() for part in kafka.bootstrap.split(",") if part.strip()]

    def topic(self, name: str) -> str:
        """The name of a row of the table on the broker."""
        return self.kafka.prefix + name

    def row(self, topic: str) -> str:
        """The row of the table that a broker's topic is."""
        return topic.removeprefix(self.kafka.prefix)

    def partition(self, machine: str) -> int:
        """Where all that belongs to a machine is."""
        return int(murmur2(machine.encode()) & 0x7FFFFFFF) % self.kafka.partitions

    def spread(self, machines: Iterable[str]) -> dict[int, list[str]]:
        """Machines by partition."""
        found: dict[int, list[str]] = {}
        for machine in machines:
            found.setdefault(self.partition(machine), []).append(machine)
        return found

    @property
    def protocol(self) -> str:
        """Kafka's name for the security in use."""
        transport = "SSL" if self.kafka.tls else "PLAINTEXT"
        return f"SASL_{transport}" if self.kafka.username else transport

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """Trust in the brokers' authority, and this client's certificate; None without TLS.

        Raises:
            ConfigError: a file is missing or is no certificate.
        """
        if not self.kafka.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.kafka.ca_file)
            if self.kafka.cert_file is not None:
                context.load_cert_chain(self.kafka.cert_file, self.kafka.key_file)
        except OSError as error:
            files = f"ca_file {self.kafka.ca_file}, cert_file {self.kafka.cert_file}"
            raise ConfigError(f"kafka: the certificates cannot be used ({files}): {error}") from None
        return context

    def _security(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"security_protocol": self.protocol}
        if self.ssl_context is not None:
            settings["ssl_context"] = self.ssl_context
        if self.kafka.username is not None and self.kafka.password is not None:
            settings["sasl_mechanism"] = self.kafka.mechanism
            settings["sasl_plain_username"] = self.kafka.username
            settings["sasl_plain_password"] = self.kafka.password.get_secret_value()
        return settings

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the clients of aiokafka and of kafka-python, which share these names."""
        return {"bootstrap_servers": list(self.bootstrap), **self._security()}

    def faust(self) -> dict[str, Any]:
        """Keyword arguments of `faust.App`."""
        import faust

        settings: dict[str, Any] = {"broker": "kafka://" + ";".join(self.bootstrap)}
        if self.kafka.username is not None and self.kafka.password is not None:
            settings["broker_credentials"] = faust.SASLCredentials(
                username=self.kafka.username,
                password=self.kafka.password.get_secret_value(),
                ssl_context=self.ssl_context,
                mechanism=self.kafka.mechanism,
            )
        elif self.ssl_context is not None:
            settings["broker_credentials"] = faust.SSLCredentials(context=self.ssl_context)
        return settings
