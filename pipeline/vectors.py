"""Embeddings on the wire: CloudEvents in binary mode, the vector as float32, little endian, as it is.

What a body would say in JSON stands in headers of its own: `ce_detector`, `ce_model`, `ce_sensors`, `ce_settings`,
`ce_spans` (lists as JSON), `ce_tend` (the window's end in nanoseconds) and `ce_shape` (``1,k``).
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import orjson

from pipeline import headers as h
from pipeline.errors import BadInput, DecodeError
from pipeline.headers import Headers, signed, text, whole
from pipeline.messages import Embedding, Span

TYPE: Final = f"stethos.embedding.{h.VERSION}".encode()
CONTENT: Final = "application/vnd.stethos.embedding"
DETECTOR: Final = "ce_detector"
MODEL: Final = "ce_model"
SENSORS: Final = "ce_sensors"
SETTINGS: Final = "ce_settings"
SPANS: Final = "ce_spans"
T_END: Final = "ce_tend"

MOST_VALUES: Final = 65_536


def encode(m: Embedding) -> tuple[Headers, bytes]:
    """An embedding as headers and value.

    Raises:
        BadInput: no vector of finite numbers.
    """
    values = np.ascontiguousarray(m.values, "<f4")
    if values.ndim != 1 or not 0 < len(values) <= MOST_VALUES or not np.isfinite(values).all():
        raise BadInput("shape", f"an embedding of shape {values.shape} is no vector of finite numbers")
    headers = [
        (h.SPECVERSION, b"1.0"),
        (h.TYPE, TYPE),
        (h.SOURCE, h.source_of(m.machine).encode()),
        (h.CONTENT_TYPE, CONTENT.encode()),
        (h.ID, m.id.encode()),
        (h.TIME, h.rfc3339(m.t_end_ns)),
        (h.DTYPE, b"<f4"),
        (h.SHAPE, b"1,%d" % len(values)),
        (DETECTOR, m.detector.encode()),
        (MODEL, m.model.encode()),
        (SETTINGS, m.settings.encode()),
        (SENSORS, orjson.dumps(m.sensors)),
        (SPANS, orjson.dumps([list(span) for span in m.lineage])),
        (T_END, b"%d" % m.t_end_ns),
    ]
    return headers, values.tobytes()


def decode(fields: dict[str, bytes], value: bytes) -> Embedding:
    """The embedding that these headers and this value are; `values` is a read-only view of `value`.

    Raises:
        DecodeError: says which header is wrong.
    """
    h.check_version(fields)
    rows, _, columns = text(fields, h.SHAPE).encode().partition(b",")
    if whole(rows, h.SHAPE) != 1 or whole(columns, h.SHAPE) * 4 != len(value) or not value:
        raise DecodeError("length", f"{len(value)} bytes for the shape {text(fields, h.SHAPE)!r:.40} of float32")
    if fields.get(h.DTYPE) != b"<f4":
        raise DecodeError("dtype", f"{h.DTYPE}: an embedding is <f4")
    machine = _machine(text(fields, h.SOURCE))
    sensors, spans = _list(fields, SENSORS), _list(fields, SPANS)
    if not all(type(s) is str for s in sensors) or not all(_is_span(s) for s in spans):
        raise DecodeError("schema", f"{SENSORS}, {SPANS}: sensors are texts, spans [sensor, epoch, n0, n1)")
    return Embedding(
        machine, tuple(sensors), text(fields, DETECTOR), signed(fields.get(T_END), T_END),
        np.frombuffer(value, "<f4"), text(fields, MODEL), text(fields, SETTINGS), tuple(Span(*s) for s in spans),
    )  # fmt: skip


def _machine(source: str) -> str:
    if source[:1] != "/" or not source[1:] or "/" in source[1:]:
        raise DecodeError("source", f"{h.SOURCE}: {source!r:.80} is not /machine")
    try:
        return unquote(source[1:], errors="strict")
    except UnicodeDecodeError:
        raise DecodeError("not_utf8", f"{h.SOURCE}: {source!r:.80} is not UTF-8") from None


def _list(fields: dict[str, bytes], name: str) -> list[Any]:
    try:
        found = orjson.loads(fields.get(name, b""))
    except orjson.JSONDecodeError:
        found = None
    if type(found) is not list:
        raise DecodeError("schema", f"{name}: a JSON list is expected")
    return found


def _is_span(value: Any) -> bool:
    kinds = (str, int, int, int)
    return type(value) is list and len(value) == 4 and all(type(v) is k for v, k in zip(value, kinds, strict=True))
