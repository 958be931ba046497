"""The spindle's speed as an input: given or told, as of a fixed time before each window's end, with its validity.

The speed is never estimated from the sound that it is to judge: on a public recording of chatter a blind comb locked
onto the chatter line itself and called the cut stable. What the sound may do is contradict (`operators.contradiction`):
then the told speed is kept and the result is marked as unverified.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite
from typing import Literal, Protocol

from pipeline.messages import NS, Context

SPEED = "spindle_rpm"
STATE = "state"
CUTTING_STATES = frozenset({"cut", "cutting", "run", "running", "active"})
"""Values of the fact ``state`` under which a detector evaluates; any other one is a machine that does not cut."""

Doubt = Literal["", "missing", "stale", "zero", "changing", "out_of_range"]
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
    """

    rpm: float
    doubt: Doubt = ""
    cutting: bool | None = None


class Speed(Protocol):
    """Where an operator takes the speed from."""

    def tell(self, fact: Context) -> None:
        """Take a fact about the machine in; facts come in the order of their times."""
        ...

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

    def tell(self, fact: Context) -> None:
        """Nothing that is told changes a given speed."""

    def waits(self, t_ns: int) -> bool:  # noqa: ARG002  of the protocol
        """Never."""
        return False

    def at(self, t_ns: int) -> Reading:  # noqa: ARG002  of the protocol
        """The given speed."""
        return self._reading


class ToldSpeed:
    """Speed and operating state from the facts ``spindle_rpm`` and ``state`` (control, tachometer), with a heartbeat.

    A window that ends at t is judged under what was told up to t - lag; with a lag longer than the heartbeat no window
    ever waits. A window waits for the facts up to its t - lag, but not beyond `stale_s`: then the speed counts as
    stale. Facts must therefore reach the operator not more than `stale_s` later than the samples of their time.

    Args:
        lag_s: how long before a window's end the facts are read.
        stale_s: age from which the newest speed no longer holds.
    """

    def __init__(self, lag_s: float = 1.5, stale_s: float = 5.0) -> None:
        self._lag_ns, self._stale_ns = round(lag_s * NS), round(stale_s * NS)
        self._speeds: deque[tuple[int, float]] = deque()
        self._states: deque[tuple[int, str]] = deque()
        self._told_ns: int | None = None

    def tell(self, fact: Context) -> None:
        """Keep a speed or a state; a fact older than the newest one of its name is dropped."""
        if fact.name == SPEED and isinstance(fact.value, int | float) and isfinite(fact.value):
            if not self._speeds or fact.t_ns > self._speeds[-1][0]:
                self._speeds.append((fact.t_ns, float(fact.value)))
            self._told_ns = max(fact.t_ns, self._told_ns or fact.t_ns)
        elif fact.name == STATE and isinstance(fact.value, str) and (
            not self._states or fact.t_ns > self._states[-1][0]
        ):  # fmt: skip
            self._states.append((fact.t_ns, fact.value))

    def waits(self, t_ns: int) -> bool:
        """Until the speed of `t_ns` - lag is told, at most for `stale_s` of event time."""
        behind = 0 if self._told_ns is None else t_ns - self._lag_ns - self._told_ns
        return 0 < behind <= self._stale_ns

    def at(self, t_ns: int) -> Reading:
        """The facts as of `t_ns` - lag. Times must not decrease from call to call."""
        asked = t_ns - self._lag_ns
        _forget(self._speeds, asked - self._stale_ns)
        _forget(self._states, asked)
        known = [(t, rpm) for t, rpm in self._speeds if t <= asked]
        states = [state for t, state in self._states if t <= asked]
        cutting = states[-1] in CUTTING_STATES if states else None
        if not known:
            return Reading(0.0, "missing", cutting)
        t, rpm = known[-1]
        if asked - t > self._stale_ns:
            return Reading(0.0, "stale", cutting)
        if rpm <= 0.0:
            return Reading(0.0, "zero", cutting)
        if len(known) > 1 and abs(known[-2][1] / rpm - 1.0) > SAME:
            return Reading(rpm, "changing", cutting)
        return Reading(rpm, "", cutting)


def _forget(facts: deque[tuple[int, float]] | deque[tuple[int, str]], before_ns: int) -> None:
    """Drop what is older than the newest fact at or before a time; the one before it tells of a change."""
    while len(facts) > 2 and facts[2][0] <= before_ns:
        facts.popleft()
