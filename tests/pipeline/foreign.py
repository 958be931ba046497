"""MCAP files byte by byte, as other tools may write them and no recorder of ours does."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Channel, DataEnd, Header, McapRecord, Message, Metadata, Schema

from pipeline.messages import Context
from pipeline.recording.format import HEADER, PROFILE, channel_of, entry_of
from pipeline.recording.mcap_walk import MAGIC

T = 1_700_000_000_000_000_000


def records(*parts: McapRecord) -> bytes:
    """As they stand in a file or in a chunk."""
    builder: Any = RecordBuilder()
    for part in parts:
        part.write(builder)
    data: bytes = builder.end()
    return data


def plain(data: bytes) -> bytes:
    """No compression."""
    return data


def chunk(
    data: bytes, size: int | None = None, stored: int | None = None, crc: int = 0,
    name: str = "", pack: Callable[[bytes], bytes] = plain,
) -> bytes:  # fmt: skip
    """A chunk record; the sizes that it tells are those of its content, if nothing else is wanted."""
    packed = pack(data)
    head = struct.pack("<QQQII", T, T, len(data) if size is None else size, crc, len(name)) + name.encode()
    body = head + struct.pack("<Q", len(packed) if stored is None else stored) + packed
    return struct.pack("<BQ", Opcode.CHUNK, len(body)) + body


def sealed(data: bytes) -> bytes:
    """A chunk with its checksum."""
    return chunk(data, crc=zlib.crc32(data))


def fact(number: int) -> Context:
    """What message `number` says."""
    return Context("m", "tool", T + number, f"T{number}")


def channel(preroll: bool = False) -> bytes:
    """A schema and the channel of the facts."""
    info = channel_of(fact(0), preroll)
    return records(Schema(1, b"{}", "jsonschema", "context"), Channel(1, info.topic, info.encoding, info.metadata, 1))


def message(number: int, log_ns: int | None = None, on: int = 1) -> bytes:
    """A fact, logged at its own time if no other is given."""
    entry = entry_of(fact(number))
    log_ns = T + number if log_ns is None else log_ns
    return records(Message(on, log_ns, entry.head + entry.body, entry.publish_ns, number))


def mcap(*parts: bytes, facts: Mapping[str, str] | None = None, profile: str = PROFILE) -> bytes:
    """A recording of these records, up to its end mark; no summary follows."""
    told = {"schema_version": "1"} if facts is None else dict(facts)
    head = records(Header(profile, "a tool"), Metadata(HEADER, told))
    return MAGIC + head + b"".join(parts) + records(DataEnd(0))
