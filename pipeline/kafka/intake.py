"""From a record of an input topic to what a lane takes in, or to a dead letter."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from pipeline import codec
from pipeline.errors import DecodeError
from pipeline.headers import Headers
from pipeline.kafka import fetched
from pipeline.kafka.part import Part
from pipeline.kafka.records import SENT, read_command
from pipeline.kafka.topics import COMMAND
from pipeline.kafka.trace import TRACEPARENT
from pipeline.messages import Chunk, Context, DeadLetter, Image, Input, Mark, Result

log = logging.getLogger(__name__)

MAX_KEY = 63
MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """A command as it came: `ident` names it, so that it becomes one decision however often it is read."""

    machine: str
    ident: str
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that was read: a message or a command for a lane, or the dead letter that it became, if that is kept.

    `sent_ns` is when the message was published, where its publisher told.
    """

    machine: str
    message: Input | None = None
    command: Wish | None = None
    results: list[Result] = field(default_factory=list)
    sent_ns: int | None = None


def take_in(topic: str, record: Any, part: Part) -> Taken:
    """Decode a record.

    Args:
        topic: its row in the table.
        record: with `key`, `value`, `headers`, `partition`, `offset`.
        part: the lanes that are here.
    """
    headers: Headers = [(name, value or b"") for name, value in record.headers or ()]
    key = (record.key or b"").decode("utf-8", "replace")[:MAX_KEY]
    failed: Exception | None = None
    try:
        fetched.check(record)
        if topic == COMMAND:
            kind, body = read_command(record.value)
            return Taken(_here(key, part), command=Wish(key, f"{record.partition}.{record.offset}", kind, body))
        told = headers[:-1] if headers and headers[-1][0] == TRACEPARENT else headers
        sent = told[-1][1] if told and told[-1][0] == SENT else b""
        told = told[:-1] if sent else told  # the decoder is fast with what the codec wrote
        message = codec.decode(told or (), record.value)
        if not isinstance(message, Chunk | Image | Mark | Context) or codec.topic_of(message) != topic:
            raise DecodeError("type", f"a {type(message).__name__} does not belong into {topic}")
        machine = message.machine if isinstance(message, Context) else message.stream.machine
        if machine != key:
            raise DecodeError("key", f"the record's key is {key!r}, its machine {machine!r}")
        sent_ns = int(sent) if sent.isdigit() and len(sent) < MAX_DIGITS else None
        return Taken(_here(machine, part), message, sent_ns=sent_ns)
    except DecodeError as error:
        reason, text = error.reason, str(error)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a worker must not end over and over
        reason, text, failed = "unreadable", repr(error), error
    if not part.keeps(topic, record.offset, reason, key):
        return Taken(key)
    if failed is not None:
        log.error("%s/%d at %d cannot be read", topic, record.partition, record.offset, exc_info=failed)
    return Taken(key, results=[DeadLetter(topic, key, reason, text, tuple(headers), bytes(record.value or b""))])


def _here(machine: str, part: Part) -> str:
    if machine not in part.lanes:
        raise DecodeError("unknown_machine", f"the configuration of worker '{part.worker}' has no machine '{machine}'")
    return machine
