"""Whether the microphones of a drilling head can be relied on: in a frame, and over a stroke beside what was taught.

A microphone that gives no signal, or hears far less or more than the others beside what it did in good strokes (a
broken cable, a jet of coolant), takes its share from the bits next to it: they would be called silent, and a bang in
the hall would look as if it came from one bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.head import PAST
from operators.head_geometry import HeadGeometry
from operators.head_template import KEPT

Float64 = NDArray[np.float64]

OFF_DB = 10.0
"""Change of a microphone's level in a stroke, beside that of the others, from which it is not relied on; to it is added
what the level changes when the bit that a microphone hears most is silent (0.2 dB in a head of ninety, 19 in one of
two)."""
_SETTLED = 2 * PAST + 1
"""Frames behind one without a signal that bursts are still measured against."""
_TINY = 1e-30


class Microphones:
    """Follows the microphones of a head, frame by frame and stroke by stroke.

    Args:
        geometry: of the head.
    """

    def __init__(self, geometry: HeadGeometry) -> None:
        self._count = len(geometry.microphones_m)
        count, most = self._count, np.max(np.square(geometry.weights()), axis=0)
        self._one_bit_db = -10.0 * np.log10(np.maximum(1.0 - most, _TINY))
        self._flat: list[int] = []
        self._behind = 0
        self._lost: list[int] = []
        self._frames = 0
        self._power = np.zeros(count)
        self._usual = np.zeros(0)
        self._strokes = 0
        self._off = ""

    @property
    def dead(self) -> bool:
        """Whether no microphone gave a signal in the last frame."""
        return len(self._flat) == self._count

    @property
    def trouble(self) -> str:
        """Why no burst can be judged now; empty where it can."""
        if self._flat or self._behind:
            return self._no_signal(self._flat)
        return self._off

    @property
    def lost(self) -> str:
        """Why the stroke under way, or the one that has just ended, cannot be judged; empty where it can."""
        return self._no_signal(self._lost) if self._lost else ""

    def begin(self) -> None:
        """A stroke begins, or what was under way is over."""
        self._lost, self._frames, self._power = [], 0, np.zeros(self._count)

    def hear(self, values: Mapping[str, float]) -> None:
        """Take in a frame, within a stroke or not."""
        mask = int(values["flat"])
        self._flat = [k for k in range(self._count) if mask >> k & 1]
        self._behind = _SETTLED if self._flat else max(self._behind - 1, 0)
        if not self.dead:  # else `Strokes` tells an end from missing samples
            self._lost = sorted({*self._lost, *self._flat})

    def cut(self, values: Mapping[str, float]) -> None:
        """Count the frame as one of the cut."""
        self._frames += 1
        self._power = self._power + np.array([values[f"m{k}"] for k in range(self._count)])

    def compare(self) -> str:
        """At the end of a whole stroke: which microphone is off what was taught, in words; empty where none is."""
        self._off = ""
        if len(self._usual) == self._count and self._frames:
            off = self._levels_db() - self._usual
            beside = [float(off[k] - np.median(np.delete(off, k))) for k in range(self._count)]
            k = max(range(self._count), key=lambda i: (abs(round(beside[i], 3)), -beside[i]))
            if abs(beside[k]) > OFF_DB + self._by_one_bit(k, less=beside[k] < 0.0):
                how = f"{abs(beside[k]):.0f} dB {'less' if beside[k] < 0.0 else 'more'}"
                self._off = (
                    f"sensor unreliable: microphone {k + 1} hears {how} beside the others than in the taught strokes: "
                    "cable, gain or coolant?"
                )
        return self._off

    def _by_one_bit(self, k: int, *, less: bool) -> float:
        """What a silent bit can make a microphone hear less beside the others, or the others beside it, in dB."""
        return float(self._one_bit_db[k] if less else np.median(np.delete(self._one_bit_db, k)))

    def learn(self) -> None:
        """The stroke that has just ended was a good one."""
        if not self._frames:
            return
        now = self._levels_db()
        self._strokes = min(self._strokes + 1, KEPT)
        self._usual = now if len(self._usual) != self._count else self._usual + (now - self._usual) / self._strokes

    def begin_anew(self) -> None:
        """Another program, other places or gains: what was usual is forgotten."""
        self._usual, self._strokes, self._off = np.zeros(0), 0, ""

    def _levels_db(self) -> Float64:
        return np.asarray(10.0 * np.log10(self._power / self._frames + _TINY), np.float64)

    def _no_signal(self, which: list[int]) -> str:
        if not which:
            return "sensor unreliable: a microphone gave no signal a moment ago"
        if len(which) == self._count:
            return "sensor unreliable: no microphone gives a signal"
        named = ", ".join(str(k + 1) for k in which)
        gives = f"microphone {named} gives" if len(which) == 1 else f"microphones {named} give"
        return f"sensor unreliable: {gives} no signal"

    def snapshot(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "flat": list(self._flat), "behind": self._behind, "lost": list(self._lost), "frames": self._frames,
            "power": self._power.tolist(), "usual": self._usual.tolist(), "strokes": self._strokes, "off": self._off,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._flat, self._lost = [int(k) for k in state["flat"]], [int(k) for k in state["lost"]]
        self._behind, self._frames, self._strokes = int(state["behind"]), int(state["frames"]), int(state["strokes"])
        self._power, self._usual, self._off = np.array(state["power"]), np.array(state["usual"]), str(state["off"])
