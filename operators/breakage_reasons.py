"""What the drill-break detector says to a person."""

from __future__ import annotations

from typing import Any

from operators.breakage import HOP_S
from operators.hole_course import BIN_FRAMES
from operators.hole_level import LEAST_DB, Step
from operators.hole_template import BINS, Hole, HoleTemplate
from operators.tool_wear import FRESH, Wear

UNTOLD = "untold"
"""`pipeline.stages.UNTOLD`: reason of an incomplete score whose detector nobody tells any more."""
ADVICE = "; stop and look at the drill and the hole"
"""What to do where a break is told; the last words of the reason."""
_MOST_DB = 40.0


def broken(hole: Hole, loss_db: float) -> dict[str, Any]:
    """Reasons of a break."""
    heard = "after a burst" if hole.burst else "no burst heard: a broken drill, or a hole cut short"
    into_s = hole.frames * HOP_S
    text = f"drill broken: {loss_db:.0f} dB of the cutting energy lost {into_s:.2f} s into the hole, {heard}{ADVICE}"
    return {"loss_db": loss_db, "burst": bool(hole.burst), "into_hole_s": into_s, "text": text}


def whole(template: HoleTemplate, fade: int) -> str:
    """At the end of a hole that was not broken.

    Args:
        template: of its program.
        fade: frames until it began to fade.
    """
    if template.ready and template.ends_at(fade) and template.still_cuts(fade):
        return "end of a hole where other holes of this program ended, too: judged up to there"
    if template.ready and template.cut_off:
        return f"end of a whole hole, judged in its first {BINS * BIN_FRAMES * HOP_S:g} s"
    return "end of a whole hole"


def brief(hole: Hole, shortest: int) -> str:
    """At the end of a hole that teaches nothing: broken, or of fewer frames than can be judged."""
    if hole.broken:
        return "end of a broken hole"
    return f"end of a hole of less than {shortest * HOP_S:g} s, too short to be learned or judged"


def missing(below_db: float, limit_db: float) -> str:
    """Of what lasted like a hole and was not heard as one."""
    if below_db <= limit_db:
        return f"a sound that lasted like a hole and is none, {_side(below_db)} the template"
    how = f"{below_db:.1f}" if below_db < _MOST_DB else f"more than {_MOST_DB:g}"
    return (
        f"tool missing or broken, or the sensor hears less than before: hole {how} dB below the template, "
        "too faint to look for a break"
    )


def level(below_db: float, limit_db: float, *, unlike: bool) -> str:
    """Of the level of a whole hole."""
    faint = "tool missing, broken or blunt: " if below_db > limit_db else ""
    other = "; unlike the template: another program?" if unlike else ""
    return f"{faint}hole {_side(below_db)} the template{other}"


def learned(shifted_db: float) -> str:
    """Of a level that is no longer the taught one."""
    return f"; the level was learned anew, {_louder(shifted_db)} than taught" if abs(shifted_db) >= LEAST_DB else ""


def step(found: Step) -> str:
    """Of holes off the usual level together with the idle machine."""
    off = f"{_louder(found.db)}, and so is the idle machine"
    if found.learned:
        return f"; {found.holes} holes in a row sound like the taught ones, {off}: the level is learned anew"
    return f"; sounds like the taught ones, {off}: hole {found.holes} of {found.needed} that learn the level anew"


def wear(worn: Wear | None, total: float, limit: float, found: Step | None) -> str:
    """Of the level in which wear shows."""
    sum_text = f"cumulative sum {total:.1f} of {limit:g}"
    if found is not None:
        holes = "the holes at this level are" if found.learned else "this hole is"
        return f"{sum_text}; {holes} not counted: {_louder(found.db)}, and so is the idle machine"
    if worn is None:
        return f"{sum_text}; a hole without its tool says nothing of wear"
    text = f"level between 3 and 12 kHz {worn.z:+.1f} sigma, {sum_text}"
    if not worn.fresh:
        return text
    if worn.fresh < FRESH:
        return f"{text}; another bit? Hole {worn.fresh} of {FRESH} that tell"
    return f"{text}; {'another bit, whose level is learned' if worn.another else 'the same bit'}"


def anew(text: str) -> dict[str, Any]:
    """Reasons of scores of a detector that judges nothing until it is taught: its alarms are over."""
    return {"text": text, UNTOLD: True}


def _louder(db: float) -> str:
    return f"{abs(db):.1f} dB {'louder' if db > 0.0 else 'quieter'}"


def _side(below_db: float) -> str:
    return f"{below_db:.1f} dB below" if below_db >= 0.0 else f"{-below_db:.1f} dB above"
