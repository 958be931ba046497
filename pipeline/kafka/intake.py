"""From a record of an input topic to what a lane takes in, or to a dead letter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline import codec
from pipeline.errors import DecodeError
from pipeline.headers import Headers
from pipeline.kafka.part import Part
from pipeline.kafka.records import read_command
from pipeline.kafka.topics import COMMAND
from pipeline.messages import Chunk, Context, DeadLetter, Image, Input, Mark, Result

MAX_KEY = 63


@dataclass(frozen=True, slots=True)
class Wish:
    """A command as it came: `ident` names it, so that it becomes one decision however often it is read."""

    machine: str
    ident: str
    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that was read: a message or a command for a lane, or the dead letters that it became."""

    machine: str
    message: Input | None = None
    command: Wish | None = None
    results: list[Result] = field(default_factory=list)


def take_in(topic: str, record: Any, part: Part) -> Taken:
    """Decode a record.

    Args:
        topic: its row in the table.
        record: with `key`, `value`, `headers`, `partition`, `offset`.
        part: the lanes that are here.
    """
    headers: Headers = [(name, value or b"") for name, value in record.headers or ()]
    key = (record.key or b"").decode("utf-8", "replace")[:MAX_KEY]
    try:
        if topic == COMMAND:
            kind, body = read_command(record.value)
            return Taken(_here(key, part), command=Wish(key, f"{record.partition}.{record.offset}", kind, body))
        message = codec.decode(headers, record.value)
        if not isinstance(message, Chunk | Image | Mark | Context) or codec.topic_of(message) != topic:
            raise DecodeError("type", f"a {type(message).__name__} does not belong into {topic}")
        machine = message.machine if isinstance(message, Context) else message.stream.machine
        if machine != key:
            raise DecodeError("key", f"the record's key is {key!r}, its machine {machine!r}")
        return Taken(_here(machine, part), message)
    except DecodeError as error:
        letter = DeadLetter(topic, key, error.reason, str(error), tuple(headers), bytes(record.value or b""))
        return Taken(key, results=[letter])


def _here(machine: str, part: Part) -> str:
    if machine not in part.lanes:
        raise DecodeError("unknown_machine", f"the configuration has no machine '{machine}'")
    return machine
