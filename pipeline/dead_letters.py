"""What could not be used, kept up to a bound and counted beyond."""

from __future__ import annotations

from collections import Counter

from pipeline import codec
from pipeline.errors import BadInput
from pipeline.messages import DeadLetter, Input

MAX_DEAD_LETTERS = 100
"""Dead letters kept per stream and reason; more of the same are counted only."""


class DeadLetters:
    """The dead letters of a lane.

    Args:
        machine: whose lane.
        counts: the lane's; gets ``dead.<reason>`` and ``kept.<reason>.<sensor>``.
    """

    def __init__(self, machine: str, counts: Counter[str]) -> None:
        self._machine = machine
        self._counts = counts

    def letter(self, message: Input, reason: str, error: str) -> DeadLetter | None:
        """Count a message that could not be used; the letter, if it is to be kept."""
        stream = getattr(message, "stream", None)
        if not self.keeps(reason, stream.sensor if stream else ""):
            return None
        try:
            headers, value = codec.encode(message)
        except BadInput as unfit:  # contradicts itself so much that it has no form on the wire
            headers, value, error = [], b"", f"{error}; {unfit}"
        return DeadLetter(codec.topic_of(message), self._machine, reason, error, tuple(headers), value)

    def keeps(self, reason: str, sensor: str) -> bool:
        """Count a dead letter; says whether it is to be kept."""
        self._counts["dead." + reason] += 1
        tally = f"kept.{reason}.{sensor}"
        self._counts[tally] += 1
        return self._counts[tally] <= MAX_DEAD_LETTERS
