"""How messages lie in an MCAP file. Shared by writer and reader; a change of it is a new `SCHEMA_VERSION`.

One channel per topic, machine, sensor, epoch, kind and preroll flag. Its metadata holds the headers that do not change
(`pipeline.headers`) and ``channels``. MCAP has no headers per message, so what changes stands before the payload as
four little-endian 64-bit integers:

============  ==================  ===========================================
encoding      preamble            then
============  ==================  ===========================================
chunk         n0, an, ans, seq    the samples, C order, (n, channels)
image         n0, an, ans, seq    the encoded image
mark          n0, an, ans, n1     the reason, ASCII
json                              the body (`pipeline.schemas`)
============  ==================  ===========================================

`log_time` counts strictly upwards in processing order, `publish_time` is the event time of the first sample (0 for
times before 1970), `sequence` is the low 32 bits of seq.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias, cast, get_args
from urllib.parse import quote

from pipeline.bodies import from_body, parse
from pipeline.codec import in_range, samples_of, topic_of, view_of
from pipeline.errors import BadInput, DecodeError, StethosError
from pipeline.headers import INT64, Static, fits, kind_of, read_static, static_of
from pipeline.messages import Anchor, Chunk, Context, Image, Input, Mark, MarkReason, Stream
from pipeline.results import canonical, to_body

SCHEMA_VERSION: Final = 1
PROFILE: Final = "stethos"
HEADER: Final = "stethos.recording"
"""Name of the metadata record that every recording begins with."""
DERIVED: Final = "derived."
"""Prefix of the topics of results: for viewers only, nothing reads them back."""
PREAMBLE: Final = struct.Struct("<qqqq")
CHANNELS: Final = "channels"
PREROLL: Final = "preroll"
RUN: Final = "run"
"""Fact of a ring's recordings: which run wrote it, counted in its folder."""
TOPIC: Final = "topic"

ChannelKey: TypeAlias = tuple[object, ...]


class RecordingError(StethosError):
    """A recording cannot be written or read: names the file and the cause."""


class DiskFull(RecordingError):
    """A recording cannot be written for lack of space: it can be once there is some."""


def full(error: OSError) -> bool:
    """Whether an error is a lack of space."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class Entry(NamedTuple):
    """One message as the file holds it: `head` and `body` one after the other."""

    publish_ns: int
    sequence: int
    head: bytes
    body: bytes


class ChannelInfo(NamedTuple):
    """What a channel is registered with; `schema` is the topic whose JSON Schema it names, or nothing."""

    topic: str
    encoding: str
    schema: str
    metadata: dict[str, str]


def channel_key(message: Input, preroll: bool) -> ChannelKey:
    """Messages with equal keys share a channel."""
    if isinstance(message, Chunk | Image | Mark):
        return (type(message), message.stream, preroll)
    if isinstance(message, Context):
        return (Context, message.machine, message.name, preroll)
    return (type(message), message.machine, preroll)


def channel_of(message: Input, preroll: bool) -> ChannelInfo:
    """The channel that a message needs."""
    topic = topic_of(message)
    flag = {PREROLL: "1"} if preroll else {}
    if isinstance(message, Chunk | Image | Mark):
        stream, kind = message.stream, kind_of(message)
        metadata = {name: value.decode() for name, value in static_of(kind, stream).headers}
        metadata |= {CHANNELS: str(stream.channels), TOPIC: topic, **flag}
        path = f"{topic}/{quote(stream.machine, safe='')}/{quote(stream.sensor, safe='')}"
        return ChannelInfo(path, f"stethos.{kind}", "", metadata)
    path = f"{topic}/{quote(message.machine, safe='')}"
    if isinstance(message, Context):
        path += "/" + quote(message.name, safe="")
    return ChannelInfo(path, "json", topic, {TOPIC: topic, "machine": message.machine, **flag})


def entry_of(message: Input) -> Entry:
    """The message as its channel holds it.

    Raises:
        BadInput: samples that are not what their stream says, or that do not fit into 64 bits.
    """
    if isinstance(message, Chunk):
        body, last = samples_of(message, static_of("chunk", message.stream)), message.seq
    elif isinstance(message, Image):
        body, last = message.data, message.seq
    elif isinstance(message, Mark):
        body, last = message.reason.encode(), message.n1
    else:
        return Entry(max(0, message.t_ns), 0, canonical(to_body(message)), b"")
    if not fits(message) or not 0 <= last < INT64:
        raise BadInput(
            "range", f"{message.stream.sensor}: samples {message.n0} to {message.n1} do not fit into 64 bits"
        )
    anchor = message.anchor
    head = PREAMBLE.pack(message.n0, anchor.n, anchor.t_ns, last)
    return Entry(max(0, message.t0_ns), last & 0xFFFFFFFF, head, body)


def reader_of(encoding: str, metadata: Mapping[str, str]) -> Callable[[bytes], Input]:
    """A function that gives a channel's messages back.

    Raises:
        DecodeError: the channel is of no form that this program knows.
    """
    topic = metadata.get(TOPIC, "")
    if encoding == "json" and topic in {"context", "decision"}:
        return lambda data: cast(Input, from_body(topic, parse(data)))
    static = _static(metadata)
    if encoding != f"stethos.{static.kind}":
        raise DecodeError("type", f"a channel of {encoding!r:.40} that says it holds a {static.kind}")
    readers = {"chunk": _read_chunk, "image": _read_image, "mark": _read_mark}
    read = readers[static.kind]
    return lambda data: read(static, data)


def stream_of(metadata: Mapping[str, str]) -> Stream | None:
    """The stream that a channel belongs to; None for channels of JSON bodies.

    Raises:
        DecodeError: its description cannot be read.
    """
    if CHANNELS not in metadata:
        return None
    return _static(metadata).stream


def _static(metadata: Mapping[str, str]) -> Static:
    fields = {name: value.encode() for name, value in metadata.items()}
    return read_static(fields, fields.get(CHANNELS, b""))


def _head(static: Static, data: bytes) -> tuple[int, Anchor, int]:
    if len(data) < PREAMBLE.size:
        raise DecodeError("length", f"a recorded {static.kind} of {len(data)} bytes")
    n0, an, ans, last = PREAMBLE.unpack_from(data)
    return n0, Anchor(an, ans), last


def _read_chunk(static: Static, data: bytes) -> Input:
    n0, anchor, seq = _head(static, data)
    n, rest = divmod(len(data) - PREAMBLE.size, static.row)
    if rest:
        raise DecodeError("length", f"{len(data)} bytes are no whole number of samples of {static.row} bytes")
    in_range(anchor, n0, n0 + n, static)
    return Chunk(static.stream, anchor, n0, seq, view_of(data, static, PREAMBLE.size))


def _read_image(static: Static, data: bytes) -> Input:
    n0, anchor, seq = _head(static, data)
    in_range(anchor, n0, n0 + 1, static)
    return Image(static.stream, anchor, n0, seq, data[PREAMBLE.size :])


def _read_mark(static: Static, data: bytes) -> Input:
    n0, anchor, n1 = _head(static, data)
    reason = data[PREAMBLE.size :].decode("ascii", "replace")
    if reason not in get_args(MarkReason):
        raise DecodeError("mark", f"a recorded mark says {reason!r:.40}")
    in_range(anchor, n0, n1, static)
    return Mark(static.stream, anchor, n0, n1, cast(MarkReason, reason))
