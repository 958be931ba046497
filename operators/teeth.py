"""Lost teeth, and the flip chatter that the energy ratio cannot see, by lines that rise against what they were.

A tool whose teeth all cut repeats with the tooth passing f_TP; its other multiples of the rotation f_r are runout. When
a tooth is lost the force repeats with the revolution alone, and they rise, by 10 dB or so. Flip chatter of a tool with
an even number of teeth raises the odd multiples of f_TP/2 among them. How high they lie without any fault depends on
runout, sensor and depth, so that only a rise says something: over the first seconds of cutting at this speed and load,
which are taken for good (commissioning), and over the last two seconds of the same cut. Load is told by the lines of
the tooth passing: where they rise or fall the depth has changed, and what was before does not compare; a lost tooth
leaves them, as the next one takes its chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from pipeline.messages import Feature, Score

TOOTH_LOSS, FLIP = "tooth_loss", "flip_chatter"
RISE_DB = 6.0
"""Rise that is abnormal; a lost tooth gives about 10 dB, stable cutting wanders by 4."""
TAUGHT = 60
"""Long windows of 50 ms each at one speed that make its reference."""
LOAD_DB = 4.0
"""Change of the tooth passing's lines from which the cut is another one."""
_SKIPPED = 10  # windows after the entry, which still hold a part of it
_LASTING = 10
_OLDER, _OLDER_LEAST = 40, 10
_ANEW = 1200  # abnormal windows after which the new level is taken for usual: another tool
_PLACES = 16
_LOADS = 1000
_NOTHING = "no stable cutting to judge"
_UNTAUGHT = "not commissioned: this speed and load are being learned"


class Rise(NamedTuple):
    """What lines have done: the rise in dB that lasted for half a second, and whether a reference was taught."""

    db: float
    taught: bool

    @property
    def abnormal(self) -> bool:
        """Whether it is more than stable cutting wanders by."""
        return self.db > RISE_DB


class RisingLines:
    """Follows one level against its own past; feed one long window after the other, `leave` between cuts."""

    def __init__(self) -> None:
        self._taught: dict[int, list[float]] = {}
        self._recent: list[float] = []
        self._older: list[float] = []
        self._load: list[float] = []
        self._skip = _SKIPPED
        self._abnormal = 0

    def leave(self) -> None:
        """The cut has ended, or samples are missing: what follows is compared with the taught level alone."""
        self._recent, self._older, self._load, self._skip, self._abnormal = [], [], [], _SKIPPED, 0

    def take(self, level_db: float, tooth_db: float, speed: int) -> Rise:
        """Take one window in.

        Args:
            level_db: of the lines, over those of the tooth passing.
            tooth_db: level of those.
            speed: number of the speed.
        """
        place = speed * _LOADS + round(tooth_db / (2.0 * LOAD_DB))
        if self._skip:
            self._skip -= 1
            return Rise(0.0, self._known(place) is not None)
        if self._load and abs(tooth_db - median(self._load)) > LOAD_DB:
            self._recent, self._older, self._load = [], [], []
        self._load = [*self._load[1 - _OLDER :], tooth_db]
        if len(self._recent) == _LASTING and not self._abnormal:
            self._older = [*self._older[1 - _OLDER :], self._recent[0]]
        self._recent = [*self._recent[1 - _LASTING :], level_db]
        usual = self._known(place)
        if usual is None:
            self._teach(level_db, place)
        rise = self._rise(usual)
        self._abnormal = self._abnormal + 1 if rise > RISE_DB else 0
        if self._abnormal >= _ANEW:
            self._taught.pop(place, None)
            self._older, self._abnormal = [], 0
        return Rise(rise, usual is not None)

    def _rise(self, usual: float | None) -> float:
        if len(self._recent) < _LASTING:
            return 0.0
        low = min(self._recent)
        before = [low - median(self._older)] if len(self._older) >= _OLDER_LEAST else []
        return max([0.0, *before, *([] if usual is None else [low - usual])])

    def _known(self, place: int) -> float | None:
        levels = self._taught.get(place, [])
        return median(levels) if len(levels) >= TAUGHT else None

    def _teach(self, level_db: float, place: int) -> None:
        self._taught[place] = [*self._taught.pop(place, []), round(level_db, 2)]
        while len(self._taught) > _PLACES:
            del self._taught[next(iter(self._taught))]

    def snapshot(self) -> dict[str, Any]:
        """Levels and counters, at most 5 kB."""
        return {
            "taught": [[place, list(levels)] for place, levels in self._taught.items()],
            "recent": list(self._recent),
            "older": list(self._older),
            "load": list(self._load),
            "skip": self._skip,
            "abnormal": self._abnormal,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._taught = {place: list(levels) for place, levels in state["taught"]}
        self._recent, self._older = list(state["recent"]), list(state["older"])
        self._load = list(state["load"])
        self._skip, self._abnormal = state["skip"], state["abnormal"]


class Teeth:
    """`Feature` ``chatter_lines`` → `Score` ``tooth_loss`` and, for even numbers of teeth from 4 on, ``flip_chatter``.

    The value is the rise in dB, comparable with the threshold; it contains half a second of persistence. For two teeth
    a lost tooth and flip chatter raise the same lines and are told by one score, ``tooth_loss``, whose reason says so.
    A tool of one tooth has none to lose.

    Args:
        teeth: of the tool.
        settings: settings hash of the scores.
        every: long windows between scores while nothing changes.
    """

    def __init__(self, teeth: int, settings: str, *, every: int) -> None:
        self._teeth, self._settings, self._every = teeth, settings, every
        self._turn, self._half = RisingLines(), RisingLines()
        self._windows = 0
        self._abnormal: dict[str, bool] = {}

    @property
    def _even(self) -> bool:
        return self._teeth >= 4 and self._teeth % 2 == 0

    def leave(self) -> None:
        """The cut has ended or samples are missing."""
        self._turn.leave()
        self._half.leave()

    def take(self, message: Feature, speed: int, *, cutting: bool) -> list[Score]:
        """Take one long window in.

        Args:
            message: with the values of a long window.
            speed: number of the speed.
            cutting: whether it is judged.
        """
        if self._teeth < 2:
            return []
        self._windows += 1
        v = message.values
        if not cutting:
            self.leave()
            turn = half = Rise(0.0, True)
        else:
            first = v["half_tooth_db"] if self._teeth == 2 else v["turn_db"]
            turn = self._turn.take(first, v["tooth_db"], speed)
            half = self._half.take(v["half_tooth_db"], v["tooth_db"], speed) if self._even else Rise(0.0, True)
        scores = self._score(message, TOOTH_LOSS, turn, self._loss_text(turn, cutting))
        if self._even:
            alone = Rise(0.0 if turn.abnormal else half.db, half.taught)
            scores += self._score(message, FLIP, alone, self._flip_text(alone, cutting))
        return scores

    def _score(self, message: Feature, detector: str, rise: Rise, text: str) -> list[Score]:
        turned = rise.abnormal != self._abnormal.get(detector, False)
        self._abnormal[detector] = rise.abnormal
        if not turned and self._windows % self._every:
            return []
        v = message.values
        reasons = {"text": text, "half_tooth_db": v["half_tooth_db"], "turn_db": v["turn_db"], "taught": rise.taught}
        return [Score.of(message, detector, rise.db, RISE_DB, self._settings, reasons)]

    def _loss_text(self, rise: Rise, cutting: bool) -> str:
        if not cutting:
            return _NOTHING
        if not rise.abnormal:
            return "teeth as usual" if rise.taught else _UNTAUGHT
        also = " or flip chatter (two teeth: not to be told apart)" if self._teeth == 2 else ""
        return (
            f"lines of the single revolution rose by {rise.db:.0f} dB over those of the tooth passing: a lost or "
            f"chipped tooth{also}, or another tool"
        )

    def _flip_text(self, rise: Rise, cutting: bool) -> str:
        if not cutting:
            return _NOTHING
        if not rise.abnormal:
            return "half-tooth lines as usual" if rise.taught else _UNTAUGHT
        return (
            f"lines at odd multiples of half the tooth passing rose by {rise.db:.0f} dB: flip chatter; reduce the "
            "depth of cut"
        )

    def snapshot(self) -> dict[str, Any]:
        """State, at most 10 kB."""
        return {
            "turn": self._turn.snapshot(),
            "half": self._half.snapshot(),
            "windows": self._windows,
            "abnormal": dict(self._abnormal),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._turn.restore(state["turn"])
        self._half.restore(state["half"])
        self._windows, self._abnormal = state["windows"], dict(state["abnormal"])
