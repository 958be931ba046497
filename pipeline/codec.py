"""Messages to bytes and back: CloudEvents 1.0 in Kafka's binary content mode.

=============  =============================================  ======================================================
message        value                                          headers of its own
=============  =============================================  ======================================================
Chunk          samples: C order, little endian, (n, channels)  `ce_seq ce_n0 ce_an ce_ans ce_shape`
Image          the encoded image                              `ce_seq ce_n0 ce_an ce_ans ce_shape`
Mark           empty (on Kafka: no value)                     `ce_n0 ce_n1 ce_reason ce_an ce_ans ce_shape`
Embedding      float32 vector                                  as in `pipeline.vectors`
all others     JSON (`pipeline.schemas`)
=============  =============================================  ======================================================

The key of every record is the machine. Unknown headers are ignored. All that this program cannot read leaves `decode`
as `DecodeError`, whose reason is one of a fixed set of labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args

import numpy as np

from pipeline import headers as h
from pipeline import vectors
from pipeline.bodies import from_body, parse
from pipeline.errors import BadInput, DecodeError
from pipeline.headers import Headers, Static, read_static, signed, static_of, text, whole
from pipeline.messages import Anchor, Chunk, DeadLetter, Embedding, Image, Input, Mark, MarkReason, Result
from pipeline.results import TOPIC_OF, Told, canonical, to_body

MAX_BYTES: Final = 900_000
"""Largest value: below every broker's default limit of 1 MiB."""

_DEAD_BYTES: Final = 600_000
"""What is kept of a dead letter's value, so that it still fits as base64."""
UNCUT: Final = "uncut_bytes"
"""In the body of a dead letter whose value was cut: how long it was."""

Coded: TypeAlias = Input | Result

_PLACED = (Chunk, Image, Mark)
_MARK_REASONS = frozenset(reason.encode() for reason in get_args(MarkReason))
_JSON_TYPES = {f"stethos.{topic}.{h.VERSION}".encode(): topic for topic in TOPIC_OF.values() if topic != "embedding"}
_JSON_KINDS = frozenset(TOPIC_OF.values())


_OWN_NAMES = (h.ID, h.TIME, h.SEQ, h.N0, h.ANCHOR_N, h.ANCHOR_NS, h.SHAPE)
_CHUNK_NAMES = (
    h.SPECVERSION, h.TYPE, h.SOURCE, h.CONTENT_TYPE, h.EPOCH, h.RATE, h.DTYPE, h.UNIT, h.SCALE, *_OWN_NAMES,
)  # fmt: skip
_SHARED = len(_CHUNK_NAMES) - len(_OWN_NAMES)
_MAX_SEEN = 4096
_seen: dict[tuple[tuple[str, bytes], ...], tuple[Static, int]] = {}
"""Headers that a stream's chunks share, with their shape, in the order in which `encode` writes them."""


class Wire(NamedTuple):
    """A message as it travels. The value of a mark is empty; Kafka clients send it as no value."""

    headers: Headers
    value: bytes


def topic_of(message: Coded) -> str:
    """The topic that a message flows through."""
    if isinstance(message, _PLACED):
        return "raw." + message.stream.modality
    return TOPIC_OF[type(message)]


def key_of(message: Coded) -> bytes:
    """The key of its record: the machine, so that all that belongs to one machine meets in one partition."""
    holder: Any = message.stream if hasattr(message, "stream") else message
    return str(holder.machine).encode()


def encode(message: Coded) -> Wire:
    """A message as headers and value.

    Raises:
        BadInput: more than `MAX_BYTES`, or samples that are not what their stream says.
    """
    if isinstance(message, Chunk):
        return _chunk(message)
    if isinstance(message, Image):
        return _image(message)
    if isinstance(message, Mark):
        return _mark(message)
    if isinstance(message, Embedding):
        return Wire(*vectors.encode(message))
    return _told(message)


def samples_of(chunk: Chunk, static: Static) -> bytes:
    """The samples as bytes, after a check that they are what the stream says."""
    x = chunk.samples
    if x.dtype != static.dtype or x.ndim != 2 or x.shape[1] != static.stream.channels:
        s = static.stream
        raise BadInput("shape", f"{s.sensor}: {x.dtype.str} {x.shape} is not {s.dtype} (n, {s.channels})")
    return _sized(x.tobytes())


def _sized(value: bytes) -> bytes:
    if len(value) > MAX_BYTES:
        raise BadInput("too_large", f"{len(value)} bytes in one message, at most {MAX_BYTES}: send shorter chunks")
    return value


def _chunk(m: Chunk) -> Wire:
    static = static_of("chunk", m.stream)
    value = samples_of(m, static)
    return Wire([*static.headers, *_counted(m, b"%d,%d" % m.samples.shape)], value)


def _image(m: Image) -> Wire:
    static = static_of("image", m.stream)
    return Wire([*static.headers, *_counted(m, b"1,%d" % m.stream.channels)], _sized(bytes(m.data)))


def _counted(m: Chunk | Image, shape: bytes) -> Headers:
    seq = b"%d" % m.seq
    return [
        (h.ID, b"%d.%b" % (m.stream.epoch, seq)),
        (h.TIME, h.rfc3339(m.t0_ns)),
        (h.SEQ, seq),
        (h.N0, b"%d" % m.n0),
        (h.ANCHOR_N, b"%d" % m.anchor.n),
        (h.ANCHOR_NS, b"%d" % m.anchor.t_ns),
        (h.SHAPE, shape),
    ]


def _mark(m: Mark) -> Wire:
    static = static_of("mark", m.stream)
    own = [
        (h.ID, b"%d.%b.%d.%d" % (m.stream.epoch, m.reason.encode(), m.n0, m.n1)),
        (h.TIME, h.rfc3339(m.t0_ns)),
        (h.N0, b"%d" % m.n0),
        (h.N1, b"%d" % m.n1),
        (h.REASON, m.reason.encode()),
        (h.ANCHOR_N, b"%d" % m.anchor.n),
        (h.ANCHOR_NS, b"%d" % m.anchor.t_ns),
        (h.SHAPE, b"0,%d" % m.stream.channels),
    ]
    return Wire([*static.headers, *own], b"")


def _told(m: Told) -> Wire:
    uncut = 0
    if isinstance(m, DeadLetter) and len(m.value) > _DEAD_BYTES:
        uncut = len(m.value)
        cut = f"{m.error} (the first {_DEAD_BYTES} of {uncut} bytes)"
        m = replace(m, value=m.value[:_DEAD_BYTES], error=cut)
    topic, body = TOPIC_OF[type(m)], to_body(m)
    if uncut:
        body[UNCUT] = uncut
    t_ns = body.get("t_end_ns", body.get("t_ns"))
    headers = [
        (h.SPECVERSION, b"1.0"),
        (h.TYPE, f"stethos.{topic}.{h.VERSION}".encode()),
        (h.SOURCE, h.source_of(body["machine"]).encode()),
        (h.CONTENT_TYPE, h.JSON.encode()),
        (h.ID, body["id"].encode()),
    ]
    if t_ns is not None:
        headers.append((h.TIME, h.rfc3339(t_ns)))
    return Wire(headers, _sized(canonical(body)))


# bytes → message -----------------------------------------------------------------------------------------------------


def decode(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Coded:
    """The message that these headers and this value are; samples are a read-only view of `value`.

    Raises:
        DecodeError: with one of the reasons ``content_type, dtype, json, length, mark, missing, modality, negative,
            not_utf8, number, range, rate, scale, schema, shape, source, too_large, type, unit, version``.
    """
    if type(headers) is list and value and (again := _again(headers, value)) is not None:
        return again
    headers = list(headers)
    fields = dict(headers)
    value = b"" if value is None else value
    if len(value) > MAX_BYTES:
        raise DecodeError("too_large", f"{len(value)} bytes, at most {MAX_BYTES}")
    if fields.get(h.CONTENT_TYPE) == b"application/json":
        return _read_told(fields, value)
    if fields.get(h.TYPE) == vectors.TYPE:
        return vectors.decode(fields, value)
    shape = fields.get(h.SHAPE)
    if type(shape) is not bytes:
        # Which header is missing is told by what came first: a stranger's message has no type of ours either.
        _refuse_stranger(fields)
        raise DecodeError("missing", f"{h.SHAPE} is missing")
    rows, _, channels = shape.partition(b",")
    static = read_static(fields, channels)
    n0, rate = whole(fields.get(h.N0), h.N0), static.stream.rate
    anchor = Anchor(signed(fields.get(h.ANCHOR_N), h.ANCHOR_N), signed(fields.get(h.ANCHOR_NS), h.ANCHOR_NS))
    if static.kind == "mark":
        return _read_mark(static, fields, anchor, n0, value)
    n, seq = whole(rows, h.SHAPE), whole(fields.get(h.SEQ), h.SEQ)
    if static.kind == "image":
        if n != 1 or not value:
            raise DecodeError("length", f"{len(value)} bytes and shape {shape!r:.40} for one image")
        in_range(anchor, n0, n0 + 1, static)
        return Image(static.stream, anchor, n0, seq, bytes(value))
    if n * static.row != len(value):
        raise DecodeError("length", f"{len(value)} bytes for shape {shape!r:.40} of {static.stream.dtype}")
    if not -h.INT64 <= anchor.at(n0, rate) <= anchor.at(n0 + n, rate) < h.INT64:
        in_range(anchor, n0, n0 + n, static)
    if tuple(name for name, _ in headers) == _CHUNK_NAMES:
        if len(_seen) >= _MAX_SEEN:
            _seen.clear()
        _seen[*headers[:_SHARED], headers[-1]] = (static, n)
    return Chunk(static.stream, anchor, n0, seq, view_of(value, static, 0))


def _again(headers: Headers, value: bytes) -> Chunk | None:
    """A chunk that differs from an earlier one in its place alone, in half the time; None for any other message."""
    try:
        known = _seen.get((*headers[:_SHARED], headers[-1]))
        if known is None:
            return None
        (a, _), (b, _), (c, seq), (d, n0), (e, an), (f, ans), (g, _) = headers[_SHARED:]
    except (TypeError, ValueError):  # no pairs of text and bytes
        return None
    static, n = known
    if (a, b, c, d, e, f, g) != _OWN_NAMES:
        return None
    if not (type(seq) is type(n0) is type(an) is type(ans) is bytes and n * static.row == len(value)):
        return None
    if not (seq.isdigit() and n0.isdigit() and an.isdigit() and ans.isdigit() and len(seq + n0 + an + ans) <= 76):
        return None
    anchor, first, number = Anchor(int(an), int(ans)), int(n0), int(seq)
    # time does not fall from the anchor to the end: what lies between fits if the end does
    if not (anchor.n <= first < h.INT64 > number and anchor.at(first + n, static.stream.rate) < h.INT64):
        return None
    return Chunk(static.stream, anchor, first, number, view_of(value, static, 0))


def view_of(value: bytes, static: Static, offset: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Samples as a read-only array (n, channels) on the bytes from `offset` on."""
    rows = (len(value) - offset) // static.row
    x: np.ndarray[Any, np.dtype[Any]] = np.ndarray((rows, static.stream.channels), static.dtype, value, offset)
    if type(value) is not bytes:  # the caller's buffer can be written to
        x.flags.writeable = False
    return x


def in_range(anchor: Anchor, n0: int, n1: int, static: Static) -> None:
    """Refuse samples whose index or event time does not fit into 64 bits."""
    rate = static.stream.rate
    times = (anchor.at(n0, rate), anchor.at(n1, rate), n1)
    if not 0 <= n0 <= n1 or not all(-h.INT64 <= t < h.INT64 for t in times):
        raise DecodeError("range", f"samples {n0} to {n1} end at {times[1]} ns")


def _refuse_stranger(fields: dict[str, bytes]) -> None:
    parts = text(fields, h.TYPE).split(".")
    if parts[0] == "stethos" and len(parts) > 2 and parts[1] in _JSON_KINDS:
        raise DecodeError("content_type", f"{h.CONTENT_TYPE}: a {parts[1]} is {h.JSON}")
    if parts[0] != "stethos" or len(parts) != 4:
        raise DecodeError("type", f"{h.TYPE}: unknown type {text(fields, h.TYPE)!r:.80}")


def _read_mark(static: Static, fields: dict[str, bytes], anchor: Anchor, n0: int, value: bytes) -> Mark:
    reason = fields.get(h.REASON)
    if reason not in _MARK_REASONS or type(reason) is not bytes:
        raise DecodeError("mark", f"{h.REASON}: {reason!r:.40}")
    if value:
        raise DecodeError("length", f"a mark has no value, not {len(value)} bytes")
    n1 = whole(fields.get(h.N1), h.N1)
    in_range(anchor, n0, n1, static)
    return Mark(static.stream, anchor, n0, n1, cast(MarkReason, reason.decode()))


def _read_told(fields: dict[str, bytes], value: bytes) -> Told:
    name = text(fields, h.TYPE)
    topic = _JSON_TYPES.get(name.encode())
    if topic is None:
        parts = name.split(".")
        known = len(parts) == 3 and parts[0] == "stethos" and parts[1] in _JSON_KINDS
        raise DecodeError("version" if known else "type", f"{h.TYPE}: cannot read {name!r:.80}")
    h.check_version(fields)
    return from_body(topic, parse(value))
