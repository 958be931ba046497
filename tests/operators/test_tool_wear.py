"""Wear bit by bit: the sum of a constant excess in closed form, another bit, the same bit, a stump."""

from __future__ import annotations

import json

import numpy as np
import pytest

from operators.hole_advice import HoleAdvice
from operators.hole_level import HoleLevel
from operators.tool_wear import ALLOWANCE, FRESH, LIMIT, ToolWear, Wear

STD = 0.5


def heard(wear: ToolWear, *z: float) -> list[Wear]:
    """What it says of holes so many standard deviations above the taught level."""
    return [wear.hear(one * STD, STD) for one in z]


def test_a_constant_excess_adds_up() -> None:
    """n (z - 0.5), at most twice the limit; good holes add nothing."""
    assert [w.total for w in heard(ToolWear(), 0.0, -3.0, ALLOWANCE)] == [0.0, 0.0, 0.0]
    wear = ToolWear()
    assert [w.total for w in heard(wear, *[2.0] * 12)] == pytest.approx(np.minimum(1.5 * np.arange(1, 13), 2 * LIMIT))


def test_another_bit_after_a_break_begins_anew() -> None:
    """Its first three holes tell its level, against which wear counts from then on."""
    wear = ToolWear()
    heard(wear, *[4.0] * 5)
    wear.suspect()
    first = heard(wear, 1.0, 1.2, 0.8)
    assert [(w.fresh, w.another) for w in first] == [(1, False), (2, False), (FRESH, True)]
    assert [w.total for w in first] == [LIMIT, LIMIT, 0.0]  # the alarm is over with the first hole
    assert [w.total for w in heard(wear, *[1.0] * 20)] == [0.0] * 20  # louder than taught, as it always was
    assert heard(wear, *[5.0] * 3)[-1].total > LIMIT


def test_another_bit_is_noticed_without_a_break() -> None:
    """The level falls at once where wear had been heard."""
    wear = ToolWear()
    heard(wear, 1.0, 2.0, 3.0, 4.0, 5.0)
    last = heard(wear, 0.0, 0.3, -0.2)[-1]
    assert (last.total, last.fresh, last.another) == (0.0, FRESH, True)


def test_the_same_bit_goes_on() -> None:
    """A hole that was cut short looks like a break; three holes that sound as before lose nothing."""
    wear, undisturbed = ToolWear(), ToolWear()
    for one in (wear, undisturbed):
        heard(one, *[2.0] * 3)
    wear.suspect()
    last = heard(wear, 2.0, 2.1, 1.9)[-1]
    assert (last.fresh, last.another) == (FRESH, False)
    assert last.total == pytest.approx(heard(undisturbed, 2.0, 2.1, 1.9)[-1].total)


def test_holes_that_differ_more_than_the_taught_ones_are_no_wear() -> None:
    """The moving range tells their standard deviation, here three times the taught one."""
    wear = ToolWear()
    found = heard(wear, *np.random.default_rng(3).normal(0.0, 3.0, 400).tolist())
    z = np.array([w.z for w in found[20:] if not w.fresh])
    assert 0.8 < np.std(z) < 1.2
    assert sum(w.total > LIMIT for w in found) < 40


def test_a_stump_that_rubs_is_no_bit_to_learn() -> None:
    """However many holes it is driven into."""
    wear = ToolWear()
    heard(wear, *[3.0] * 3)
    wear.suspect()
    assert all(w.fresh == 0 for w in heard(wear, *[-12.0] * 5))
    assert [w.fresh for w in heard(wear, 0.0, 0.0, 0.0)] == [1, 2, 3]


def test_a_snapshot_goes_on_anywhere() -> None:
    """Whatever it heard, a restored one says the same."""
    z = np.random.default_rng(1).normal(1.0, 2.0, 60).tolist()
    straight, wear = ToolWear(), ToolWear()
    for k, one in enumerate(z):
        if k % 17 == 9:
            straight.suspect()
            wear.suspect()
        kept = json.loads(json.dumps(wear.snapshot()))
        wear = ToolWear()
        wear.restore(kept)
        assert heard(wear, one) == heard(straight, one)


def test_a_sum_of_an_earlier_version_goes_on() -> None:
    """Snapshots had it alone, or with the level and the sum at the usual level."""
    for kept in (None, [HoleLevel(4).snapshot(), 2.0]):
        advice = HoleAdvice(4)
        advice.restore(3.0, kept)
        assert advice.wear == 3.0
        again = HoleAdvice(4)
        again.restore(advice.wear, advice.snapshot())
        assert again.snapshot() == advice.snapshot()
