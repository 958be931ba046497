"""What could not be used, kept up to a bound and counted beyond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from pipeline import codec
from pipeline.errors import BadInput
from pipeline.messages import DeadLetter, Input, Late, Message

MAX_DEAD_LETTERS = 100
"""Dead letters kept per stream and reason; more of the same are counted only. Then unusable samples are joined, too."""
JOINED = 100
"""So many pieces of unusable samples, end to end, are told as one: a dead channel gives a piece every 10 ms."""


class DeadLetters:
    """The dead letters of a lane.

    Args:
        machine: whose lane.
        counts: the lane's; gets ``dead.<reason>``, ``kept.<reason>.<sensor>`` and ``late.<reason>``.
    """

    def __init__(self, machine: str, counts: Counter[str]) -> None:
        self._machine = machine
        self._counts = counts
        self._late: dict[tuple[str, str], tuple[int, Late | None]] = {}

    def letter(self, message: Input, reason: str, error: str) -> DeadLetter | None:
        """Count a message that could not be used; the letter, if it is to be kept."""
        stream = getattr(message, "stream", None)
        # names that nobody has configured may be ever new
        if not self.keeps(reason, stream.sensor if stream and reason != "unknown_sensor" else ""):
            return None
        try:
            headers, value = codec.encode(message)
        except BadInput as unfit:  # contradicts itself so much that it has no form on the wire
            headers, value, error = [], b"", f"{error}; {unfit}"
        return DeadLetter(codec.topic_of(message), self._machine, reason, error, tuple(headers), value)

    def unfit(self, key: str, why: str, saved: Mapping[str, Any]) -> list[DeadLetter]:
        """Count an operator's snapshot that could not be used; the letter that holds it, if it is to be kept."""
        if not self.keeps("snapshot_unfit", ""):
            return []
        error = f"{key} begins anew: its snapshot {why}"
        return [DeadLetter("snapshot", self._machine, "snapshot_unfit", error, (), orjson.dumps(saved))]

    def keeps(self, reason: str, sensor: str) -> bool:
        """Count a dead letter; says whether it is to be kept."""
        self._counts["dead." + reason] += 1
        tally = f"kept.{reason}.{sensor}"
        self._counts[tally] += 1
        return self._counts[tally] <= MAX_DEAD_LETTERS

    def told(self, result: Message) -> Message | None:
        """A stage's result, unless it says what has been said often enough."""
        if isinstance(result, Late):
            return self.late(result)
        if isinstance(result, DeadLetter) and not self.keeps(result.reason, ""):
            return None
        return result

    def late(self, late: Late) -> Late | None:
        """Count samples that could not be used; what is to be told now, perhaps joined with what was held back."""
        self._counts["late." + late.reason] += 1
        name = (late.stream.sensor, late.reason)
        told, held = self._late.get(name, (0, None))
        if told < MAX_DEAD_LETTERS:
            self._late[name] = (told + 1, None)
            return late
        if held is not None and (held.stream != late.stream or held.n1 != late.n0):
            self._late[name] = (told + 1, late)
            return held
        joined = late if held is None else replace(held, n1=late.n1)
        full = told % JOINED == JOINED - 1
        self._late[name] = (told + 1, None if full else joined)
        return joined if full else None
