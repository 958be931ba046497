"""Apache Kafka in KRaft mode: one node, or several that form a cluster."""

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from .certificates import Certificates, make_certificates
from .kafka_metadata import known_brokers
from .kafka_template import class_archive, copy_format, java_command, new_id, run_format
from .process import Server

ADDRESS = "STETHOS_TEST_KAFKA"
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Security:
    """How clients reach the broker.

    Attributes:
        tls: Whether the connection is encrypted, with certificates made for the test.
        client_certificates: Whether the broker asks clients for a certificate of the same authority.
        users: Names and passwords of SASL/SCRAM users; without any, nobody has to say who they are.
        mechanism: Their SCRAM mechanism.
    """

    tls: bool = False
    client_certificates: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    mechanism: str = "SCRAM-SHA-512"

    @property
    def protocol(self) -> str:
        """Kafka's name for it: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        transport = "SSL" if self.tls else "PLAINTEXT"
        return f"SASL_{transport}" if self.users else transport


class KafkaServer(Server):
    """A Kafka node that is broker and controller.

    `bootstrap` is where clients connect, by the rules of `security`; `internal` is a second listener without any, for
    administration. The broker of `STETHOS_TEST_KAFKA` is used instead when the test asks for nothing special.

    Args:
        own: Whether it must be a broker of our own, because the test stops it.
        security: How clients reach it.
        options: Further broker properties, which win over ours.
        java: Options of the Java machine. `("-Xmx1g",)` leaves out the defaults that favour a quick start.
        folder: Where its data are kept and left; a temporary folder without it.
        node: Its number in its cluster.
        cluster_id: The cluster's identity.
    """

    def __init__(
        self,
        *,
        own: bool = False,
        security: Security | None = None,
        options: Mapping[str, str] | None = None,
        java: Sequence[str] = ("-Xms256m", "-Xmx512m", *QUICK_START),
        folder: Path | None = None,
        node: int = 1,
        cluster_id: str | None = None,
    ) -> None:
        special = own or security is not None or options or folder
        super().__init__(f"kafka-{node}", folder=folder, external=None if special else os.environ.get(ADDRESS))
        self.node = node
        self.security = security or Security()
        self.nodes: Sequence[KafkaServer] = [self]
        self._options = dict(options or {})
        self._java = java
        self._cluster_id = cluster_id or new_id()
        if self.external is None:
            self._ports_of = {name: self.port() for name in ("CLIENT", "INTERNAL", "CONTROLLER")}

    @property
    def bootstrap(self) -> str:
        """Where clients connect: host and port."""
        return self.external or f"127.0.0.1:{self._ports_of['CLIENT']}"

    @property
    def internal(self) -> str:
        """The listener without encryption and users."""
        return self.external or f"127.0.0.1:{self._ports_of['INTERNAL']}"

    @property
    def controller(self) -> str:
        """The node's controller as its cluster names it."""
        return f"{self.node}@127.0.0.1:{self._ports_of['CONTROLLER']}"

    @cached_property
    def certificates(self) -> Certificates:
        """The certificates of this node's clients and listener."""
        return make_certificates(self.folder / "certificates")

    def client_settings(self, user: str | None = None) -> dict[str, Any]:
        """What kafka-python's clients need to connect, as keyword arguments.

        Args:
            user: Whom to connect as; the first user without it.
        """
        settings: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security.protocol}
        if self.security.tls:
            settings["ssl_cafile"] = str(self.certificates.ca)
        if self.security.client_certificates:
            settings["ssl_certfile"] = str(self.certificates.client)
            settings["ssl_keyfile"] = str(self.certificates.client_key)
        if self.security.users:
            name = user or next(iter(self.security.users))
            settings["sasl_mechanism"] = self.security.mechanism
            settings["sasl_plain_username"] = name
            settings["sasl_plain_password"] = self.security.users[name]
        return settings

    def ssl_context(self, *, certificate: bool = True) -> ssl.SSLContext:
        """What aiokafka needs in place of file names: trust in the broker's authority and the client's certificate.

        Args:
            certificate: Whether to show the client's certificate.
        """
        context = ssl.create_default_context(cafile=self.certificates.ca)
        if certificate:
            context.load_cert_chain(self.certificates.client, self.certificates.client_key)
        return context

    def prepare(self) -> None:
        """Write the properties, and format the data folder the first time."""
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if not (self.folder / "data" / "meta.properties").exists():
            self.format(properties)

    def format(self, properties: Path) -> None:
        """Make the data folder that the properties name."""
        users, mechanism = self.security.users, self.security.mechanism
        if users:
            run_format(properties, cluster_id=self._cluster_id, mechanism=mechanism, users=users)
        else:
            copy_format(self.folder / "data", cluster_id=self._cluster_id, node=self.node)

    def java_options(self) -> Sequence[str]:
        """The options of the Java machine."""
        return (*self._java, class_archive())

    def command(self) -> Sequence[str]:
        """Kafka's start class with the properties."""
        return [*java_command(self.java_options()), "kafka.Kafka", str(self.folder / "server.properties")]

    def is_ready(self) -> bool:
        """Whether the node knows as many brokers as there are nodes."""
        return self.external is not None or known_brokers(self.internal) >= len(self.nodes)

    def _properties(self) -> dict[str, str]:
        count = len(self.nodes)
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports_of.items())
        protocols = f"CLIENT:{self.security.protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        replicas = str(min(count, 3))
        in_sync = str(min(count, 2))
        # A node that was killed may come back only when its session has ended.
        session_ms = 3000 if count == 1 else 6000
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(node.controller for node in self.nodes),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": listeners,
            "listener.security.protocol.map": protocols,
            "log.dirs": str(self.folder / "data"),
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "broker.session.timeout.ms": str(session_ms),
            "broker.heartbeat.interval.ms": str(session_ms // 6),
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
        return properties | self._listener_properties() | self._options

    def _listener_properties(self) -> dict[str, str]:
        listener = "listener.name.client."
        properties: dict[str, str] = {}
        if self.security.tls:
            properties[listener + "ssl.keystore.type"] = "PEM"
            properties[listener + "ssl.keystore.location"] = str(self.certificates.server_pair)
            properties[listener + "ssl.truststore.type"] = "PEM"
            properties[listener + "ssl.truststore.location"] = str(self.certificates.ca)
            properties[listener + "ssl.client.auth"] = "required" if self.security.client_certificates else "none"
        if self.security.users:
            module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            properties[listener + "sasl.enabled.mechanisms"] = self.security.mechanism
            properties[f"{listener}{self.security.mechanism.lower()}.sasl.jaas.config"] = module
        return properties


class KafkaCluster:
    """Several Kafka nodes that keep copies of each other's records.

    Topics get three copies of which two must be written. Each member of `nodes` can be stopped, killed, paused and
    started by itself.

    Args:
        count: How many nodes.
        security: How clients reach them.
        options: Further broker properties.
        java: Options of each node's Java machine.
    """

    def __init__(
        self,
        count: int = 3,
        *,
        security: Security | None = None,
        options: Mapping[str, str] | None = None,
        java: Sequence[str] = ("-Xms128m", "-Xmx384m", *QUICK_START),
    ) -> None:
        identity = new_id()
        self.nodes = [
            KafkaServer(own=True, security=security, options=options, java=java, node=number, cluster_id=identity)
            for number in range(1, count + 1)
        ]
        for node in self.nodes:
            node.nodes = self.nodes
            node.certificates = self.nodes[0].certificates
        self.client_settings = self.nodes[0].client_settings

    @property
    def bootstrap(self) -> str:
        """Where clients connect: every node's host and port."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self) -> Self:
        """Start the nodes that do not run, and return when each knows all others."""
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait()
        return self

    def close(self) -> None:
        """End all nodes and remove their data."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *error: object) -> None:
        self.close()
