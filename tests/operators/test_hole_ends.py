"""Programs of holes of several depths, cavities and tools that are not there: what shops drill besides equal holes."""

from __future__ import annotations

import json

import pytest

from operators.breakage_detector import BREAK, MISSING, BreakDetector
from operators.hole_ends import Ends
from pipeline.messages import Score
from tests.operators.test_breakage import AIR, GOOD, abnormal, broken, frames, program

SHALLOW = [*AIR, *[1.0] * 240, *AIR]
CAVITY = [*AIR, *[1.0] * 300, *[0.01] * 60, *[1.0] * 150, *AIR]


def torn(at: int) -> list[float]:
    """A hole that is silent after so many frames, without a burst."""
    return broken(at, 0.01)


@pytest.mark.parametrize("holes", [[GOOD, SHALLOW], [SHALLOW, GOOD, GOOD], [CAVITY]])
def test_holes_of_several_depths_are_no_breaks(holes: list[list[float]]) -> None:
    """From the first on, and a break elsewhere in them is one."""
    detector = BreakDetector(4)
    found = program(detector, holes * 8)
    assert not abnormal(found)
    assert any("where other holes of this program ended, too" in s.reasons["text"] for s in found)
    assert not any("another program?" in s.reasons["text"] for s in found[-8:])
    assert len(abnormal(program(detector, [torn(100), *holes]))) == 1


def test_a_burst_where_holes_end_is_a_break() -> None:
    """It is the burst that tells the two apart."""
    detector = BreakDetector(4)
    program(detector, [GOOD, SHALLOW] * 6)
    made = frames(SHALLOW)
    made[335].values["energy"], made[335].values["crest"] = 50.0, 9.0  # type: ignore[index]
    assert abnormal([s for f in made for s in detector.process(f) if isinstance(s, Score)])


def test_a_new_program_of_several_depths_is_two_alarms_at_most() -> None:
    """One after the other, and in rows as on a pallet."""
    for row in (1, 2, 4):
        detector = BreakDetector(4)
        program(detector, [GOOD] * 6)
        found = abnormal(program(detector, [*[SHALLOW] * row, *[GOOD] * 2 * row] * 4))
        assert 1 <= len(found) <= 2, row


FAINT = [*AIR, *[0.05] * 400, *AIR]


@pytest.mark.parametrize("silent", [False, True])
def test_a_tool_that_is_missing_behind_an_end_makes_it_a_break(silent: bool) -> None:
    """However often it breaks there, also where the holes after it are told to cut and are silent."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    found: list[Score] = []
    for _ in range(4):
        found += program(detector, [torn(250)])
        if silent:
            air = [*frames(AIR, cutting=0.0), *frames(AIR * 4, cutting=1.0), *frames(AIR, cutting=0.0)]
            missed = [s for f in air for s in detector.process(f) if isinstance(s, Score)]
        else:
            missed = program(detector, [FAINT])
        assert len(abnormal(missed, MISSING)) == 1
        found += program(detector, [GOOD] * 2)
    assert len(abnormal(found)) == 4


def test_two_breaks_with_a_missing_tool_between_are_no_other_program() -> None:
    """No good hole lies between them."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    assert len(abnormal(program(detector, [torn(250), FAINT, torn(250), FAINT]))) == 2
    assert detector._template.ready


def test_a_known_end_is_forgotten_with_the_tool() -> None:
    """One that was taught, too; not with one that is missing behind a good hole."""
    detector = BreakDetector(4)
    program(detector, [GOOD, SHALLOW] * 6)
    assert not abnormal(program(detector, [GOOD, FAINT, SHALLOW, GOOD]))
    program(detector, [SHALLOW, FAINT])
    state = json.loads(json.dumps(detector.snapshot()))
    assert len(abnormal(program(detector, [SHALLOW, GOOD]))) == 1
    again = BreakDetector(4)
    again.restore(state)
    assert len(abnormal(program(again, [SHALLOW, GOOD]))) == 1


def test_breaks_that_are_far_apart_are_all_told() -> None:
    """Though all of them were at one place: only what ends there again and again is a program."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    found = program(detector, [torn(250), *[GOOD] * 21] * 3)
    assert len(abnormal(found)) == 3


def test_a_restored_detector_knows_the_ends() -> None:
    """As JSON."""
    first, second = BreakDetector(4), BreakDetector(4)
    program(first, [GOOD, SHALLOW] * 5)
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert second.snapshot() == first.snapshot()
    assert not abnormal(program(second, [SHALLOW, GOOD] * 3))


def test_ends() -> None:
    """Known from the second time on, at 5 % or 50 ms; forgotten after 20 good holes; eight are kept."""
    ends = Ends()
    ends.add(400)
    assert 400 not in ends
    ends.add(418)
    assert 420 in ends and 422 not in ends
    for _ in range(21):
        assert 400 in ends
        ends.good()
    assert 400 not in ends
    ends.add(400)
    assert 400 not in ends
    ends.add(400)
    ends.withdraw()
    assert 400 not in ends
    ends.add(400)
    ends.add(400)
    ends.good()
    ends.withdraw()
    assert 400 in ends
    for place in range(1000, 9000, 1000):
        ends.add(place)
        ends.add(place)
    ends.add(400)
    assert 400 not in ends and 8000 in ends and 1000 not in ends


def test_a_tool_that_is_not_there_is_missed_where_the_machine_says_that_it_cuts() -> None:
    """However quiet it is; air while it cuts elsewhere, or between the holes of one job, is none."""
    detector = BreakDetector(4)
    job = frames([level for _ in range(6) for level in GOOD], cutting=1.0)
    told = [s for f in job for s in detector.process(f) if isinstance(s, Score)]
    assert not abnormal(told, MISSING)
    assert not abnormal(program(detector, [AIR * 6]), MISSING)
    air = [*frames(AIR, cutting=0.0), *frames(AIR * 4, cutting=1.0), *frames(AIR, cutting=0.0)]
    (missed,) = abnormal([s for f in air for s in detector.process(f) if isinstance(s, Score)], MISSING)
    assert "tool missing or broken" in missed.reasons["text"]
    assert "more than 40 dB below the template" in missed.reasons["text"]


def test_what_is_said_to_cut_behind_a_hole_misses_no_tool() -> None:
    """The drill is drawn back for most of a hole's time; the next silent one is missed, and after a restart too."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    cut = [*frames(AIR, cutting=0.0), *frames([*[1.0] * 400, *AIR * 3], cutting=1.0), *frames(AIR, cutting=0.0)]
    told: list[Score] = []
    for k, f in enumerate(cut * 2):
        if k == 600:  # within the first way back
            state = json.loads(json.dumps(detector.snapshot()))
            detector = BreakDetector(4)
            detector.restore(state)
        told += [s for s in detector.process(f) if isinstance(s, Score)]
    assert sum(s.detector == MISSING for s in told) == 2
    assert not abnormal(told, MISSING)
    air = [*frames(AIR * 4, cutting=1.0), *frames(AIR, cutting=0.0)]
    assert len(abnormal([s for f in air for s in detector.process(f) if isinstance(s, Score)], MISSING)) == 1


def test_a_sound_that_is_said_not_to_cut_is_called_no_missing_tool() -> None:
    """It lasts like a hole and is as loud."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    (text,) = [s.reasons["text"] for f in frames(GOOD, cutting=0.0) for s in detector.process(f)
               if isinstance(s, Score) and s.detector == MISSING]  # fmt: skip
    assert "a sound that lasted like a hole and is none" in text
    assert "tool missing" not in text


def test_the_usual_end_of_a_program_learned_anew_is_no_early_one() -> None:
    """Two of its holes were taken for broken ones before."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 6)
    found = program(detector, [SHALLOW] * 8)
    ends = [s.reasons["text"] for s in found if s.detector == BREAK and s.reasons["text"].startswith("end of")]
    assert ends[-3:] == ["end of a whole hole"] * 3


def test_holes_that_are_too_short_say_so() -> None:
    """They teach nothing."""
    detector = BreakDetector(4)
    found = program(detector, [[*AIR, *[1.0] * 30, *AIR]] * 8)
    texts = [s.reasons["text"] for s in found if s.detector == BREAK]
    assert any("less than 0.4 s, too short to be learned or judged" in text for text in texts)
    assert "not commissioned: 0 of 4" in texts[-1] or "not commissioned: 0 of 4" in texts[-2]
