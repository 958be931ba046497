"""Forward through an MCAP file without its index, skipping what is not wanted.

The MCAP library reads every record through a stream of small reads; a recording has thousands of messages a second, so
the few fixed layouts that matter are read here (https://mcap.dev/spec). Checksums of chunks are verified.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, Final, NamedTuple, TypeAlias

import lz4.frame  # type: ignore[import-untyped]  # like zstandard, the MCAP library brings it
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, InvalidMagic, McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, Header, Metadata, Schema
from mcap.stream_reader import CRCValidationError

MAGIC: Final = b"\x89MCAP0\r\n"
DAMAGE: Final = (
    McapError, ValueError, struct.error, RuntimeError, MemoryError, OverflowError, KeyError, zstandard.ZstdError
)  # fmt: skip
"""What bytes that are no MCAP lead to."""
LARGEST_CHUNK: Final = 64 << 20
"""Bytes that a compressed chunk may unpack to; tools write a few MB."""

_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQII")


class Piece(NamedTuple):
    """Where a record lies: its kind, where its content starts, and how long that is."""

    opcode: int
    at: int
    length: int


class Item(NamedTuple):
    """One recorded message."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    data: bytes


Inner: TypeAlias = Item | Channel | Schema


def walk(file: BinaryIO) -> Iterator[Piece]:
    """The records of the data section, in order; returns at its end mark.

    Raises:
        EndOfFile: the file stops before.
        InvalidMagic: it is no MCAP file.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if (magic := file.read(len(MAGIC))) != MAGIC:
        raise InvalidMagic(magic)
    at = len(MAGIC)
    while True:
        file.seek(at)
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise EndOfFile
        opcode, length = _HEAD.unpack(head)
        at += _HEAD.size
        if not opcode or at + length > size:  # a power cut leaves zeros, and no record is of kind 0
            raise EndOfFile
        yield Piece(opcode, at, length)
        if opcode == Opcode.DATA_END:
            return
        at += length


def content(file: BinaryIO, piece: Piece) -> bytes:
    """A record's content."""
    file.seek(piece.at)
    data = file.read(piece.length)
    if len(data) < piece.length:
        raise EndOfFile
    return data


def record(file: BinaryIO, piece: Piece) -> Header | Metadata | Attachment | None:
    """A record outside the chunks; None for kinds that nobody asks for. An attachment's checksum is verified."""
    if piece.opcode not in {Opcode.HEADER, Opcode.METADATA, Opcode.ATTACHMENT}:
        return None
    data = content(file, piece)
    stream = ReadDataStream(BytesIO(data))
    if piece.opcode == Opcode.HEADER:
        header: Header = Header.read(stream)
        return header
    if piece.opcode == Opcode.METADATA:
        metadata: Metadata = Metadata.read(stream)
        return metadata
    attachment: Attachment = Attachment.read(stream)
    expected, actual = int.from_bytes(data[-4:], "little"), zlib.crc32(data[:-4])
    if expected not in (0, actual):
        raise CRCValidationError(expected, actual, attachment)
    return attachment


def inside(file: BinaryIO, piece: Piece) -> Iterator[Inner]:
    """The messages, channels and schemas of a chunk, in order, after its checksum was verified."""
    data = _unpacked(content(file, piece))
    at, end = 0, len(data)
    while at < end:
        opcode, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        stop = at + length
        if not opcode or stop > end:
            raise EndOfFile
        if opcode == Opcode.MESSAGE:
            channel, sequence, log_ns, published = _MESSAGE.unpack_from(data, at)
            yield Item(channel, sequence, log_ns, published, data[at + _MESSAGE.size : stop])
        elif opcode == Opcode.CHANNEL:
            yield Channel.read(ReadDataStream(BytesIO(data[at:stop])))
        elif opcode == Opcode.SCHEMA:
            yield Schema.read(ReadDataStream(BytesIO(data[at:stop])))
        at = stop


def _unpacked(body: bytes) -> bytes:
    start, end, size, crc, letters = _CHUNK.unpack_from(body)
    at = _CHUNK.size + letters
    compression = body[_CHUNK.size : at].decode()
    data = body[at + 8 :]
    if len(data) != int.from_bytes(body[at : at + 8], "little"):
        raise EndOfFile
    if compression:
        data = _decompressed(compression, data, size)
    if crc and crc != (actual := zlib.crc32(data)):
        raise CRCValidationError(crc, actual, Chunk(compression, data, end, start, crc, size))
    return data


def _decompressed(compression: str, data: bytes, size: int) -> bytes:
    """The content of a chunk that another tool has compressed: never more than the chunk says, which is bounded."""
    if size > LARGEST_CHUNK:
        raise McapError(f"a chunk of {size:,} bytes; at most {LARGEST_CHUNK:,} are unpacked")
    if compression == "zstd":
        found: bytes = zstandard.ZstdDecompressor().stream_reader(data).read(size)
    elif compression == "lz4":
        found = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size)
    else:
        raise McapError(f"unsupported compression type {compression!r:.20}")
    if len(found) != size:
        raise EndOfFile
    return found


class ChunkPlace(NamedTuple):
    """A chunk and which channels have messages in it: per channel the places of their publish times.

    `channels` is empty where that is not known; the chunk must then be read.
    """

    piece: Piece
    log_ns: int
    channels: dict[int, list[int]]


def chunk_places(file: BinaryIO) -> Iterator[ChunkPlace]:
    """All chunks of a file with their message indexes, without reading the messages; stops at damage."""
    place: ChunkPlace | None = None
    try:
        for piece in walk(file):
            if piece.opcode == Opcode.MESSAGE_INDEX and place is not None:
                _index(file, piece, place)
                continue
            if place is not None:
                yield place
                place = None
            if piece.opcode == Opcode.CHUNK:
                place = ChunkPlace(piece, int.from_bytes(_peek(file, piece.at, 8), "little"), {})
    except DAMAGE:
        if place is not None:
            yield place._replace(channels={})


def _index(file: BinaryIO, piece: Piece, place: ChunkPlace) -> None:
    body = content(file, piece)
    letters = int.from_bytes(_peek(file, place.piece.at + _CHUNK.size - 4, 4), "little")
    if letters:
        return  # compressed: the places are of no use
    start = place.piece.at + _CHUNK.size + 8 + _HEAD.size + 14
    offsets = [offset for _, offset in struct.iter_unpack("<QQ", body[6:])]
    place.channels[int.from_bytes(body[:2], "little")] = [start + offset for offset in offsets]


def _peek(file: BinaryIO, at: int, n: int) -> bytes:
    file.seek(at)
    return file.read(n)


def publish_ns(file: BinaryIO, at: int) -> int:
    """The publish time that lies at a place."""
    return int.from_bytes(_peek(file, at, 8), "little")
