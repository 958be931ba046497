"""Results, decisions and context as JSON bodies; `pipeline.bodies` reads them back.

A body holds the message's fields under their own names as plain JSON values, and what follows from them that readers
ask for (`id`; an alarm's `alarm` and `condition`; a score's `abnormal`). Not-a-number and infinity are null. The
canonical bytes have sorted keys and the shortest digits that give the same float back.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import orjson

from pipeline.errors import BadInput
from pipeline.messages import (
    Alarm,
    Context,
    DeadLetter,
    Decision,
    Embedding,
    Feature,
    Health,
    Late,
    MachineState,
    Record,
    Result,
    Score,
    Span,
    result_id,
)

Body: TypeAlias = dict[str, Any]
Told: TypeAlias = Result | Decision | Context
"""Everything that is written as JSON."""

TOPIC_OF: Mapping[type, str] = {
    Feature: "feature",
    Embedding: "embedding",
    Score: "score",
    MachineState: "machine_state",
    Alarm: "alarm",
    Health: "health",
    Late: "late",
    DeadLetter: "dlq",
    Decision: "decision",
    Context: "context",
}


def canonical(body: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and shortest round-trip floats: equal bodies give equal bytes."""
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def plain(value: Any) -> Any:
    """`value` as JSON values: numpy scalars and arrays unpacked, what is not finite as None.

    Raises:
        BadInput: something that JSON cannot say.
    """
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, str):
        return str(value)
    raise BadInput("not_json", f"{kind.__name__} cannot be told as JSON")


def _number(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _spans(lineage: Sequence[Span]) -> list[list[Any]]:
    return [[s[0], int(s[1]), int(s[2]), int(s[3])] for s in lineage]


def _context(m: Context) -> Body:
    value = str(m.value) if isinstance(m.value, str) else _number(m.value)
    if value is None:
        raise BadInput("not_finite", f"context '{m.name}' of {m.machine} is {m.value}: say it as text or not at all")
    return {"id": f"{m.machine}|{m.name}|{m.t_ns}", "machine": m.machine, "name": m.name, "t_ns": m.t_ns,
            "value": value}  # fmt: skip


def _decision(m: Decision) -> Body:
    return {"id": m.id, "machine": m.machine, "t_ns": int(m.t_ns), "kind": m.kind, "body": plain(m.body)}


def _feature(m: Feature) -> Body:
    return {
        "id": f"{m.machine}|{'+'.join(m.sensors)}|{m.name}|{m.t_end_ns}",
        "machine": m.machine,
        "sensors": list(m.sensors),
        "name": m.name,
        "t_end_ns": int(m.t_end_ns),
        "values": {name: _number(value) for name, value in m.values.items()},
        "complete": bool(m.complete),
        "lineage": _spans(m.lineage),
    }


def _score(m: Score) -> Body:
    return {
        "id": m.id,
        "machine": m.machine,
        "sensors": list(m.sensors),
        "detector": m.detector,
        "t_end_ns": int(m.t_end_ns),
        "value": _number(m.value),
        "threshold": _number(m.threshold),
        "settings": m.settings,
        "complete": bool(m.complete),
        "abnormal": bool(m.abnormal),
        "reasons": plain(m.reasons),
        "lineage": _spans(m.lineage),
    }


def _embedding(m: Embedding) -> Body:
    """The vector as its digest: it travels on its own, like a chunk (`pipeline.vectors`)."""
    return {
        "id": m.id,
        "machine": m.machine,
        "sensors": list(m.sensors),
        "detector": m.detector,
        "t_end_ns": int(m.t_end_ns),
        "model": m.model,
        "dimension": len(m.values),
        "sha256": hashlib.sha256(np.asarray(m.values, "<f4").tobytes()).hexdigest(),
        "settings": m.settings,
        "lineage": _spans(m.lineage),
    }


def _machine_state(m: MachineState) -> Body:
    return {
        "id": result_id(m.machine, m.sensors, m.detector, m.t_end_ns, m.settings),
        "machine": m.machine,
        "sensors": list(m.sensors),
        "detector": m.detector,
        "t_end_ns": int(m.t_end_ns),
        "state": m.state,
        "probability": _number(m.probability),
        "settings": m.settings,
        "lineage": _spans(m.lineage),
    }


def _alarm(m: Alarm) -> Body:
    return {
        "id": m.id,
        "alarm": m.alarm,
        "condition": m.condition,
        "machine": m.machine,
        "sensors": list(m.sensors),
        "detector": m.detector,
        "t_ns": int(m.t_ns),
        "transition": m.transition,
        "ordinal": int(m.ordinal),
        "raised_ns": int(m.raised_ns),
        "severity": m.severity,
        "text": m.text,
        "value": _number(m.value),
        "threshold": _number(m.threshold),
        "settings": m.settings,
        "reasons": plain(m.reasons),
        "lineage": _spans(m.lineage),
    }


def _health(m: Health) -> Body:
    return {
        "id": m.id,
        "machine": m.machine,
        "sensor": m.sensor,
        "epoch": int(m.epoch),
        "t_ns": int(m.t_ns),
        "state": m.state,
        "reasons": list(m.reasons),
    }


def _late(m: Late) -> Body:
    s = m.stream
    stream = {
        "machine": s.machine,
        "sensor": s.sensor,
        "epoch": int(s.epoch),
        "modality": s.modality,
        "rate": [int(s.rate.num), int(s.rate.den)],
        "channels": int(s.channels),
        "dtype": s.dtype,
        "unit": s.unit,
        "scale": float(s.scale),
    }
    return {
        "id": f"{s.machine}|{s.sensor}|{s.epoch}|{m.n0}|{m.n1}|{m.reason}",
        "machine": s.machine,
        "sensor": s.sensor,
        "stream": stream,
        "anchor": [int(m.anchor.n), int(m.anchor.t_ns)],
        "n0": int(m.n0),
        "n1": int(m.n1),
        "reason": m.reason,
    }


def _dead_letter(m: DeadLetter) -> Body:
    digest = hashlib.sha256(m.value)
    for name, value in m.headers:
        digest.update(b"\0%b\0%b" % (name.encode(), value))
    return {
        "id": f"{m.topic}|{m.machine}|{m.reason}|{digest.hexdigest()[:16]}",
        "machine": m.machine,
        "topic": m.topic,
        "reason": m.reason,
        "error": m.error,
        "headers": [[name, base64.b64encode(value).decode()] for name, value in m.headers],
        "value": base64.b64encode(m.value).decode(),
    }


_BODY_OF: Mapping[type, Callable[[Any], Body]] = {
    Context: _context,
    Decision: _decision,
    Feature: _feature,
    Embedding: _embedding,
    Score: _score,
    MachineState: _machine_state,
    Alarm: _alarm,
    Health: _health,
    Late: _late,
    DeadLetter: _dead_letter,
}


def to_body(message: Told) -> Body:
    """The message as a JSON body of its topic, ready for any JSON writer.

    Raises:
        BadInput: a value that JSON cannot say.
    """
    return _BODY_OF[type(message)](message)


def record_of(message: Told, seq: int = 0, t_ns: int = 0) -> Record:
    """The message as the durable log keeps it.

    Args:
        message: a result, decision or context.
        seq: its place in the log.
        t_ns: event time of a message that has none of its own (a dead letter).
    """
    topic = TOPIC_OF[type(message)]
    body = _BODY_OF[type(message)](message)
    return Record(seq, topic, body["machine"], _time_of(message, t_ns), body["id"], body)


def _time_of(message: Told, otherwise: int) -> int:
    if isinstance(message, Feature | Embedding | Score | MachineState):
        return int(message.t_end_ns)
    if isinstance(message, Late):
        return message.anchor.at(message.n0, message.stream.rate)
    return otherwise if isinstance(message, DeadLetter) else int(message.t_ns)
