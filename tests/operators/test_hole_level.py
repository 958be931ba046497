"""Another gain of the sensor, and the tools that sound like one: what is learned of a level, and what never is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import pytest

from operators.breakage import FRAME
from operators.breakage_detector import BREAK, MISSING, WEAR, BreakDetector
from operators.hole_level import HoleLevel, Step
from operators.hole_template import Heard, HoleTemplate
from operators.idle_floor import IdleFloor
from pipeline.messages import Feature, Score

Bands = tuple[float, float, float, float]
IDLE, DRILL = (0.01,) * 4, (1.0, 0.5, 0.3, 0.1)
RUB = (0.01, 0.11, 0.03, 0.01)  # of a stump: from 2 to 6 kHz, most of it
AIR, BACK = [IDLE] * 100, [IDLE] * 200


def scaled(hole: Sequence[Bands], db: float) -> list[Bands]:
    """The same with another gain."""
    gain = 10.0 ** (db / 10.0)
    return [tuple(gain * power for power in frame) for frame in hole]


def made(drill: Bands | Sequence[Bands], frames: int = 400) -> list[Bands]:
    """A hole with air around it: the drill and the idle machine together."""
    cut = [drill] * frames if isinstance(drill[0], float) else list(drill)
    return [*AIR, *[tuple(np.add(a, b)) for a, b in zip(cut, [IDLE] * len(cut), strict=True)], *BACK]  # type: ignore


GOOD = made(DRILL)
QUIET: Bands = tuple(0.1 * power for power in DRILL)  # type: ignore[assignment]
TORN = made([DRILL] * 200 + [(0.0,) * 4] * 200)


def told(detector: BreakDetector, holes: Sequence[Sequence[Bands]], cutting: float = -1.0) -> list[Score]:
    """Scores of holes one after the other."""
    out: list[Score] = []
    for k, level in enumerate(power for hole in holes for power in hole):
        values = {f"p{i}": power for i, power in enumerate(level)}
        frame = Feature("m", ("s",), FRAME, k * 5_000_000, values | {"energy": 1.0, "crest": 3.0, "cutting": cutting})
        out += [score for score in detector.process(frame) if isinstance(score, Score)]
    return out


def taught(holes: int = 6) -> BreakDetector:
    """One that knows a program."""
    detector = BreakDetector(4)
    told(detector, [GOOD] * holes)
    return detector


def texts(scores: Sequence[Score], detector: str) -> list[str]:
    """What a detector says."""
    return [str(score.reasons["text"]) for score in scores if score.detector == detector]


def learned(scores: Sequence[Score]) -> list[str]:
    """Where it says that the level is another one from now on."""
    return [text for text in texts(scores, MISSING) if "the level is learned anew" in text]


@pytest.mark.parametrize("db", [-20.0, -10.0, -8.0, -5.0, -4.0, 4.0, 8.0])
def test_another_gain_is_learned_after_four_holes(db: float) -> None:
    """Until then holes are missing if they are 6 dB quieter; then breaks are judged, and nothing is said of wear."""
    detector = taught()
    found = told(detector, [scaled(GOOD, db)] * 4)
    (text,) = learned(found)
    side = "quieter" if db < 0.0 else "louder"
    said = re.search(rf"4 holes in a row sound like the taught ones, ([0-9.]+) dB {side}, and so is the idle", text)
    assert said is not None and float(said[1]) == pytest.approx(abs(db), abs=0.4)
    missing = [score.abnormal for score in found if score.detector == MISSING]
    assert missing == [db < -6.0] * 4
    later = told(detector, [scaled(GOOD, db)] * 3)
    assert [score.value for score in later if score.detector == MISSING] == pytest.approx([0.0] * 3, abs=0.6)
    worn = [s for s in found + later if s.detector == WEAR]
    assert not any(s.abnormal for s in (worn if db < 0.0 else worn[3:]))
    assert all(f"learned anew, {said[1]} dB {side} than taught" in text for text in texts(later, MISSING))
    assert not [s for s in found + later if s.detector == BREAK and s.abnormal]
    assert len([s for s in told(detector, [scaled(TORN, db)]) if s.detector == BREAK and s.abnormal]) == 1


def test_the_taught_number_of_holes_is_needed_and_in_a_row() -> None:
    """Six holes teach: six learn. A hole at the old level between begins the row anew."""
    detector = BreakDetector(6)
    told(detector, [GOOD] * 8)
    quiet = scaled(GOOD, -8.0)
    assert not learned(told(detector, [quiet] * 5))
    assert not learned(told(detector, [GOOD] * 2))
    assert not learned(told(detector, [quiet] * 5))
    assert learned(told(detector, [quiet]))


@pytest.mark.parametrize("drill", [QUIET, RUB, (0.0,) * 4], ids=["like the taught ones", "rubbing", "nothing"])
@pytest.mark.parametrize("cutting", [-1.0, 1.0])
def test_a_missing_tool_is_never_learned(drill: Bands, cutting: float) -> None:
    """Whatever is left of its sound, as the idle machine is as loud as before, through more than twenty holes."""
    detector = BreakDetector(4)
    air = [[IDLE] * 100]
    for _ in range(6):
        told(detector, [AIR], 0.0)
        told(detector, [GOOD[100:500]], 1.0)
        told(detector, [BACK], 0.0)
    hole = made(drill)
    found: list[Score] = []
    for _ in range(24):
        found += told(detector, air, 0.0) + told(detector, [hole[100:500]], cutting) + told(detector, [BACK], 0.0)
    assert not learned(found)
    missing = [score for score in found if score.detector == MISSING]
    if cutting == 1.0 or drill != (0.0,) * 4:
        assert len(missing) >= 24 and all(score.abnormal for score in missing)
    back = told(detector, [GOOD, TORN])
    assert len([s for s in back if s.detector == BREAK and s.abnormal]) == 1


@pytest.mark.parametrize("db", [-8.0, -12.0])
def test_a_broken_tool_after_another_gain_is_still_missing(db: float) -> None:
    """What is learned is the sensor's part of the step; where tool and gain change at once, nothing is."""
    detector = taught()
    told(detector, [scaled(GOOD, -8.0)] * 5)
    left = made(tuple(10.0 ** (db / 10.0) * power for power in DRILL))
    found = told(detector, [scaled(left, -8.0)] * 6)
    assert len([s for s in found if s.detector == MISSING and s.abnormal]) == 6 and not learned(found)
    both = taught()
    found = told(both, [scaled(left, -8.0)] * 8)
    assert not learned(found)
    assert len([s for s in found if s.detector == MISSING and s.abnormal]) == 8


def test_a_louder_drill_in_front_of_the_same_machine_is_wear_or_another_tool() -> None:
    """Not the sensor: the advisory stays."""
    found = told(detector := taught(), [made((4.0, 2.0, 1.2, 0.4))] * 8)
    assert not learned(found)
    assert [s for s in found if s.detector == WEAR][-1].abnormal
    assert detector._template.shifted_db == 0.0


@pytest.mark.parametrize("db", [-8.0, 8.0])
def test_wear_goes_on_through_another_gain(db: float) -> None:
    """The sum stays as it was while the level is learned, which is said, and grows on by what the drill adds."""
    worn = made(tuple(10.0**0.08 * power for power in DRILL))
    before, grown = ([s for s in told(taught(), [worn] * n) if s.detector == WEAR][-1] for n in (10, 11))
    detector = taught()
    told(detector, [worn] * 10)
    *_, learns, after = [s for s in told(detector, [scaled(worn, db)] * 5) if s.detector in (WEAR, MISSING)][-3::2]
    assert 4.0 < before.value < grown.value < 16.0
    if db > 0.0:  # what is too faint for a hole says nothing of wear
        assert (
            learns.value == pytest.approx(before.value)
            and "holes at this level are not counted" in learns.reasons["text"]
        )
    assert after.value == pytest.approx(grown.value, abs=0.5)


def test_long_faint_holes_are_missed_and_their_gain_is_learned() -> None:
    """Ten times as long as what the idle level needs to follow."""
    detector = BreakDetector(4)
    long = made(DRILL, 4000)
    told(detector, [long] * 5)
    found = told(detector, [scaled(long, -10.0)] * 4)
    assert len([s for s in found if s.detector == MISSING and s.abnormal]) == 4
    assert learned(found)


@pytest.mark.parametrize("stop", [350, 950, 1700, 2500])
def test_a_restored_detector_learns_the_same_level(stop: int) -> None:
    """Through JSON, in a faint hole and between them."""
    quiet = scaled(GOOD, -8.0) * 5
    one, first = taught(), taught()
    straight = [(s.value, s.reasons) for s in told(one, [quiet])]
    head = told(first, [quiet[:stop]])
    second = BreakDetector(4)
    saved = json.dumps(first.snapshot())
    assert len(saved) < 20_000
    second.restore(json.loads(saved))
    tail = told(second, [quiet[stop:]])
    assert [(s.value, s.reasons) for s in head if s.detector != BREAK] + [
        (s.value, s.reasons) for s in tail if s.detector != BREAK
    ] == [said for said in straight if "template" in said[1]["text"] or "z" in said[1]]
    assert second.snapshot() == one.snapshot()


def test_an_older_snapshot_is_restored_and_learns_from_its_next_good_holes() -> None:
    """It names neither the idle machine of the taught holes nor the course of what is faint."""
    state = json.loads(json.dumps(taught().snapshot()))
    for key in ("advice", "floor", "faint_hole"):
        del state[key]
    for key in ("idle_db", "shifted"):
        del state["template"][key]
    state["template"]["ends"] = state["template"]["ends"][:2]
    detector = BreakDetector(4)
    detector.restore(state)
    assert not learned(told(detector, [scaled(GOOD, -8.0)] * 6))  # nothing is known to compare with
    told(detector, [GOOD] * 6)
    assert learned(told(detector, [scaled(GOOD, -8.0)] * 4))


def template_of(idle_db: float = -20.0) -> tuple[HoleTemplate, list[float]]:
    """Of four equal holes at 0 dB, and its shape."""
    template, shape = HoleTemplate(4), [-6.0] * 4
    for _ in range(4):
        template.learn(Heard(400, 400, 0.0, 0.0, [0.0] * 80, shape, [idle_db] * 4))
    return template, shape


def test_a_step_is_that_of_holes_and_idle_machine() -> None:
    """Within half of it, and 3 dB; of equal holes; and a small step is followed."""
    template, shape = template_of()

    def steps(offs: Sequence[tuple[float, float]]) -> list[Step | None]:
        level = HoleLevel(4)
        return [
            level.hear(Heard(400, 400, db, db, [db] * 80, shape, [-20.0 + idle] * 4), template) for db, idle in offs
        ]

    found = steps([(-8.0, -8.0)] * 5)
    assert [None if s is None else s.holes for s in found] == [1, 2, 3, 4, None]
    assert [s is not None and s.learned for s in found] == [False, False, False, True, False]
    assert steps([(-8.0, -4.9)] * 5) == [None] * 5
    assert steps([(-4.0, -1.9)] * 5) == [None] * 5
    assert steps([(-2.9, -2.9)] * 5) == [None] * 5
    assert not any(s is not None and s.learned for s in steps([(-8.0, -8.0), (-12.0, -12.0)] * 5))
    assert steps([(-12.0, 0.0)] * 20 + [(-20.0, -8.0)] * 4)[-1] == Step(-8.0, 4, 4)  # behind the tool's step


def test_what_cannot_be_told_from_the_idle_machine_is_never_the_same() -> None:
    """Two bands of four, or two bands at all: their shape says nothing."""
    template, shape = template_of()
    assert template.same(Heard(400, 400, -8.0, -8.0, [], shape, [-28.0] * 4))
    assert not template.same(Heard(400, 400, -8.0, -8.0, [], shape, [-28.0, -28.0, -8.0, -8.0]))
    assert not template.same(Heard(400, 400, -8.0, -8.0, [], [-9.0, -6.0, -9.0, -1.0], [-28.0] * 4))
    assert not template.same(Heard(300, 300, -8.0, -8.0, [], shape, [-28.0] * 4))
    narrow = HoleTemplate(4)
    for _ in range(4):
        narrow.learn(Heard(400, 400, 0.0, 0.0, [0.0] * 80, [-3.0] * 2, [-20.0] * 2))
    assert not narrow.same(Heard(400, 400, 0.0, 0.0, [0.0] * 80, [-3.0] * 2, [-20.0] * 2))


def test_the_floor_is_the_lowest_idle_level_of_a_second() -> None:
    """By band; an entry within it does not count, and after a second the lowest is forgotten."""
    floor = IdleFloor()
    assert floor.level == []
    for k in range(150):
        floor.hear([1.0 if k < 10 else 5.0, 2.0])
    assert floor.level == [1.0, 2.0]
    again = IdleFloor()
    again.restore(json.loads(json.dumps(floor.snapshot())))
    for _ in range(200):
        again.hear([5.0, 3.0])
    assert again.level == [5.0, 3.0]
    again.forget()
    assert again.level == []
