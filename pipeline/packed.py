"""Chunks between the processes of one box: what a stream's messages share goes once, what changes in 32 bytes.

Headers as on the wire cost more time than the samples of a short chunk. A pipe between two of our own processes keeps
the order and loses nothing, so that they can be said once. All that is not a chunk, or that does not fit, goes as on
the wire.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from pipeline.codec import samples_of, view_of
from pipeline.headers import INT64, Headers, Static, end_ns, read_static, static_of
from pipeline.messages import Anchor, Chunk

_PLACE: Final = struct.Struct("<qqqq")  # n0, anchor's n and t_ns, seq
_MAX_STREAMS: Final = 4096

Packed: TypeAlias = tuple[int, bytes, bytes] | tuple[int, Headers, bytes]
"""Number of the stream, place, samples; or number, headers that its chunks share, channels in digits."""


class Packer:
    """The sender's side of one pipe."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Static]] = {}  # by the stream's identity; `Static` keeps it alive

    def pack(self, chunk: Chunk) -> list[Packed]:
        """What to send for a chunk, in order; nothing if it must go as on the wire.

        Raises:
            BadInput: it is not what its stream says.
        """
        packed: list[Packed] = []
        if end_ns(chunk) is None or not 0 <= chunk.seq < INT64:
            return packed
        stream = chunk.stream
        known = self._known.get(id(stream))
        if known is None:
            static = static_of("chunk", stream)._replace(stream=stream)
            if len(self._known) >= _MAX_STREAMS:  # epochs grow without end
                self._known.clear()
            known = self._known[id(stream)] = (len(self._known), static)
            packed.append((known[0], static.headers, b"%d" % stream.channels))
        number, static = known
        place = _PLACE.pack(chunk.n0, *chunk.anchor, chunk.seq)
        packed.append((number, place, samples_of(chunk, static)))
        return packed


class Unpacker:
    """The receiver's side of one pipe."""

    def __init__(self) -> None:
        self._known: dict[int, Static] = {}

    def unpack(self, packed: Packed) -> Chunk | None:
        """The chunk; None where only its stream was told. Samples are a read-only view."""
        number, place, value = packed
        if isinstance(place, list):
            self._known[number] = read_static(dict(place), value)
            return None
        static = self._known[number]
        n0, an, ans, seq = _PLACE.unpack(place)
        return Chunk(static.stream, Anchor(an, ans), n0, seq, view_of(value, static, 0))
