"""When a drilling head cuts: strokes from the level of its frames, or from what the machine says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

_ABOVE, _BEGUN = 1.25, 4
"""Level over the idle machine's, and frames in a row, that begin a stroke: 1 dB for 0.2 s."""
_BACK, _ENDED = 0.35, 2
"""Share of the stroke's level over the idle one, and frames in a row, that end it."""
_DOWN, _UP = 0.3, 0.02
_LONGEST = 1200
_PAUSE = 20
"""Frames without any signal, one second, that end a stroke: a noise gate is closed. Fewer are missing samples."""

Told = Literal["air", "begins", "cuts", "ends"]


class Strokes:
    """Follows the level of a head, frame by frame.

    Attributes:
        whole: whether the stroke under way, or the one that has just ended, is known from its beginning. What is loud
            right behind missing samples, behind the start or behind another, is the rest of one, or the idle machine is
            louder than it was; what lasts over a minute is none.
    """

    def __init__(self) -> None:
        self._idle = self._before = -1.0  # now, and before the last frame
        self._level = 0.0
        self._frames = 0
        self._run = 0
        self._torn = False
        self._adjoins = False
        """Whether a stroke has ended and nothing as quiet as the idle machine was heard since."""
        self._silent = 0
        self._between = -1
        """Frames heard in the air since a pause; -1 where a stroke began in them, or none is known."""
        self.whole = False

    @property
    def frames(self) -> int:
        """Frames since the stroke began; 0 in the air."""
        return self._frames

    def forget(self) -> None:
        """Samples are missing: whatever was under way is over."""
        self._frames, self._run, self.whole, self._torn = 0, 0, False, True

    def silence(self, cutting: float) -> bool:
        """No microphone gives a signal; True where that ends a stroke: for a second, or the machine says so.

        What is heard again sooner was torn. Nothing is learned of the idle machine, or the hall would be louder than
        that for a minute, unless all that is heard between two pauses is taken for it: a noise gate lets but the
        strokes through.

        Args:
            cutting: 1 or 0 where the machine says whether it cuts, -1 where it does not.
        """
        if not self._silent:  # part of the last frame was silence, too
            self._idle = self._before
        self._silent, self._run = self._silent + 1, 0
        if self._frames:
            return self._ends_in_silence(cutting)
        self.whole, self._adjoins = not self._torn, False
        if self._silent >= _PAUSE:
            if _BEGUN <= self._between <= _LONGEST:
                self._idle = self._before = 0.0
            self._between = 0
        return False

    def _ends_in_silence(self, cutting: float) -> bool:
        if cutting != 0.0 and self._silent < _PAUSE:
            return False
        if cutting == 1.0:  # it still cuts: the microphones are dead
            self.forget()
            return False
        self._frames, self._torn, self._between = 0, False, 0
        return True

    def take(self, level: float, cutting: float) -> Told:
        """What a frame means.

        Args:
            level: mean square.
            cutting: 1 or 0 where the machine says whether it cuts, -1 where it does not.
        """
        if self._silent:
            if self._frames:
                self.forget()
            self._silent = 0
            return "air"  # part of it is silence: it says nothing of the idle machine
        return self._cuts(level, cutting) if self._frames else self._in_air(level, cutting)

    def _in_air(self, level: float, cutting: float) -> Told:
        self._before = self._idle
        if self._idle < 0.0:
            self._idle = level
        loud = cutting == 1.0 or (cutting < 0.0 and level > _ABOVE * self._idle)
        self._run = self._run + 1 if loud else 0
        self._between += self._between >= 0
        if not loud:
            self.whole, self._torn, self._adjoins = True, False, False  # the next one is heard from its beginning
            self._idle += (_DOWN if level < self._idle else _UP) * (level - self._idle)
        if self._run < _BEGUN:
            return "air"
        self.whole = self.whole and not self._adjoins
        self._frames, self._level, self._run, self._between = self._run, level, 0, -1
        return "begins"

    def _cuts(self, level: float, cutting: float) -> Told:
        self._frames += 1
        self._level += (level - self._level) / min(self._frames, 20)
        back = level < self._idle + _BACK * (self._level - self._idle)
        over = cutting == 0.0 or (cutting < 0.0 and back)
        self._run = self._run + 1 if over else 0
        if self._frames > _LONGEST:
            self._idle, self.whole = level, False
        elif self._run < _ENDED and cutting != 0.0:
            return "cuts"
        elif not self.whole and cutting < 0.0:  # the idle machine may be louder than before
            self._idle = level
        self._before, self._frames, self._run, self._torn, self._adjoins = self._idle, 0, 0, False, cutting < 0.0
        return "ends"

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "idle": self._idle, "level": self._level, "frames": self._frames, "run": self._run, "whole": self.whole,
            "torn": self._torn, "silent": self._silent, "between": self._between, "adjoins": self._adjoins,
            "before": self._before,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._idle, self._level, self._before = state["idle"], state["level"], state.get("before", state["idle"])
        self._frames, self._run = int(state["frames"]), int(state["run"])
        self.whole, self._torn = bool(state.get("whole", True)), bool(state.get("torn", False))
        self._silent, self._between = int(state.get("silent", 0)), int(state.get("between", -1))
        self._adjoins = bool(state.get("adjoins", False))
