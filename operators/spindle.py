"""The spindle's speed as an input: given or told, as of a fixed time before each window's end, with its validity.

The speed is never estimated from the sound that it is to judge: on a public recording of chatter a blind comb locked
onto the chatter line itself and called the cut stable. What the sound may do is contradict (`operators.contradiction`):
then the told speed is kept and the result is marked as unverified.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, Protocol

Doubt = Literal["", "missing", "stale", "zero", "changing", "out_of_range", "unclear"]
"""Why a speed cannot be used; empty where it can."""
SAME = 0.01
"""Relative difference up to which two speeds count as one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a spindle at one time.

    Attributes:
        rpm: speed in revolutions per minute; 0 where `doubt` says that there is none.
        doubt: why the speed must not be used, or empty.
        cutting: whether the machine says that it cuts; None where it says nothing.
        good: whether it says that what it cuts is known to be good, so that it may be learned.
    """

    rpm: float
    doubt: Doubt = ""
    cutting: bool | None = None
    good: bool = False


class Speed(Protocol):
    """Where an operator takes the speed from."""

    def waits(self, t_ns: int) -> bool:
        """Whether a window that ends at `t_ns` must wait for facts still on their way."""
        ...

    def at(self, t_ns: int) -> Reading:
        """What holds for a window that ends at `t_ns`."""
        ...


class GivenSpeed:
    """One speed for ever, from the configuration.

    Args:
        rpm: revolutions per minute.

    Raises:
        ValueError: not a positive number.
    """

    def __init__(self, rpm: float) -> None:
        if not (isfinite(rpm) and rpm > 0.0):
            raise ValueError(f"a spindle speed must be positive, not {rpm} rpm")
        self._reading = Reading(rpm)

    def waits(self, t_ns: int) -> bool:  # noqa: ARG002  of the protocol
        """Never."""
        return False

    def at(self, t_ns: int) -> Reading:  # noqa: ARG002  of the protocol
        """The given speed."""
        return self._reading
