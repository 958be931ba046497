"""Writing MCAP, a few microseconds a message.

The MCAP library's writer builds every message field by field (about 40 µs); a plant with hundreds of microphones
records thousands a second. Here messages are laid out by one `struct.pack`; all other records are the library's.
The file is what https://mcap.dev/spec describes: chunks with checksum and message indexes, and a summary.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from pipeline.recording.mcap_walk import MAGIC

CHUNK_BYTES: Final = 1 << 20
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_FIELDS: Final = 22
_CHUNK = struct.Struct("<BQQQQIIQ")
_CHUNK_FIELDS: Final = 40
_FOOTER_HEAD = struct.Struct("<BQQQ")
_LIBRARY: Final = "stethos"


class Output(Protocol):
    """A file being written."""

    def write(self, data: bytes, /) -> int:
        """Append."""
        ...


class McapFile:
    """Writes one MCAP file to an output, uncompressed.

    Args:
        output: takes everything in order.
        profile: of the header.
    """

    def __init__(self, output: Output, profile: str) -> None:
        self._output = output
        self._at = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._span = (0, 0)
        self._index: dict[int, list[int]] = {}
        self._counts: dict[int, int] = {}
        self._log = (0, 0)
        self._schemas: list[bytes] = []
        self._channels: list[bytes] = []
        self._chunks: list[bytes] = []
        self._attachments: list[bytes] = []
        self._metadata: list[bytes] = []
        self._write(MAGIC)
        self._write(_bytes(Header(profile, _LIBRARY)))

    def _write(self, data: bytes) -> None:
        self._output.write(data)
        self._at += len(data)

    def metadata(self, name: str, entries: Mapping[str, str]) -> None:
        """Add text by name."""
        record, at = _bytes(Metadata(name=name, metadata=dict(entries))), self._at
        self._write(record)
        self._metadata.append(_bytes(MetadataIndex(offset=at, length=len(record), name=name)))

    def attachment(self, name: str, media_type: str, data: bytes, log_ns: int) -> None:
        """Add a file by name."""
        record, at = _bytes(Attachment(log_ns, log_ns, name, media_type, data)), self._at
        self._write(record)
        index = AttachmentIndex(at, len(record), log_ns, log_ns, len(data), name, media_type)
        self._attachments.append(_bytes(index))

    def schema(self, name: str, encoding: str, data: bytes) -> int:
        """Describe a form of messages; returns its number."""
        number = len(self._schemas) + 1
        self._schemas.append(_bytes(Schema(id=number, data=data, encoding=encoding, name=name)))
        self._inside(self._schemas[-1])
        return number

    def channel(self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]) -> int:
        """Describe a channel; returns its number."""
        number = len(self._channels) + 1
        record = _bytes(
            Channel(id=number, topic=topic, message_encoding=encoding, schema_id=schema, metadata=dict(metadata))
        )
        self._channels.append(record)
        self._inside(record)
        return number

    def _inside(self, record: bytes) -> None:
        self._parts.append(record)
        self._size += len(record)

    def message(
        self, channel: int, sequence: int, log_ns: int, publish_ns: int, head: bytes, body: bytes = b""
    ) -> None:
        """Add a message, its data in one or two pieces."""
        n = _MESSAGE_FIELDS + len(head) + len(body)
        self._parts += (_MESSAGE.pack(Opcode.MESSAGE, n, channel, sequence, log_ns, publish_ns), head, body)
        if not self._index:
            self._span = (log_ns, log_ns)
        lo, hi = self._span
        self._span = (min(lo, log_ns), max(hi, log_ns))
        self._index.setdefault(channel, []).extend((log_ns, self._size))
        self._size += 9 + n
        if self._size >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Close the chunk, if it has messages."""
        if not self._index:
            return
        data, (first, last), at = b"".join(self._parts), self._span, self._at
        n = _CHUNK_FIELDS + len(data)
        self._write(_CHUNK.pack(Opcode.CHUNK, n, first, last, len(data), zlib.crc32(data), 0, len(data)))
        self._write(data)
        chunk_length, index_at = self._at - at, self._at
        offsets, indexes = [], []
        next_at = index_at
        for channel, entries in self._index.items():
            offsets.append(struct.pack("<HQ", channel, next_at))
            head = struct.pack("<BQHI", Opcode.MESSAGE_INDEX, 6 + 8 * len(entries), channel, 8 * len(entries))
            indexes.append(head + struct.pack(f"<{len(entries)}Q", *entries))
            next_at += len(indexes[-1])
            self._counts[channel] = self._counts.get(channel, 0) + len(entries) // 2
        self._write(b"".join(indexes))
        where = b"".join(offsets)
        content = (
            struct.pack("<QQQQI", first, last, at, chunk_length, len(where))
            + where
            + struct.pack("<QIQQ", self._at - index_at, 0, len(data), len(data))
        )
        self._chunks.append(struct.pack("<BQ", Opcode.CHUNK_INDEX, len(content)) + content)
        self._log = (min(self._log[0], first) if len(self._chunks) > 1 else first, max(self._log[1], last))
        self._parts, self._size, self._index = [], 0, {}

    def finish(self) -> None:
        """Write what is left, the summary and the footer."""
        self.flush()
        self._write(_bytes(DataEnd(0)))
        start = at = self._at
        summary, offsets = [], []
        for opcode, records in (
            (Opcode.SCHEMA, self._schemas),
            (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [_bytes(self._statistics())]),
            (Opcode.CHUNK_INDEX, self._chunks),
            (Opcode.ATTACHMENT_INDEX, self._attachments),
            (Opcode.METADATA_INDEX, self._metadata),
        ):
            group = b"".join(records)
            summary.append(group)
            if group:
                offsets.append(_bytes(SummaryOffset(group_opcode=opcode, group_start=at, group_length=len(group))))
            at += len(group)
        data = b"".join((*summary, *offsets))
        crc = zlib.crc32(_FOOTER_HEAD.pack(Opcode.FOOTER, 20, start, at), zlib.crc32(data))
        self._write(data)
        self._write(_bytes(Footer(summary_start=start, summary_offset_start=at, summary_crc=crc)))
        self._write(MAGIC)

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            metadata_count=len(self._metadata),
            message_start_time=self._log[0],
            message_end_time=self._log[1],
            schema_count=len(self._schemas),
        )


def _bytes(record: McapRecord) -> bytes:
    builder: Any = RecordBuilder()
    record.write(builder)
    data: bytes = builder.end()
    return data
