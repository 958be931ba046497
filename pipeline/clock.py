"""Time for those who may ask for it: engines and connectors' drivers, never operators."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Host time in nanoseconds since 1970, and waiting."""

    def now_ns(self) -> int:
        """The present moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class HostClock:
    """The host's clock, which never runs backwards here: read once, then carried on by the monotonic clock.

    A step of the host's clock (NTP, an operator) therefore moves no stream that is running; connectors that read a
    device's own clock notice drift themselves and fit their anchors to it.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """The present moment."""
        return time.monotonic_ns() + self._offset

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that moves when told to, for tests and for runs faster than real time."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = start_ns

    def now_ns(self) -> int:
        """The present moment."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self._now += round(seconds * 1e9)
