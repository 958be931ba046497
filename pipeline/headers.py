"""The names of the headers on the wire, and those of them that a stream's messages share.

CloudEvents 1.0, Kafka protocol binding, binary content mode: attributes are headers with the prefix ``ce_`` in UTF-8,
the media type of the value is ``content-type``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast, get_args
from urllib.parse import quote, unquote

import numpy as np

from pipeline.errors import BadInput, DecodeError
from pipeline.messages import NS, Chunk, Image, Mark, Modality, Rate, Stream

Headers: TypeAlias = list[tuple[str, bytes]]

SPECVERSION: Final = "ce_specversion"
ID: Final = "ce_id"
SOURCE: Final = "ce_source"
TYPE: Final = "ce_type"
TIME: Final = "ce_time"
CONTENT_TYPE: Final = "content-type"
EPOCH: Final = "ce_epoch"
SEQ: Final = "ce_seq"
N0: Final = "ce_n0"
N1: Final = "ce_n1"
REASON: Final = "ce_reason"
ANCHOR_N: Final = "ce_an"
ANCHOR_NS: Final = "ce_ans"
RATE: Final = "ce_rate"
DTYPE: Final = "ce_dtype"
SHAPE: Final = "ce_shape"
UNIT: Final = "ce_unit"
SCALE: Final = "ce_scale"

VERSION: Final = "v1"
SAMPLES: Final = "application/vnd.stethos.samples"
JSON: Final = "application/json"
INT64: Final = 1 << 63

_MODALITIES = frozenset(get_args(Modality))
_DTYPES: Mapping[str, np.dtype[Any]] = {"<i2": np.dtype("<i2"), "<i4": np.dtype("<i4"), "<f4": np.dtype("<f4")}
_IMAGE = re.compile(r"image/[a-z0-9.+-]{1,40}")
_RATE = re.compile(r"([0-9]{1,18})/([0-9]{1,18})")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_MAX_STREAMS = 4096
_MAX_TEXT = 1024
_K = TypeVar("_K")
_V = TypeVar("_V")


class Static(NamedTuple):
    """What all messages of one kind from one stream share."""

    kind: str
    """``"chunk"``, ``"image"`` or ``"mark"``."""
    stream: Stream
    dtype: np.dtype[Any]
    """Of the samples; one byte for images."""
    row: int
    """Bytes of one sample of all channels."""
    headers: Headers


def kind_of(message: Chunk | Image | Mark) -> str:
    """The middle of the message's type."""
    return "chunk" if isinstance(message, Chunk) else "image" if isinstance(message, Image) else "mark"


def static_of(kind: str, stream: Stream) -> Static:
    """The headers that a stream's messages share; made once per stream.

    Raises:
        BadInput: the stream's description has no form on the wire.
    """
    known = _made.get((kind, stream))
    if known is None:
        known = _remember(_made, (kind, stream), _make(kind, stream))
    return known


def _make(kind: str, stream: Stream) -> Static:
    media = stream.dtype if kind == "image" else SAMPLES
    texts = (
        (SPECVERSION, "1.0"),
        (TYPE, f"stethos.{kind}.{stream.modality}.{VERSION}"),
        (SOURCE, source_of(stream.machine, stream.sensor)),
        (CONTENT_TYPE, media),
        (EPOCH, str(int(stream.epoch))),
        (RATE, f"{stream.rate.num}/{stream.rate.den}"),
        (DTYPE, stream.dtype),
        (UNIT, stream.unit),
        (SCALE, repr(float(stream.scale))),
    )
    headers = [(name, text.encode()) for name, text in texts]
    try:
        read = _parse(dict(headers), stream.channels)
    except DecodeError as error:
        raise BadInput(error.reason, f"{stream.machine}/{stream.sensor}: {error}") from None
    return read._replace(stream=stream, headers=headers)


def read_static(h: dict[str, bytes], channels: bytes) -> Static:
    """The shared part of a message's headers; equal headers give the same `Stream` object.

    Args:
        h: all headers of the message.
        channels: the second number of its shape, in digits.

    Raises:
        DecodeError: says which header is wrong.
    """
    key = (
        h.get(TYPE),
        h.get(SOURCE),
        h.get(EPOCH),
        h.get(RATE),
        h.get(DTYPE),
        h.get(UNIT),
        h.get(SCALE),
        h.get(SPECVERSION),
        h.get(CONTENT_TYPE),
        channels,
    )
    known = _read.get(key)
    if known is None:
        known = _parse(h, whole(channels, SHAPE))
        # All kinds of a stream share one Stream object, whatever came first.
        stream = _streams.get(known.stream) or _remember(_streams, known.stream, known.stream)
        known = _remember(_read, key, known._replace(stream=stream))
    return known


def _parse(h: dict[str, bytes], channels: int) -> Static:
    kind, modality = _type(text(h, TYPE))
    if modality not in _MODALITIES or (kind != "mark" and (kind == "image") != (modality == "frames")):
        raise DecodeError("modality", f"{TYPE}: no {kind} of modality {modality!r:.40}")
    check_version(h)
    machine, sensor = _source(text(h, SOURCE))
    code = text(h, DTYPE)
    dtype = _DTYPES.get(code)
    is_image = _IMAGE.fullmatch(code) is not None
    if (not is_image and dtype is None) or (kind == "image" and not is_image) or (kind == "chunk" and is_image):
        raise DecodeError("dtype", f"{DTYPE}: a {kind} cannot have {code!r:.40}")
    if text(h, CONTENT_TYPE) != (code if kind == "image" else SAMPLES):
        raise DecodeError("content_type", f"{CONTENT_TYPE}: {text(h, CONTENT_TYPE)!r:.40} for a {kind} of {code}")
    if not 1 <= channels <= 4096:
        raise DecodeError("shape", f"{SHAPE}: {channels} channels")
    unit, epoch = text(h, UNIT), signed(h.get(EPOCH), EPOCH)
    if epoch < (-1 if kind == "mark" else 0):  # -1: marks of a sensor that has never been heard of
        raise DecodeError("negative", f"{EPOCH}: {epoch}")
    if not unit:
        raise DecodeError("unit", f"{UNIT} is empty: declare the unit of the samples")
    stream = Stream(
        machine, sensor, epoch, cast(Modality, modality), _rate(text(h, RATE)), channels, code, unit, _scale(h)
    )
    used: np.dtype[Any] = np.dtype("u1") if dtype is None else dtype
    return Static(kind, stream, used, used.itemsize * channels, [])


def _type(name: str) -> tuple[str, str]:
    parts = name.split(".")
    if parts[0] != "stethos" or len(parts) != 4 or parts[1] not in {"chunk", "image", "mark"}:
        raise DecodeError("type", f"{TYPE}: unknown type {name!r:.80}")
    if parts[3] != VERSION:
        raise DecodeError("version", f"{TYPE}: this program reads {VERSION}, not {name!r:.80}")
    return parts[1], parts[2]


def check_version(h: dict[str, bytes]) -> None:
    """Refuse another major version of CloudEvents."""
    if text(h, SPECVERSION).partition(".")[0] != "1":
        raise DecodeError("version", f"{SPECVERSION}: {text(h, SPECVERSION)!r:.40} is not CloudEvents 1.x")


def source_of(machine: str, sensor: str | None = None) -> str:
    """``/machine/sensor``, with what a URI cannot hold escaped."""
    path = "/" + quote(machine, safe="")
    return path if sensor is None else f"{path}/{quote(sensor, safe='')}"


def _source(path: str) -> tuple[str, str]:
    parts = path.split("/")
    if len(parts) != 3 or parts[0] or not parts[1] or not parts[2]:
        raise DecodeError("source", f"{SOURCE}: {path!r:.80} is not /machine/sensor")
    try:
        return unquote(parts[1], errors="strict"), unquote(parts[2], errors="strict")
    except UnicodeDecodeError:
        raise DecodeError("not_utf8", f"{SOURCE}: {path!r:.80} is not UTF-8") from None


def _rate(ratio: str) -> Rate:
    match = _RATE.fullmatch(ratio)
    rate = Rate(int(match[1]), int(match[2])) if match else Rate(0)
    if rate.num < 1 or rate.den < 1:
        raise DecodeError("rate", f"{RATE}: {ratio!r:.40} is no positive ratio such as 48000/1")
    return rate


def _scale(h: dict[str, bytes]) -> float:
    digits = text(h, SCALE)
    scale = float(digits) if len(digits) <= 40 and _FLOAT.fullmatch(digits) else 0.0
    if scale == 0.0 or not np.isfinite(scale):
        raise DecodeError("scale", f"{SCALE}: {digits!r:.40} is no factor")
    return scale


def text(h: dict[str, bytes], name: str) -> str:
    """A header as text.

    Raises:
        DecodeError: missing, overlong or not UTF-8.
    """
    raw = h.get(name)
    if type(raw) is not bytes:
        raise DecodeError("missing", f"{name} is missing")
    if len(raw) > _MAX_TEXT:
        raise DecodeError("too_large", f"{name} has {len(raw)} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DecodeError("not_utf8", f"{name} is not UTF-8") from None


def whole(raw: bytes | None, name: str) -> int:
    """Digits as a number in [0, 2^63).

    Raises:
        DecodeError: missing, negative or no number.
    """
    if type(raw) is not bytes:
        raise DecodeError("missing", f"{name} is missing")
    if len(raw) > 19 or not raw.isdigit() or (number := int(raw)) >= INT64:
        negative = raw[:1] == b"-" and raw[1:].isdigit()
        raise DecodeError("negative" if negative else "number", f"{name}: {raw!r:.40} is not a number from 0 to 2^63")
    return number


def signed(raw: bytes | None, name: str) -> int:
    """Digits with an optional minus as a number in (-2^63, 2^63)."""
    if type(raw) is bytes and raw[:1] == b"-":
        return -whole(raw[1:], name)
    return whole(raw, name)


@lru_cache(maxsize=256)
def _second(s: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(s)).encode()


def fits(m: Chunk | Image | Mark) -> bool:
    """Whether epoch, indices and event times of a message fit into the 64 bits that they have on the wire and on disk.

    A sensor that has never been heard of has the epoch -1, and nothing but marks.
    """
    return end_ns(m) is not None


def end_ns(m: Chunk | Image | Mark) -> int | None:
    """The event time of a message's end, None for one that does not fit (see `fits`)."""
    stream, n0, n1, (n, t_ns) = m.stream, m.n0, m.n1, m.anchor
    if not (0 <= stream.epoch < INT64 or (stream.epoch == -1 and isinstance(m, Mark))):
        return None
    if not (0 <= n0 <= n1 < INT64 and -INT64 <= n < INT64 and -INT64 <= t_ns < INT64):
        return None
    t1_ns = m.anchor.at(n1, stream.rate)
    return t1_ns if -INT64 <= m.anchor.at(n0, stream.rate) <= t1_ns < INT64 else None


def rfc3339(t_ns: int) -> bytes:
    """UTC to the microsecond, rounded down, as CloudEvents wants it."""
    s, ns = divmod(t_ns, NS)
    return b"%b.%06dZ" % (_second(s), ns // 1000)


_made: dict[tuple[str, Stream], Static] = {}
_read: dict[tuple[bytes | None, ...], Static] = {}
_streams: dict[Stream, Stream] = {}


def _remember(cache: dict[_K, _V], key: _K, value: _V) -> _V:
    if len(cache) >= _MAX_STREAMS:  # epochs grow without end: the oldest stream goes
        cache.pop(next(iter(cache)), None)
    cache[key] = value
    return value
