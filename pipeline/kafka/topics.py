"""Which topics the engine has on Kafka, and with what settings they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.schema import Kafka
from pipeline.kafka.client import MAX_REQUEST_BYTES
from pipeline.topics import TOPICS

HOUR_MS = 3_600_000
STATE = "state"
COMMAND = "command"
DECISION = "decision"

INPUTS: tuple[str, ...] = (
    *(topic.name for topic in TOPICS if topic.kind == "log" and topic.name != DECISION),
    COMMAND,
)
"""What the workers consume as a group: co-partitioned by machine."""

OUTPUTS: tuple[str, ...] = tuple(topic.name for topic in TOPICS if topic.kind == "out")
"""What the workers publish and collectors read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be on the brokers."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


def wanted(kafka: Kafka) -> list[Wanted]:
    """Every topic of the engine; names with the prefix."""
    return [
        Wanted(kafka.prefix + name, kafka.partitions, kafka.replication, settings)
        for name, settings in _settings(kafka).items()
    ]


def _settings(kafka: Kafka) -> dict[str, dict[str, str]]:
    common = {
        "max.message.bytes": str(MAX_REQUEST_BYTES + 48_576),
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "2" if kafka.replication >= 3 else "1",
    }
    made: dict[str, dict[str, str]] = {}
    for topic in TOPICS:
        if topic.kind == "wire":
            continue
        hours: float = topic.retention_h
        if kafka.raw_retention_h is not None and (topic.name.startswith("raw.") or topic.name == "context"):
            hours = kafka.raw_retention_h
        # A decision is needed as long as there is anything that was computed under it.
        retention = -1 if topic.name == DECISION else round(hours * HOUR_MS)
        made[topic.name] = {**common, "cleanup.policy": "delete", "retention.ms": str(retention)}
    made[COMMAND] = {**common, "cleanup.policy": "delete", "retention.ms": str(72 * HOUR_MS)}
    made[STATE] = {**common, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000"}
    return made
