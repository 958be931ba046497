"""Reading the bodies of results as sinks get them: JSON values under the names of the message's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import SinkRejected
from pipeline.messages import Record


class RecordsRejected(SinkRejected):
    """Some records of a batch were refused for good, each with its reason; all others were delivered.

    Who knows only `SinkRejected` may count the whole batch as dropped; `refused` tells exactly which records are.
    """

    def __init__(self, sink: str, refused: Sequence[tuple[Record, str]], total: int) -> None:
        """Name the first record in the message and keep all of them."""
        record, reason = refused[0]
        super().__init__(f"{sink} refused {len(refused)} of {total} records, first {record.id!r}: {reason}")
        self.refused = tuple(refused)


def sensors_of(body: Mapping[str, Any]) -> str:
    """The sensors behind a result as one bounded label, ``mic+accel``."""
    return "+".join(body["sensors"])


def number(value: Any) -> float | None:
    """A finite number as float; None for what is missing, not finite or no number."""
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return None
