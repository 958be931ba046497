"""A command to a lane on Kafka, and its answer: the decision that it became, or the dead letter that says why not."""

from __future__ import annotations

import time
import uuid
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from config.schema import Settings
from pipeline import codec
from pipeline.errors import DecodeError, StateError
from pipeline.headers import ID
from pipeline.kafka import fetched
from pipeline.kafka.admin import unreachable
from pipeline.kafka.client import Client
from pipeline.kafka.records import command_headers, command_value
from pipeline.kafka.topics import COMMAND, DECISION
from pipeline.messages import DeadLetter, Decision

DEAD = "dlq"


class Asked(NamedTuple):
    """A command in its log: `ident` names it by its place there, `name` in its own header.

    The letter of one that a lane refused carries the former, that of one which reached no lane the latter.
    """

    machine: str
    kind: str
    ident: str
    name: str


def wish(settings: Settings, machine: str, kind: str, body: dict[str, Any], wait_s: float) -> str:
    """Publish a command and wait for its decision; returns the decision's id.

    Raises:
        StateError: the lane refused, or no worker answered in time.
        BrokerError: no broker answers.
    """
    client = Client(settings.kafka)
    number = int(murmur2(machine.encode()) & 0x7FFFFFFF) % client.kafka.partitions
    answers = [TopicPartition(client.topic(name), number) for name in (DECISION, DEAD)]
    try:
        consumer = KafkaConsumer(
            **client.settings(), enable_auto_commit=False, auto_offset_reset="earliest", bootstrap_timeout_ms=10_000
        )
        try:
            consumer.assign(answers)
            for tp, end in consumer.end_offsets(answers).items():
                consumer.seek(tp, end)
            name = uuid.uuid4().hex
            offset = _publish(client, number, machine, name, command_value(kind, body))
            return _wait(consumer, Asked(machine, kind, f"{number}.{offset}", name), wait_s)
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise unreachable(client, error) from None


def _publish(client: Client, number: int, machine: str, name: str, value: bytes) -> int:
    producer = KafkaProducer(**client.settings(), acks="all", bootstrap_timeout_ms=10_000)
    try:
        future = producer.send(
            client.topic(COMMAND), value, key=machine.encode(), partition=number,
            headers=command_headers(machine, name),
        )  # fmt: skip
        return int(future.get(timeout=10).offset)
    finally:
        producer.close(timeout=5)


def _wait(consumer: Any, asked: Asked, wait_s: float) -> str:
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        for records in consumer.poll(timeout_ms=100).values():
            for record in records:
                if (answer := _answer(record, asked)) is not None:
                    return answer
    raise StateError(
        f"{asked.machine}: no worker answered within {wait_s:g} s; the command stays in the log until one does"
    )


def _answer(record: Any, asked: Asked) -> str | None:
    try:
        fetched.check(record)
        message = codec.decode(record.headers or (), record.value)
    except DecodeError:
        return None  # a claim
    if isinstance(message, Decision) and message.id == f"{asked.machine}|{asked.kind}|{asked.ident}":
        return message.id
    if not isinstance(message, DeadLetter) or message.topic != COMMAND or message.machine != asked.machine:
        return None
    if dict(message.headers).get(ID) in {asked.ident.encode(), asked.name.encode()}:
        raise StateError(f"{asked.machine}: the engine refused: {message.error}")
    return None
