"""Where a hole begins, fades and ends by vote of the bands, and what that spares the break detector."""

from __future__ import annotations

import numpy as np
import pytest

from operators.breakage_detector import BREAK, BreakDetector
from operators.hole_course import course
from tests.operators.test_breakage_foreign import AIR, DRILL, GOOD, PAUSE, Bands, added, taught, told

IDLE = [0.01] * 4
TONE: Bands = (0.0, 8.0, 0.0, 0.0)
GONE: Bands = (0.03, 0.02, 0.015, 0.011)


def decibels(levels: list[Bands]) -> list[list[float]]:
    """Bins of these levels over the idle machine."""
    return np.round(10.0 * np.log10(np.maximum(np.subtract(levels, IDLE), 1e-20)), 1).tolist()


def ramp(share: float) -> Bands:
    """The drill at a share of its energy."""
    return tuple(share * power for power in DRILL)  # type: ignore[return-value]


def test_a_hole_begins_at_a_quarter_and_fades_below_half_of_its_energy() -> None:
    """Ten bins in, sixty full, six out, by the decibel."""
    rise = [ramp((k / 10) ** 2) for k in range(1, 10)]
    fall = [ramp(10 ** (-k / 10)) for k in range(1, 13)]
    found = course(decibels([*rise, *[DRILL] * 60, *fall]), [1e-6] * 4)
    assert (found.first, found.fades, found.last) == (5 - 1 + 1, 9 + 60 + 2, 9 + 60 + 5)
    assert found.usual_db == pytest.approx(10 * np.log10(np.subtract(DRILL, IDLE)), abs=0.05)


@pytest.mark.parametrize("noise", [TONE, (0.01, 0.02, 0.05, 9.0)])
def test_tones_and_blasts_of_few_bands_lengthen_no_hole(noise: Bands) -> None:
    """Over its end, and in the air before and behind it."""
    hole = [*[AIR] * 8, *[DRILL] * 60, *[AIR] * 10]
    quiet = course(decibels(hole), IDLE)
    assert (quiet.first, quiet.fades, quiet.last) == (8, 68, 68)
    for where in (slice(0, 6), slice(60, 78), slice(30, 40)):
        loud = [added(level, noise) if k in range(*where.indices(78)) else level for k, level in enumerate(hole)]
        assert course(decibels(loud), IDLE) == quiet


def test_a_bang_before_the_hole_is_not_its_beginning() -> None:
    """Of all bands, 125 ms before it."""
    bang = (5.0, 5.0, 5.0, 5.0)
    found = course(decibels([bang, bang, *[AIR] * 5, *[DRILL] * 60, AIR]), IDLE)
    assert (found.first, found.last) == (7, 67)


def test_what_cannot_be_told_from_the_idle_machine_is_no_sound() -> None:
    """Its level is 3 dB below the machine's, however quiet the hole; where nothing stands out, all counts."""
    found = course(decibels([(1.0, 1.0, 0.01, 0.0)] * 20), IDLE)
    assert found.usual_db[2:] == pytest.approx((-23.0, -23.0), abs=0.1)
    faint = course(decibels([(0.011,) * 4] * 20), IDLE)
    assert (faint.first, faint.last) == (0, 20)


def abnormal(detector: BreakDetector, levels: list[Bands]) -> list[float]:
    """Seconds into the hole at which a break was told."""
    return [s.reasons["into_hole_s"] for s in told(detector, levels) if s.detector == BREAK and s.abnormal]


def test_a_warning_tone_hides_no_break() -> None:
    """Louder than the drill ever was, from before the break on."""
    beeps = [added(DRILL, TONE)] * 20 + [added(GONE, TONE)] * 100
    assert abnormal(taught(), [*PAUSE, *[DRILL] * 180, *beeps, *[GONE] * 100, *PAUSE])


def test_a_late_break_is_found_in_a_hole_that_a_blast_began_early() -> None:
    """Half a second of compressed air passes into the hole; the break comes at eighty percent of it."""
    blast = (0.01, 0.02, 0.05, 9.0)
    early = [*PAUSE, *[blast] * 100, *[DRILL] * 320, *[GONE] * 80, *PAUSE]
    assert abnormal(taught(), early)
    assert not abnormal(taught(), [*PAUSE, *[blast] * 100, *[DRILL] * 400, *PAUSE])


def test_noise_over_the_taught_holes_does_not_blur_their_end() -> None:
    """A tone behind one of them, a blast before another: late breaks are judged all the same."""
    tone, blast = [added(AIR, TONE)] * 60, [(0.01, 0.02, 0.05, 9.0)] * 60
    first = [*PAUSE, *[DRILL] * 400, *tone, *PAUSE]
    second = [*PAUSE, *blast, *[DRILL] * 400, *PAUSE]
    detector = BreakDetector(4)
    told(detector, [*first, *second, *GOOD, *GOOD])
    assert detector._template.ready
    assert abnormal(detector, [*PAUSE, *[DRILL] * 340, *[GONE] * 60, *PAUSE])


@pytest.mark.parametrize("steps", [(0.15,), (0.4, 0.16)])
def test_holes_that_get_quieter_by_themselves_are_not_broken(steps: tuple[float, ...]) -> None:
    """As from steel into plastic: by 8 dB, at once or in two steps. What comes behind is not judged."""
    levels = [ramp(share) for share in (1.0, *steps)]
    hole = [level for level in levels for _ in range(400 // len(levels))]
    detector = BreakDetector(4)
    assert not [s for s in told(detector, [*PAUSE, *hole, *PAUSE] * 8) if s.abnormal]
    assert detector._template.holes == 8
    assert abnormal(detector, [*PAUSE, *hole[:100], *[GONE] * 90, *PAUSE])
