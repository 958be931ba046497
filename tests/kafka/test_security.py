"""Every client of the engine speaks TLS and SASL/SCRAM from the configuration; strangers are refused."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from config.fast_lane import Mqtt
from config.schema import Kafka
from pipeline.errors import ConfigError
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.replay import replay_settings
from tests.kafka.conftest import QUICK
from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer, Security


def test_tls_and_scram_end_to_end(prefix: str, tmp_path: Path) -> None:
    """Publisher, worker (Faust, its producer, its log reader), collector and administration."""
    security = Security(tls=True, client_certificates=True, users={"stethos": "s3cret"})
    with KafkaServer(own=True, security=security, options=QUICK) as secured:
        files = secured.certificates
        more = {
            "tls": True, "ca_file": str(files.ca), "cert_file": str(files.client), "key_file": str(files.client_key),
            "username": "stethos", "password": "s3cret",
        }  # fmt: skip
        with Running(plant(1, 8.0), secured, tmp_path, prefix, partitions=2, more=more) as running:
            running.start("w0")
            running.publish_all()
            running.wait_done()
            assert running.journal() == running.expected
            wrong = running.client.kafka.model_copy(update={"password": Kafka(password="x", username="y").password})
            said = refusal(Client(wrong))  # brokers say why now and then, or only hang up
            assert "mend kafka." in said and "username" in said and "password" in said
            with warnings.catch_warnings():  # kafka-python leaves the socket of the refused connection to the collector
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


def refusal(client: Client) -> str:
    """What a client that is refused is told; nothing of the error is kept."""
    try:
        admin.partitions(client)
    except admin.BrokerError as error:
        return str(error)
    return "it was let in"


def test_half_a_configuration_is_refused(tmp_path: Path) -> None:
    """A name without a password, a certificate without its key, a file that is none."""
    with pytest.raises(ValueError, match="belong together"):
        Kafka(username="stethos")
    with pytest.raises(ValueError, match="belong together"):
        Kafka(cert_file=tmp_path / "c.pem")
    with pytest.raises(ConfigError, match="ca_file"):
        _ = Client(Kafka(tls=True, ca_file=tmp_path / "missing.pem")).ssl_context


@pytest.mark.parametrize("section", [Kafka, Mqtt])
def test_certificates_without_tls_are_refused(section: type[Kafka | Mqtt], tmp_path: Path) -> None:
    """All would be sent as it is."""
    for files in ({"ca_file": tmp_path}, {"cert_file": tmp_path, "key_file": tmp_path}):
        with pytest.raises(ValueError, match="set tls = true"):
            section.model_validate(files)
        assert section.model_validate({**files, "tls": True}).tls


@pytest.mark.parametrize("bootstrap", ["kafka-1:9092", "127.0.0.1:9092, 10.0.0.7:9092", "10.0.0.7", "[fe80::1]:9092"])
def test_a_password_is_not_sent_where_others_listen(bootstrap: str) -> None:
    """PLAIN is for TLS, or for a broker on this box; SCRAM tells no listener the password."""
    login = {"bootstrap": bootstrap, "username": "u", "password": "p", "mechanism": "PLAIN"}
    with pytest.raises(ValueError, match="PLAIN sends the password"):
        Kafka.model_validate(login)
    here = "localhost:9092, 127.0.0.2:9092, [::1]:9092"
    for good in ({"tls": True}, {"mechanism": "SCRAM-SHA-256"}, {"bootstrap": here}):
        assert Kafka.model_validate({**login, **good}).username == "u"
    with pytest.raises(ConfigError, match=r"--kafka .*: mechanism PLAIN sends"):
        replay_settings(bootstrap, Kafka.model_validate({**login, "bootstrap": here}))
