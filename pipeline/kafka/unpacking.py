"""How much a compressed batch may become: both libraries unpack it whole, and a megabyte of zstd can hold gigabytes.

The functions here stand in place of the libraries' own. What is longer than `MOST_BYTES` is an error, of which
`fetched` makes dead letters.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import zstandard

MOST_BYTES = 64_000_000
"""Of an unpacked batch. Topics take a megabyte packed; producers fill a batch by its unpacked size, or an estimate."""
MOST_MEMBERS = 1000
"""Packed streams behind each other in one batch; clients write one."""
PIECE_BYTES = 1_000_000
GZIP = 16 + zlib.MAX_WBITS
XERIAL, XERIAL_BYTES = b"\x82SNAPPY\x00", 16
"""Begins snappy in blocks, as Java's clients write it, and how long that header is."""

Decode = Callable[[Any], bytes]


class TooLong(ValueError):
    """A batch that unpacks to more than anybody sends."""

    def __init__(self, most: str = "") -> None:
        super().__init__(f"the batch unpacks to more than {most or f'{MOST_BYTES:,} bytes'}")


def _whole(pieces: Iterator[bytes]) -> bytes:
    out = bytearray()
    for piece in pieces:
        out += piece
        if len(out) > MOST_BYTES:
            raise TooLong
    return bytes(out)


def _members(data: bytes, made: Callable[[], Any]) -> Iterator[bytes]:
    """Of what consists of one packed stream or several, by decompressors that stop after so many bytes."""
    for count in itertools.count():
        if not data:
            return
        if count == MOST_MEMBERS:
            raise TooLong(f"{MOST_MEMBERS:,} streams")
        one = made()
        while not one.eof:
            piece = one.decompress(data, PIECE_BYTES)
            data = one.unconsumed_tail if hasattr(one, "unconsumed_tail") else b""
            if not piece and not data and not one.eof:
                raise EOFError("the batch ends within what is compressed")
            yield piece
        data = one.unused_data or b""


def gzip_decode(data: Any) -> bytes:
    """In place of the libraries' function of this name, as the others.

    Raises:
        TooLong: it unpacks to more than `MOST_BYTES`, or consists of more than `MOST_MEMBERS` streams.
    """
    return _whole(_members(bytes(data), lambda: zlib.decompressobj(GZIP)))


def lz4_decode(data: Any) -> bytes:
    """See `gzip_decode`."""
    return _whole(_members(bytes(data), lz4.frame.LZ4FrameDecompressor))


def zstd_decode(data: Any) -> bytes:
    """See `gzip_decode`."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(bytes(data)), read_across_frames=True) as reader:
        return _whole(iter(lambda: reader.read(PIECE_BYTES), b""))


def snappy_decode(data: Any, library: Decode) -> bytes:
    """See `gzip_decode`; snappy says first how long it is, and cannot be longer."""
    packed = bytes(data)
    if sum(map(_snappy_bytes, _blocks(packed))) > MOST_BYTES:
        raise TooLong
    return bytes(library(packed))


def _blocks(packed: bytes) -> Iterator[bytes]:
    if not packed.startswith(XERIAL):
        yield packed
        return
    at = XERIAL_BYTES
    while at < len(packed):
        (size,) = struct.unpack_from(">I", packed, at)
        yield packed[at + 4 : at + 4 + size]
        at += 4 + size


def _snappy_bytes(block: bytes) -> int:
    """What a block says of its length: a number in groups of seven bits, the lowest first."""
    length = 0
    for place, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return length


def bound(module: Any) -> None:
    """Put these functions into a library's module that unpacks batches."""
    own: Mapping[str, Decode] = {"gzip_decode": gzip_decode, "lz4_decode": lz4_decode, "zstd_decode": zstd_decode}
    for name, function in own.items():
        setattr(module, name, function)
    library: Decode = module.snappy_decode
    module.snappy_decode = lambda data: snappy_decode(data, library)
