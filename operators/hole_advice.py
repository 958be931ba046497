"""What a hole that was not broken says of its tool: missing, by its level; worn, by a level that rises hole by hole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from operators import breakage_reasons as say
from operators.faint_hole import Faint
from operators.hole_level import HoleLevel, Step
from operators.hole_template import Heard, HoleTemplate

MISSING_DB = 6.0
WEAR_ALLOWANCE, WEAR_LIMIT = 0.5, 8.0
_LEAST_SIGMA_DB = 0.5


@dataclass(frozen=True, slots=True)
class Advice:
    """A value against its limit, and why; `missing` is of "drill_missing", else it is of "drill_wear"."""

    missing: bool
    value: float
    reasons: dict[str, Any]


class HoleAdvice:
    """Level of each hole below the template, and the cumulative sum of the level in which wear shows.

    A step that the sensor took is learned by the template (`hole_level`). Holes off the usual level by such a step do
    not count as wear: the sum goes on from where it was before them.

    Args:
        teach: holes that make a template.
    """

    def __init__(self, teach: int) -> None:
        self._teach = teach
        self._level = HoleLevel(teach)
        self._wear = self._usual_wear = 0.0

    def begin_anew(self) -> None:
        """Another program."""
        self._wear, self._usual_wear, self._level = 0.0, 0.0, HoleLevel(self._teach)

    def broken(self) -> None:
        """A hole in which the drill broke."""
        self._level.interrupt()

    def of_faint(self, faint: Faint, template: HoleTemplate) -> Advice | None:
        """Advice where what was too faint for a hole lasted like one."""
        step = self._step(faint.heard, template)
        if faint.below_db is None:
            return None
        text = say.missing(faint.below_db, MISSING_DB) + ("" if step is None else say.step(step))
        return self._missing(faint.below_db, text, template, unlike=False)

    def of_whole(self, whole: Heard, template: HoleTemplate) -> list[Advice]:
        """Both advices of a whole hole."""
        below = template.mean_level() - whole.level_db
        z = (whole.wear_db - template.mean_wear()) / max(template.std_wear(), _LEAST_SIGMA_DB)
        unlike = template.unlike(whole.frames) and not template.ends_at(whole.fade)
        step = self._step(whole, template)
        if step is None:
            self._wear = min(max(0.0, self._wear + z - WEAR_ALLOWANCE), 2.0 * WEAR_LIMIT)  # a new drill takes it down
        if self._level.is_usual:
            self._usual_wear = self._wear
        text = say.level(below, MISSING_DB, unlike=unlike)
        text += say.learned(template.shifted_db) if step is None else say.step(step)
        wear_text = say.wear(z, self._wear, WEAR_LIMIT, step)
        wear = Advice(missing=False, value=self._wear, reasons={"z": z, "text": wear_text})
        return [self._missing(below, text, template, unlike=unlike), wear]

    def _step(self, heard: Heard, template: HoleTemplate) -> Step | None:
        step = self._level.hear(heard, template)
        if step is not None and step.learned:
            template.shift(step.db)
            self._wear = self._usual_wear
        return step

    def _missing(self, below_db: float, text: str, template: HoleTemplate, *, unlike: bool) -> Advice:
        if below_db > MISSING_DB:
            template.missed()
        return Advice(missing=True, value=below_db, reasons={"text": text, "unlike_template": unlike})

    def snapshot(self) -> list[Any]:
        """Level and usual sum as JSON values."""
        return [self._level.snapshot(), self._usual_wear]

    @property
    def wear(self) -> float:
        """The cumulative sum."""
        return self._wear

    def restore(self, wear: float, state: Sequence[Any] | None) -> None:
        """Go on from a sum and a snapshot; earlier versions had the sum alone."""
        self.begin_anew()
        self._wear = self._usual_wear = wear
        if state is not None:
            self._level.restore(state[0])
            self._usual_wear = state[1]
