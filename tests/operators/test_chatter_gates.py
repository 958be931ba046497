"""Which hops of a cut count for chatter, what is learned from the others, and what ends a doubt."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest

from operators.chatter import CHATTER, DOUBTS
from operators.chatter_detector import ChatterDetector
from pipeline.messages import NS, Feature, Score
from tests.operators.test_chatter import CLEAR, scores, told

LOUD = {"tonal": 0.9, "pair_db": 20.0}


class Rig:
    """A detector of three teeth, hop by hop."""

    def __init__(self, **more: float) -> None:
        self.detector = ChatterDetector(3, 20_000, **more)  # type: ignore[arg-type]
        self._at = count()

    def hear(self, hops: int = 1, **values: float) -> list[Score]:
        """The scores of so many equal hops."""
        return scores(self.detector, [told(t=0.01 * next(self._at), **values) for _ in range(hops)])

    def stand(self, doubt: str = "zero", **values: float) -> Score:
        """The score of a hop without a usable speed."""
        feature = Feature(
            "m", ("s",), CHATTER, round(0.01 * next(self._at) * NS), {"doubt": float(DOUBTS.index(doubt)), **values},
            complete=False,
        )  # fmt: skip
        (score,) = scores(self.detector, [feature])
        return score


def abnormal(found: list[Score]) -> list[bool]:
    """Whether each is over its threshold."""
    return [score.abnormal for score in found]


def test_counting_starts_anew_at_another_speed() -> None:
    """Two hops of one speed and one of the next are no three in a row; 1 % apart is the same speed."""
    for rpm, expected in ((12_000.0, [False, False, True]), (9020.0, [True] * 3)):
        rig = Rig()
        rig.hear(2, **LOUD | CLEAR | {"tonal": 0.9, "side_db": 0.0})
        found = rig.hear(3, **LOUD | CLEAR | {"tonal": 0.9, "rpm": rpm, "side_db": 0.0})
        assert abnormal(found) == expected


def test_surprising_lines_are_not_judged_before_a_long_window_was_looked_at() -> None:
    """They may be those of another speed; a long window that does not contradict ends the doubt."""
    rig = Rig()
    rig.hear(1, **LOUD | CLEAR)
    assert not any(abnormal(rig.hear(1, **LOUD, surprise=5.0)))
    assert not any(abnormal(rig.hear(10, **LOUD)))
    assert rig.hear(1, **LOUD | CLEAR | {"tonal": 0.9})[0].abnormal
    rig = Rig()
    rig.hear(1, **LOUD | CLEAR)
    assert not any(abnormal(rig.hear(30, **LOUD, surprise=4.9)))  # none of such lines counts
    assert abnormal(rig.hear(3, **LOUD)) == [False, False, True]  # but there is no doubt behind them


def test_a_contradiction_ends_within_half_a_second() -> None:
    """However long it lasted; meanwhile the speed that was heard last is said, and air is air."""
    rig = Rig()
    rig.hear(400, **LOUD | CLEAR | {"contradicts_rpm": 9300.0})
    (score,) = rig.hear(1, **LOUD | CLEAR)
    assert not score.complete and score.reasons["heard_rpm"] == 9300.0
    (air,) = rig.hear(1, cutting=0.0)
    assert air.complete and air.reasons["text"] == "no cutting"
    found = rig.hear(10, **LOUD | CLEAR | {"tonal": 0.9})
    assert found[-1].complete and found[-1].abnormal
    assert [score.complete for score in found].index(True) == 3  # eight windows against, four of them gone


def test_a_contradiction_survives_a_restart() -> None:
    """What was not judged before is not judged behind it."""
    rig, again = Rig(), Rig()
    rig.hear(8, **LOUD | CLEAR | {"contradicts_rpm": 9300.0})
    again.detector.restore(orjson.loads(orjson.dumps(rig.detector.snapshot())))
    for one in (rig, again):
        (score,) = one.hear(1, **LOUD)
        assert not score.complete and score.reasons["heard_rpm"] == 9300.0


def test_a_second_of_lines_that_nothing_explains_is_said() -> None:
    """Neither the told speed nor chatter: it may be another machine. Chatter itself may last as long as it likes."""
    rig = Rig()
    found = rig.hear(130, tonal=0.9, surprise=1.0)
    assert [score.complete for score in found] == [True] * 99 + [False] * 31
    assert found[-1].reasons["speed"] == "unexplained" and found[-1].reasons["line_hz"] == 930.0
    rig = Rig()
    rig.hear(1, **LOUD | CLEAR)
    assert all(score.complete and score.abnormal for score in rig.hear(300, **LOUD)[2:])


def test_only_stable_cutting_makes_a_baseline() -> None:
    """Neither chatter nor air does: the threshold is that of a speed of which nothing is known."""
    rig = Rig()
    rig.hear(1, **CLEAR | {"tonal": 0.7})
    assert rig.hear(500, tonal=0.7)[-1].abnormal
    assert rig.hear(1, tonal=0.0)[0].threshold == 0.65
    rig = Rig()
    rig.hear(500, tonal=0.02, cutting=0.0)
    assert rig.hear(1, tonal=0.0)[0].threshold == 0.65
    assert rig.hear(500, tonal=0.02)[-1].threshold == 0.4
    rig = Rig()
    for _ in range(10):  # tones that are too short to count, and next to all that is heard
        rig.hear(30, tonal=0.8, pair_db=0.0)
        (score,) = rig.hear(1)
    assert score.threshold == 0.65


def test_the_line_of_another_speed_is_not_told() -> None:
    """It is the present one's that the machinist is to act on."""
    rig = Rig()
    (score,) = rig.hear(1, **CLEAR | {"long_line_hz": 500.0})
    assert score.reasons["line_hz"] == 500.0
    (score,) = rig.hear(1, rpm=12_000.0, line_hz=777.0)
    assert score.reasons["line_hz"] == 777.0


def test_lines_of_the_idle_machine_do_not_count() -> None:
    """A drive's tone: only four times its power is new; what the cut itself adds is not taken for the drive's."""
    for over_db, expected in ((5.0, False), (8.0, True)):
        rig = Rig()
        rig.hear(200, cutting=0.0, tonal=0.9, level_db=-30.0)
        rig.hear(1, **LOUD | CLEAR | {"tonal": 0.9, "level_db": -30.0 + over_db})
        rig.hear(200, tonal=0.3, level_db=-10.0)
        assert any(abnormal(rig.hear(5, **LOUD | CLEAR | {"tonal": 0.9, "level_db": -30.0 + over_db}))) == expected


def test_neighbours_count_where_the_long_window_has_seen_them() -> None:
    """A rotation away as well as a tooth passing away; very clear ones need no long window."""
    for near, seen, expected in (
        ({"pair_db": 9.0}, 9.0, True),
        ({"pair_db": 8.9}, 9.0, False),
        ({"pair_db": 0.0, "side_db": 11.0}, 9.0, True),
        ({"pair_db": 0.0, "side_db": 10.9}, 9.0, False),
        ({"pair_db": 9.0}, 8.9, False),
        ({"pair_db": 0.0, "side_db": 11.0}, 8.9, False),
        ({"pair_db": 20.0}, 8.9, True),
    ):
        rig = Rig()
        strong = {"long_pair_db": seen, "long_side_db": 0.0, "coherent": 0.99, "forced_db": 20.0, "residual": 9.0}
        rig.hear(1, **CLEAR | strong | {"tonal": 0.0})
        assert rig.hear(3, tonal=0.9, **near)[-1].abnormal == expected, (near, seen)


def test_nobody_tells_the_state() -> None:
    """6 dB over the idle level is a cut; 2 dB where nearly all is tonal, as of a recorder that levels its gain."""
    for level_db, tonal, cutting in ((-54.1, 0.5, False), (-54.0, 0.5, True), (-58.1, 0.8, False), (-58.0, 0.8, True)):
        rig = Rig()
        rig.hear(100, cutting=-1.0, level_db=-60.0)
        rig.hear(1, cutting=-1.0, level_db=-50.0)
        (score,) = rig.hear(1, cutting=-1.0, level_db=level_db, tonal=tonal)
        assert score.reasons["cutting"] == cutting, (level_db, tonal)


def test_the_idle_machine_is_heard_once_it_is_6_db_quieter() -> None:
    """Until then loud tones may be those of a cut that was under way before anybody listened."""
    for level_db, heard in ((-25.9, False), (-26.0, True)):
        rig = Rig()
        rig.hear(10, cutting=-1.0, level_db=-20.0)
        (score,) = rig.hear(1, cutting=-1.0, level_db=level_db, tonal=0.5)
        assert score.complete == heard


@pytest.mark.parametrize(
    ("values", "stands"),
    [
        ({"level_db": -58.0, "cutting": -1.0}, True),
        ({"level_db": -40.0, "cutting": -1.0}, False),  # a dead tachometer says 0, too
        ({"level_db": -40.0, "cutting": 0.0}, True),
        ({"level_db": -58.0, "cutting": 1.0}, False),
        ({}, False),
    ],
)
def test_a_spindle_that_is_said_to_stand_is_believed_where_it_sounds_so(values: dict[str, Any], stands: bool) -> None:
    """Else nobody knows its speed, and that is said."""
    rig = Rig()
    rig.hear(100, cutting=-1.0, level_db=-60.0)
    score = rig.stand(**values)
    assert score.complete == stands and not score.abnormal
    assert ("the spindle stands" in score.reasons["text"]) == stands
    assert rig.stand("stale", level_db=-58.0, cutting=-1.0).reasons["speed"] == "stale"


def test_a_gap_starts_the_on_delay_anew() -> None:
    """Nobody knows what was between; what the line was before says nothing of what it is."""
    rig = Rig(on_delay_s=0.2)
    rig.hear(1, **LOUD | CLEAR)
    assert rig.hear(40, **LOUD)[-1].abnormal
    rig.stand("stale")
    rig.hear(1, **LOUD | CLEAR)
    assert abnormal(rig.hear(30, **LOUD)).index(True) == 20
    steady = Rig(on_delay_s=0.2)
    steady.hear(1, **LOUD | CLEAR | {"wavering": 1.0})
    assert steady.hear(3, **LOUD)[-1].abnormal
    steady.stand("stale")
    assert not any(abnormal(steady.hear(15, **LOUD)))


def test_what_is_said_beside_a_line() -> None:
    """A clipping sensor makes lines of its own; at half the tooth passing an odd tool may flip."""
    for values, words in (
        ({"clipped": 0.0011}, "the sensor clips"),
        ({"line_hz": 675.0}, "flip chatter, or a told speed of twice the true one"),
    ):
        plain, odd = (Rig().hear(1, **more)[0].reasons["text"] for more in ({}, values))
        assert words in odd and words not in plain


def test_chatter_is_no_lost_tooth() -> None:
    """It raises the lines of the single revolution, too; the same rise in a stable cut is told."""
    calm = CLEAR | {"coherent": 0.06, "long_pair_db": 0.0, "tonal": 0.0}
    for values, expected in ((LOUD | CLEAR | {"side_db": 20.0}, False), (calm, True)):
        detector = ChatterDetector(3, 20_000)
        hops = [told(t=0.05 * k, **calm) for k in range(400)]
        hops += [told(t=20.0 + 0.05 * k, **values | {"turn_db": 0.0}) for k in range(200)]
        found = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.detector != "chatter"]
        assert any(score.abnormal for score in found) == expected


def test_the_share_is_that_of_the_windows_that_lead() -> None:
    """Of four windows where they alone speak for chatter, else of the short one."""
    (score,) = Rig().hear(1, **CLEAR | {"tonal": 0.1})
    assert "80 % of the energy over four windows in such lines" in score.reasons["text"]
    (score,) = Rig().hear(1, tonal=0.1)
    assert "10 % of the energy in such lines" in score.reasons["text"]
