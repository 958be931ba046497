"""How loud the idle machine is between holes, without the entry of the drill and the echo of the hole before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_STEP, _STEPS = 50, 4


class IdleFloor:
    """Lowest idle level by band of the last second of air, in steps of a quarter of a second."""

    def __init__(self) -> None:
        self._steps: list[list[float]] = []
        self._frames = 0

    def hear(self, idle: Sequence[float]) -> None:
        """One more frame of air, with the running idle level."""
        if not self._frames:
            self._steps = [*self._steps[1 - _STEPS :], list(idle)]
        self._frames = (self._frames + 1) % _STEP
        self._steps[-1] = [min(known, new) for known, new in zip(self._steps[-1], idle, strict=True)]

    def forget(self) -> None:
        """The idle machine is another one from now on."""
        self._steps, self._frames = [], 0

    @property
    def level(self) -> list[float]:
        """By band; empty where no air has been heard."""
        return [min(steps) for steps in zip(*self._steps, strict=True)]

    def snapshot(self) -> list[Any]:
        """All of it as JSON values."""
        return [[list(step) for step in self._steps], self._frames]

    def restore(self, state: Sequence[Any]) -> None:
        """Become the floor that gave this snapshot."""
        self._steps, self._frames = [list(step) for step in state[0]], state[1]
