"""What a hole that was not broken says of its tool: missing, by its level; worn, by a level that rises hole by hole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from operators import breakage_reasons as say
from operators.faint_hole import Faint
from operators.hole_level import HoleLevel, Step
from operators.hole_template import Heard, HoleTemplate
from operators.tool_wear import LIMIT, ToolWear, Wear

MISSING_DB = 6.0
_LEAST_SIGMA_DB = 0.5
_SUMS = 2  # parts of a snapshot before bits were told apart


@dataclass(frozen=True, slots=True)
class Advice:
    """A value against its limit, and why; `missing` is of "drill_missing", else it is of "drill_wear"."""

    missing: bool
    value: float
    reasons: dict[str, Any]


class HoleAdvice:
    """Level of each hole below the template, and wear by the level in which it shows.

    A step that the sensor took is learned by the template (`hole_level`). Holes off the usual level by such a step do
    not count as wear: its sum goes on from where it was before them.

    Args:
        teach: holes that make a template.
    """

    def __init__(self, teach: int) -> None:
        self._teach = teach
        self._level = HoleLevel(teach)
        self._wear = ToolWear()
        self._usual_wear = self._wear.snapshot()

    def begin_anew(self) -> None:
        """Another program."""
        self._level, self._wear = HoleLevel(self._teach), ToolWear()
        self._usual_wear = self._wear.snapshot()

    def broken(self) -> None:
        """A hole in which the drill broke."""
        self._level.interrupt()
        self._wear.suspect()

    def of_faint(self, faint: Faint, template: HoleTemplate) -> Advice | None:
        """Advice where what was too faint for a hole lasted like one."""
        step = self._step(faint.heard, template)
        if faint.below_db is None:
            return None
        if step is None and faint.below_db > MISSING_DB:
            self._wear.suspect()
        text = say.missing(faint.below_db, MISSING_DB) + ("" if step is None else say.step(step))
        return self._missing(faint.below_db, text, template, unlike=False)

    def of_whole(self, whole: Heard, template: HoleTemplate) -> list[Advice]:
        """Both advices of a whole hole."""
        below = template.mean_level() - whole.level_db
        unlike = template.unlike(whole.frames) and not template.ends_at(whole.fade)
        step = self._step(whole, template)
        worn = None if step is not None else self._worn(whole, below, template)
        if self._level.is_usual:
            self._usual_wear = self._wear.snapshot()
        text = say.level(below, MISSING_DB, unlike=unlike)
        text += say.learned(template.shifted_db) if step is None else say.step(step)
        total = self._wear.total if worn is None else worn.total
        wear_text = say.wear(worn, total, LIMIT, step)
        reasons = {"text": wear_text} if worn is None else {"z": worn.z, "text": wear_text}
        wear = Advice(missing=False, value=total, reasons=reasons)
        return [self._missing(below, text, template, unlike=unlike), wear]

    def _worn(self, whole: Heard, below_db: float, template: HoleTemplate) -> Wear | None:
        """Wear after a hole; None where the tool is missing."""
        if below_db > MISSING_DB:
            self._wear.suspect()
            return None
        off_db, std_db = whole.wear_db - template.mean_wear(), max(template.std_wear(), _LEAST_SIGMA_DB)
        return self._wear.hear(off_db, std_db)

    def _step(self, heard: Heard, template: HoleTemplate) -> Step | None:
        step = self._level.hear(heard, template)
        if step is not None and step.learned:
            template.shift(step.db)
            self._wear.restore(self._usual_wear)
        return step

    def _missing(self, below_db: float, text: str, template: HoleTemplate, *, unlike: bool) -> Advice:
        if below_db > MISSING_DB:
            template.missed()
        return Advice(missing=True, value=below_db, reasons={"text": text, "unlike_template": unlike})

    def snapshot(self) -> list[Any]:
        """Level, wear, and wear at the usual level as JSON values."""
        return [self._level.snapshot(), self._usual_wear, self._wear.snapshot()]

    @property
    def wear(self) -> float:
        """The cumulative sum."""
        return self._wear.total

    def restore(self, wear: float, state: Sequence[Any] | None) -> None:
        """Go on from a sum and a snapshot; earlier versions had the sum alone, or with the level and another sum."""
        self.begin_anew()
        self._wear.total = wear
        if state is not None:
            self._level.restore(state[0])
            if len(state) > _SUMS:
                self._wear.restore(state[2])
        self._usual_wear = list(state[1]) if state is not None and len(state) > _SUMS else self._wear.snapshot()
