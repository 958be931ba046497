"""What must be true of the libraries and the brokers before a worker starts; each check says how to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from pipeline.errors import ConfigError
from pipeline.kafka import admin
from pipeline.kafka.client import Client
from pipeline.kafka.topics import wanted

AGAIN_S = 2.0


def libraries() -> None:
    """Refuse builds that lose messages or stall.

    Raises:
        ConfigError: Faust without its compiled iterator acknowledges what it skipped after a rebalance; a checksum in
            pure Python reads 9 MB/s; producers choose how they compress.
    """
    import aiokafka.record.util as checksum
    import faust.streams
    from aiokafka import codec

    if getattr(faust.streams, "_CStreamIterator", None) is None:
        raise ConfigError(
            "faust runs without its compiled stream iterator and would lose messages at a rebalance: "
            "install the binary wheel of faust-streaming, and do not set NO_CYTHON"
        )
    if checksum.calc_crc32c is checksum.calc_crc32c_py:
        raise ConfigError(
            "aiokafka runs without its compiled checksum: install its binary wheel, "
            "and do not set AIOKAFKA_NO_EXTENSIONS"
        )
    if not (codec.has_snappy() and codec.has_lz4() and codec.has_zstd()):
        raise ConfigError("messages in snappy, lz4 or zstd could not be read: install stethos[kafka] again")


def assignor(app: Any) -> None:
    """Refuse an assignment that could put one machine's sensors on different workers.

    Raises:
        ConfigError: Faust's co-partitioning assignor is not in use.
    """
    used = app.consumer._thread._assignor
    if used is not app.assignor:
        raise ConfigError(
            f"faust uses {type(used).__name__}, which scatters a machine's topics: keep table_standby_replicas at 1"
        )


def topics(client: Client, found: Mapping[str, int]) -> None:
    """Compare the partitions that the brokers have with those that are wanted.

    Args:
        client: names and wishes.
        found: partitions by topic on the brokers.

    Raises:
        ConfigError: a topic is missing or has another number of partitions.
    """
    wrong = [
        f"{row.name}: {found.get(row.name, 'no')} partitions, not {row.partitions}"
        for row in wanted(client.kafka)
        if found.get(row.name) != row.partitions
    ]
    if wrong:
        raise ConfigError(
            "the topics on Kafka are not as configured; `stethos topics create` makes missing ones, and partitions "
            "cannot be changed later (use another kafka.prefix): " + "; ".join(wrong)
        )


async def watch_topics(client: Client) -> NoReturn:
    """Look at the topics for as long as the group has no sound assignment: for ever, where they are as configured.

    Raises:
        ConfigError: as `topics`.
    """
    while True:
        await asyncio.sleep(AGAIN_S)  # a topic that was made just now may not be known to all brokers
        try:
            found = await asyncio.to_thread(admin.partitions, client)
        except admin.BrokerError:
            pass  # said by whatever else needs the brokers
        else:
            topics(client, found)
