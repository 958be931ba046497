"""Records as the durable log holds them and sinks read them: through the codec and JSON."""

from typing import Any

import orjson

from pipeline.messages import (
    NS,
    Alarm,
    Anchor,
    DeadLetter,
    Feature,
    Health,
    Late,
    MachineState,
    Rate,
    Record,
    Result,
    Score,
    Stream,
)
from pipeline.results import canonical, record_of

T0 = 1_763_712_000 * NS  # 2025-11-21 08:00:00 UTC
MICROPHONE = Stream("mill-3", "mic", 1, "acoustic", Rate(48_000), 1, "<i2", "FS", 2**-15)


def stored(seq: int, result: Result, t_ns: int = 0) -> Record:
    """The record after a round through the log's JSON."""
    record = record_of(result, seq, t_ns)
    body = orjson.loads(canonical(record.body))
    return Record(seq, record.topic, record.machine, record.t_ns, record.id, body)


def score(
    seq: int, t_ns: int, value: float, *, machine: str = "mill-3", detector: str = "chatter", complete: bool = True
) -> Record:
    """A score with the threshold 1.0."""
    reasons = {"band": "800 Hz"}
    return stored(seq, Score(machine, ("mic", "accel"), detector, t_ns, value, 1.0, "a1b2c3", complete, reasons))


def feature(seq: int, t_ns: int, name: str, values: dict[str, float], complete: bool = True) -> Record:
    """A feature of the accelerometer."""
    return stored(seq, Feature("mill-3", ("accel",), name, t_ns, values, complete))


def alarm(
    seq: int,
    t_ns: int,
    transition: Any,
    ordinal: int,
    raised_ns: int,
    *,
    severity: Any = "critical",
    value: float = 7.25,
) -> Record:
    """A transition of the chatter alarm."""
    return stored(
        seq,
        Alarm(
            "mill-3",
            ("mic", "accel"),
            "chatter",
            t_ns,
            transition,
            ordinal,
            raised_ns,
            severity,
            'Chatter at 812 Hz, "tool 7", 3 × tooth passing',
            value,
            1.0,
            "a1b2c3",
            {"frequency_hz": 812.5},
        ),
    )


def health(seq: int, t_ns: int, state: Any, *reasons: str, machine: str = "mill-3", sensor: str = "mic") -> Record:
    """A sensor's state."""
    return stored(seq, Health(machine, sensor, 1, t_ns, state, reasons))


def machine_state(seq: int, t_ns: int, state: str) -> Record:
    """The machine's state."""
    return stored(seq, MachineState("mill-3", ("accel",), "load", t_ns, state, "d4e5f6", (), 0.875))


def late(seq: int, t_ns: int, n0: int, n1: int, reason: Any) -> Record:
    """Samples of the microphone that could not be used."""
    return stored(seq, Late(MICROPHONE, Anchor(0, t_ns), n0, n1, reason))


def dead_letter(seq: int, t_ns: int, reason: str) -> Record:
    """A message that could not be used."""
    letter = DeadLetter("raw.acoustic", "mill-3", reason, "14 bytes where 16 were due", (), b"\0" * 14)
    return stored(seq, letter, t_ns)
