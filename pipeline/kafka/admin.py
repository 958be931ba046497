"""Topics on the brokers: create, list, and how far the workers are behind."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from connectors.kafka_brokers import Admin
from pipeline.errors import StethosError
from pipeline.kafka.client import TAKEN, Client
from pipeline.kafka.topics import INPUTS, wanted

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import TopicPartition
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import (
        KafkaError,
        KafkaTimeoutError,
        SaslAuthenticationFailedError,
        TopicAlreadyExistsError,
        UnsupportedSaslMechanismError,
    )

LATEST, EARLIEST = -1, -2
COORDINATOR_TRIES = 20
TOLD = ("retention.ms", "max.message.bytes")
"""Settings of topics whose differences are told: they decide what is kept and what is refused."""


class Lag(NamedTuple):
    """How far the group is behind in one partition; `committed` is None before the first commit.

    `taken` is the offset before which every result is durable; windows may need what is between the two.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    begin: int
    taken: int = 0

    @property
    def lag(self) -> int:
        """Records that are not acknowledged yet."""
        return self.end - max(self.begin, self.committed if self.committed is not None else self.begin)

    @property
    def unread(self) -> int:
        """Records that no worker has taken in, or whose results are not durable yet."""
        return max(0, self.end - max(self.begin, self.committed or 0, self.taken))


class BrokerError(StethosError):
    """The brokers cannot be reached, or refused."""


class LoginRefusedError(BrokerError):
    """A broker is there, and does not take who asks: no waiting mends it."""


def unreachable(client: Client, error: BaseException | str, cause: BaseException | None = None) -> BrokerError:
    """What to tell a person whose brokers do not answer, or refuse; `cause` is why no connection came about."""
    said = error if isinstance(error, str) else repr(error)
    mend, kind = "", BrokerError
    if (login := next((one for one in (cause, error) if isinstance(one, LOGIN)), None)) is not None:
        said, mend, kind = repr(login), "; mend kafka.username, password or mechanism", LoginRefusedError
    elif isinstance(error, KafkaTimeoutError):
        said = f"{said}: {cause}" if cause is not None else said
        mend = "; start a broker there, or mend kafka.bootstrap and what secures it (tls, ca_file, username, password)"
    return kind(f"kafka at {', '.join(client.bootstrap)}: {said}{mend}")


LOGIN = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)
"""A broker is there, and does not take who asks."""


@contextmanager
def admin(client: Client) -> Iterator[Any]:
    """An administration client; errors become ours.

    Raises:
        BrokerError: names the brokers.
    """
    causes: list[Exception] = []

    def heard(record: logging.LogRecord) -> bool:  # kafka-python 3.0 raises no more than that time was up
        words = record.args or ()
        causes.extend(w for w in words if isinstance(w, Exception) and not isinstance(w, KafkaTimeoutError))
        return True

    connections = logging.getLogger("kafka.net.manager")
    connections.addFilter(heard)
    try:
        with closing(Admin(**client.settings(), bootstrap_timeout_ms=10_000)) as made:
            yield made
    except KafkaError as error:
        causes.sort(key=lambda cause: not isinstance(cause, LOGIN))  # brokers say so now and then, or only hang up
        raise unreachable(client, error, causes[0] if causes else None) from None
    finally:
        connections.removeFilter(heard)


def partitions(client: Client) -> dict[str, int]:
    """The number of partitions of every topic on the brokers."""
    with admin(client) as kafka:
        names = set(kafka.list_topics())
        mine = [row.name for row in wanted(client.kafka) if row.name in names]
        return {t["name"]: len(t["partitions"]) for t in kafka.describe_topics(mine)} if mine else {}


def create(client: Client) -> list[str]:
    """Create the topics that are missing; returns their names."""
    there = partitions(client)
    missing = {
        row.name: {
            "num_partitions": row.partitions,
            "replication_factor": row.replication,
            "configs": dict(row.settings),
        }
        for row in wanted(client.kafka)
        if row.name not in there
    }
    if missing:
        with admin(client) as kafka:
            try:
                kafka.create_topics(missing, wait_for_metadata=True)
            except TopicAlreadyExistsError:  # another process was faster
                return create(client)
    return sorted(missing)


def unlike(client: Client) -> dict[str, dict[str, tuple[str, str]]]:
    """By topic and setting, where brokers hold another value than the configuration wants: that one, then the wanted.

    Brokers keep the settings that a topic was created with.
    """
    there = partitions(client)
    rows = {row.name: row.settings for row in wanted(client.kafka) if row.name in there}
    if not rows:
        return {}
    with admin(client) as kafka:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(TOLD)) for name in rows]
        found = kafka.describe_configs(asked, config_filter="all")["topic"]
    differ: dict[str, dict[str, tuple[str, str]]] = {}
    for name, settings in rows.items():
        for key in settings.keys() & set(TOLD) & found.get(name, {}).keys():
            if (held := str(found[name][key]["value"])) != settings[key]:
                differ.setdefault(name, {})[key] = (held, settings[key])
    return differ


def lags(client: Client) -> list[Lag]:
    """The group's lag in every partition of every input topic."""
    count = client.kafka.partitions
    tps = [TopicPartition(client.topic(name), number) for name in INPUTS for number in range(count)]
    with admin(client) as kafka:
        ends = kafka.list_partition_offsets(dict.fromkeys(tps, LATEST))
        begins = kafka.list_partition_offsets(dict.fromkeys(tps, EARLIEST))
        committed = _committed(kafka, client.kafka.group)
    return [
        Lag(
            client.row(tp.topic),
            tp.partition,
            committed[tp].offset if tp in committed and committed[tp].offset >= 0 else None,
            ends[tp].offset,
            begins[tp].offset,
            taken_of(committed[tp].metadata) if tp in committed else 0,
        )
        for tp in tps
    ]


def taken_of(metadata: str | None) -> int:
    """What a worker wrote beside an offset, see `faust_app.committed`; 0 if another wrote it."""
    word, _, number = (metadata or "").partition("=")
    return int(number) if word == TAKEN and number.isdigit() else 0


def _committed(kafka: Any, group: str) -> dict[Any, Any]:
    for left in reversed(range(COORDINATOR_TRIES)):
        try:
            return dict(kafka.list_group_offsets({group: None})[group])
        except KafkaError as error:  # a fresh broker looks for the group's coordinator, or that one reads its log
            if left == 0 or not error.retriable:
                raise
            time.sleep(0.5)
    return {}


def remove(client: Client) -> list[str]:
    """Delete the engine's topics with all that is in them; returns their names."""
    there = sorted(partitions(client))
    if there:
        with admin(client) as kafka:
            kafka.delete_topics(there)
    return there
