"""JSON bodies back to results, decisions and context."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from pipeline import schemas
from pipeline.errors import DecodeError
from pipeline.messages import (
    Alarm,
    Anchor,
    Context,
    DeadLetter,
    Decision,
    Feature,
    Health,
    Late,
    MachineState,
    Rate,
    Record,
    Score,
    Span,
    Stream,
)
from pipeline.results import Body, Told, record_of


def _from_late(b: Body) -> Late:
    s = b["stream"]
    stream = Stream(
        s["machine"],
        s["sensor"],
        s["epoch"],
        s["modality"],
        Rate(*s["rate"]),
        s["channels"],
        s["dtype"],
        s["unit"],
        float(s["scale"]),
    )
    return Late(stream, Anchor(*b["anchor"]), b["n0"], b["n1"], b["reason"])


def _from_dead_letter(b: Body) -> DeadLetter:
    try:
        headers = tuple((name, base64.b64decode(value, validate=True)) for name, value in b["headers"])
        value = base64.b64decode(b["value"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError("schema", f"dlq: {error}") from None
    return DeadLetter(b["topic"], b["machine"], b["reason"], b["error"], headers, value)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _lineage(b: Body) -> tuple[Span, ...]:
    return tuple([Span(*span) for span in b["lineage"]])


def _from_feature(b: Body) -> Feature:
    values = {name: _float(value) for name, value in b["values"].items()}
    return Feature(b["machine"], tuple(b["sensors"]), b["name"], b["t_end_ns"], values, b["complete"], _lineage(b))


def _from_score(b: Body) -> Score:
    return Score(
        b["machine"],
        tuple(b["sensors"]),
        b["detector"],
        b["t_end_ns"],
        _float(b["value"]),
        _float(b["threshold"]),
        b["settings"],
        b["complete"],
        b["reasons"],
        _lineage(b),
    )


def _from_alarm(b: Body) -> Alarm:
    return Alarm(
        b["machine"],
        tuple(b["sensors"]),
        b["detector"],
        b["t_ns"],
        b["transition"],
        b["ordinal"],
        b["raised_ns"],
        b["severity"],
        b["text"],
        _float(b["value"]),
        _float(b["threshold"]),
        b["settings"],
        b["reasons"],
        _lineage(b),
    )


_MESSAGE_OF: Mapping[str, Callable[[Body], Told]] = {
    "context": lambda b: Context(b["machine"], b["name"], b["t_ns"], b["value"]),
    "decision": lambda b: Decision(b["machine"], b["id"], b["t_ns"], b["kind"], b["body"]),
    "feature": _from_feature,
    "score": _from_score,
    "machine_state": lambda b: MachineState(
        b["machine"], tuple(b["sensors"]), b["detector"], b["t_end_ns"], b["state"], b["settings"], _lineage(b),
        _float(b["probability"])
    ),
    "alarm": _from_alarm,
    "health": lambda b: Health(
        b["machine"], b["sensor"], b["epoch"], b["t_ns"], b["state"], tuple(b["reasons"])
    ),
    "late": _from_late,
    "dlq": _from_dead_letter,
}  # fmt: skip


def from_body(topic: str, body: Any) -> Told:
    """The message that gave this body; null numbers come back as not-a-number.

    An embedding's body holds no vector: see `pipeline.vectors`.

    Raises:
        DecodeError: the body is not of its topic's form.
    """
    schemas.check(topic, body)
    if topic not in _MESSAGE_OF:
        raise DecodeError("schema", f"{topic}: the body alone does not tell the message")
    return _MESSAGE_OF[topic](body)


def parse(value: bytes) -> Any:
    """JSON bytes as values.

    Raises:
        DecodeError: reason ``"json"``.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DecodeError("json", f"no JSON: {error}") from None


def record_from(topic: str, value: bytes, seq: int = 0, t_ns: int = 0) -> Record:
    """A record of an `out` topic from its JSON, as a reader of the log on Kafka gets it (`seq` is then the offset).

    Raises:
        DecodeError: no JSON, or not of the topic's form.
    """
    message = from_body(topic, body := parse(value))
    return replace(record_of(message, seq, t_ns), body=body)
