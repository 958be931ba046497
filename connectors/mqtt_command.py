"""What a command by MQTT says, and where: an alarm as JSON, what stands as JSON, and topics made of templates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from string import Formatter
from typing import NamedTuple

import orjson

from pipeline.errors import ConfigError
from pipeline.messages import NS, Alarm

_LONGEST_TOPIC = 65_535


class Command(NamedTuple):
    """An alarm on its way, worthless after `until`; once sent, to be confirmed by `answer_by` (monotonic seconds)."""

    alarm: Alarm
    until: float
    answer_by: float = math.inf


def payload_of(alarm: Alarm) -> bytes:
    """An alarm as JSON: what, where, why, when it happened (ISO 8601, UTC, nanoseconds), and the ids that tell repeats.

    Numbers that are not finite become null.
    """
    body = {
        "machine": alarm.machine, "sensors": list(alarm.sensors), "detector": alarm.detector,
        "transition": alarm.transition, "severity": alarm.severity, "reason": alarm.text, "time": _iso(alarm.t_ns),
        "score": _finite(alarm.value), "threshold": _finite(alarm.threshold), "alarm": alarm.alarm, "id": alarm.id,
    }  # fmt: skip
    return orjson.dumps(body)


def standing_of(alarms: Iterable[Alarm], since_ns: int) -> bytes:
    """The alarms that stand as JSON, and since when the detectors listen: they know nothing of what was before."""
    told = [
        {"machine": a.machine, "detector": a.detector, "severity": a.severity, "alarm": a.alarm} for a in alarms
    ]  # fmt: skip
    return orjson.dumps({"since": _iso(since_ns), "alarms": told})


def _iso(t_ns: int) -> str:
    seconds, ns = divmod(t_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def topic_of(template: str, site: str, alarm: Alarm) -> str:
    """Where an alarm's command goes; the template may name {site}, {machine}, {detector}, {transition}, {severity}.

    Raises:
        ConfigError: as `fill`.
    """
    return fill(
        template, site=site, machine=alarm.machine, detector=alarm.detector, transition=alarm.transition,
        severity=alarm.severity,
    )  # fmt: skip


def check_topic(template: str, site: str) -> None:
    """Refuse a template of commands before there is any.

    Raises:
        ConfigError: as `fill`.
    """
    topic_of(template, site, Alarm("m", ("s",), "d", 0, "raised", 0, 0, "critical", "", 0.0, 0.0, ""))


def fill(template: str, **said: str) -> str:
    """A topic from its template.

    Raises:
        ConfigError: it names something else than `said`, or is no topic to publish to (MQTT 5, 4.7).
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"MQTT topic '{template}': {error}") from None
    unknown = [name for _, name, form, how in parts if name is not None and (name not in said or form or how)]
    if unknown:
        raise ConfigError(f"MQTT topic '{template}': '{unknown[0]}' is none of {', '.join(said)}")
    made = template.format_map(said)
    if not made or made.startswith("$") or any(c in made for c in "+#\0") or len(made.encode()) > _LONGEST_TOPIC:
        raise ConfigError(f"MQTT topic '{template}': a topic is not empty, has no + and #, and does not begin with $")
    return made
