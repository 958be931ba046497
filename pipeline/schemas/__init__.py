"""What the JSON bodies of `context`, `decision` and the results hold: one table, from which checks and schemas follow.

The files ``<topic>.v1.json`` beside this module are the published form (JSON Schema 2020-12). `make docs` writes
them (`write_all`); a test compares them with the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.errors import DecodeError

VERSION = 1
"""Major version of all bodies: within it, fields are only added."""

_INT64 = 1 << 63


class Kind(NamedTuple):
    """A type of field: its JSON Schema, and the same as a test of a value that came out of a JSON parser."""

    schema: Mapping[str, Any]
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_int64(value: Any) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _INT64


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (float, int)


def _is_span(value: Any) -> bool:
    if type(value) is not list or len(value) != 4:
        return False
    return _is_text(value[0]) and EPOCH.accepts(value[1]) and all(_is_count(n) for n in value[2:])


def _array(kind: Kind) -> Kind:
    return Kind(
        {"type": "array", "items": kind.schema},
        lambda value: type(value) is list and all(kind.accepts(item) for item in value),
    )


def _choice(*values: str) -> Kind:
    known = frozenset(values)
    return Kind({"enum": list(values)}, lambda value: type(value) is str and value in known)


def _tuple(*kinds: Kind) -> Kind:
    schema = {
        "type": "array",
        "prefixItems": [kind.schema for kind in kinds],
        "minItems": len(kinds),
        "maxItems": len(kinds),
    }
    return Kind(
        schema,
        lambda value: (
            type(value) is list
            and len(value) == len(kinds)
            and all(kind.accepts(item) for kind, item in zip(kinds, value, strict=True))
        ),
    )


def _object(fields: Mapping[str, Kind]) -> Kind:
    schema = {
        "type": "object",
        "properties": {name: kind.schema for name, kind in fields.items()},
        "required": list(fields),
    }
    return Kind(
        schema,
        lambda value: type(value) is dict and all(kind.accepts(value.get(name, ...)) for name, kind in fields.items()),
    )


_INT64_SCHEMA = {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1}
TEXT = Kind({"type": "string"}, _is_text)
FLAG = Kind({"type": "boolean"}, lambda value: type(value) is bool)
INT64 = Kind(_INT64_SCHEMA, _is_int64)
COUNT = Kind({**_INT64_SCHEMA, "minimum": 0}, _is_count)
EPOCH = Kind(
    {**_INT64_SCHEMA, "minimum": -1, "description": "-1 for a sensor that has never been heard of"},
    lambda value: _is_int64(value) and value >= -1,
)
POSITIVE = Kind({**_INT64_SCHEMA, "minimum": 1}, lambda value: _is_count(value) and value > 0)
TIME = Kind({**_INT64_SCHEMA, "description": "nanoseconds since 1970-01-01T00:00:00Z"}, _is_int64)
NUMBER = Kind({"type": ["number", "null"]}, _is_number)
FINITE = Kind({"type": "number"}, lambda value: type(value) in (float, int))
ANY_OBJECT = Kind({"type": "object"}, lambda value: type(value) is dict)
NUMBERS = Kind(
    {"type": "object", "additionalProperties": NUMBER.schema},
    lambda value: type(value) is dict and all(map(_is_number, value.values())),
)
TEXTS = _array(TEXT)
SPANS = Kind(
    {
        **_array(_tuple(TEXT, EPOCH, COUNT, COUNT)).schema,
        "description": "the samples behind the result: [sensor, epoch, n0, n1), one entry per stream",
    },
    lambda value: type(value) is list and all(map(_is_span, value)),
)
BASE64 = Kind({"type": "string", "contentEncoding": "base64"}, _is_text)
STREAM = _object(
    {
        "machine": TEXT,
        "sensor": TEXT,
        "epoch": EPOCH,
        "modality": _choice("acoustic", "stethoscope", "vibration", "frames"),
        "rate": _tuple(POSITIVE, POSITIVE),
        "channels": POSITIVE,
        "dtype": TEXT,
        "unit": TEXT,
        "scale": FINITE,
    }
)

LONGEST_NAME = 255
"""Characters of a fact's name: a recording has a channel for each."""
_NAME = Kind(
    {"type": "string", "maxLength": LONGEST_NAME},
    lambda value: type(value) is str and len(value) <= LONGEST_NAME,
)
LONGEST_FACT = 1000
"""Characters of a fact's text: thousands of facts are in a machine's snapshot."""
_FACT = Kind(
    {"type": ["number", "string"], "maxLength": LONGEST_FACT},
    lambda value: type(value) in (float, int) or (type(value) is str and len(value) <= LONGEST_FACT),
)

_CONDITION = {"id": TEXT, "machine": TEXT, "sensors": TEXTS, "detector": TEXT}

FIELDS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "context": {"id": TEXT, "machine": TEXT, "name": _NAME, "t_ns": TIME, "value": _FACT},
        "decision": {"id": TEXT, "machine": TEXT, "t_ns": TIME, "kind": TEXT, "body": ANY_OBJECT},
        "feature": {"id": TEXT, "machine": TEXT, "sensors": TEXTS, "name": TEXT, "t_end_ns": TIME, "values": NUMBERS,
                    "complete": FLAG, "lineage": SPANS},
        "score": {**_CONDITION, "t_end_ns": TIME, "value": NUMBER, "threshold": NUMBER, "settings": TEXT,
                  "complete": FLAG, "abnormal": FLAG, "reasons": ANY_OBJECT, "lineage": SPANS},
        "embedding": {**_CONDITION, "t_end_ns": TIME, "model": TEXT, "dimension": COUNT, "sha256": TEXT,
                      "settings": TEXT, "lineage": SPANS},
        "machine_state": {**_CONDITION, "t_end_ns": TIME, "state": TEXT, "probability": NUMBER, "settings": TEXT,
                          "lineage": SPANS},
        "alarm": {**_CONDITION, "alarm": TEXT, "condition": TEXT, "t_ns": TIME,
                  "transition": _choice("raised", "cleared"), "ordinal": COUNT, "raised_ns": TIME,
                  "severity": _choice("advisory", "warning", "critical"), "text": TEXT, "value": NUMBER,
                  "threshold": NUMBER, "settings": TEXT, "reasons": ANY_OBJECT, "lineage": SPANS},
        "health": {"id": TEXT, "machine": TEXT, "sensor": TEXT, "epoch": EPOCH, "t_ns": TIME,
                   "state": _choice("normal", "failure", "check_function", "out_of_specification",
                                    "maintenance_required"),
                   "reasons": TEXTS},
        "late": {"id": TEXT, "machine": TEXT, "sensor": TEXT, "stream": STREAM, "anchor": _tuple(INT64, TIME),
                 "n0": COUNT, "n1": COUNT,
                 "reason": _choice("late", "duplicate", "overlap", "empty", "not_finite", "time_backwards",
                                   "clock_jump")},
        "dlq": {"id": TEXT, "machine": TEXT, "topic": TEXT, "reason": TEXT, "error": TEXT,
                "headers": _array(_tuple(TEXT, BASE64)), "value": BASE64},
    }
)  # fmt: skip
"""Topic → field → kind. Every field is required; unknown ones are ignored."""


def check(topic: str, body: Any) -> None:
    """Refuse a body that is not of its topic's form.

    Raises:
        DecodeError: reason ``"type"`` for an unknown topic, ``"schema"`` for a field that is missing or wrong.
    """
    fields = FIELDS.get(topic)
    if fields is None:
        raise DecodeError("type", f"{topic!r} has no JSON body")
    if type(body) is not dict:
        raise DecodeError("schema", f"{topic}: the body is no JSON object")
    for name, kind in fields.items():
        if name not in body:
            raise DecodeError("schema", f"{topic}: '{name}' is missing")
        if not kind.accepts(body[name]):
            raise DecodeError("schema", f"{topic}: '{name}' cannot be {body[name]!r:.80}")


def json_schema(topic: str) -> dict[str, Any]:
    """The topic's body as a JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:stethos:{topic}:v{VERSION}",
        "title": topic,
        **_object(FIELDS[topic]).schema,
    }


def text_of(topic: str) -> str:
    """The schema as its file holds it."""
    return json.dumps(json_schema(topic), indent=2, ensure_ascii=False) + "\n"


def file_of(topic: str) -> Path:
    """Where the topic's published schema lies."""
    return Path(__file__).parent / f"{topic}.v{VERSION}.json"


def write_all() -> list[Path]:
    """Write the published schemas anew; older versions' files are left alone."""
    for topic in FIELDS:
        file_of(topic).write_text(text_of(topic), encoding="utf-8")
    return [file_of(topic) for topic in FIELDS]
