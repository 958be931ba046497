"""What the alarm of a broken drill says to do, and where nothing is to be done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from models.drill.live import LearnedBreak, Rule
from operators.breakage_detector import BREAK, BreakDetector
from pipeline.messages import Feature, Score
from tests.models.drill.test_live import BROKEN, FRACTURE, heard, taught
from tests.operators.test_breakage import GOOD, frames

TO_DO = "; stop and look at the drill and the hole"


def texts(detector: LearnedBreak | BreakDetector, made: Sequence[Feature]) -> list[tuple[bool, str]]:
    """Of each score of a break: whether it is above its threshold, and its words."""
    scores = [s for f in made for s in detector.process(f)]
    return [(s.abnormal, s.reasons["text"]) for s in scores if isinstance(s, Score) and s.detector == BREAK]


def test_a_break_says_what_to_do() -> None:
    """In its last words; what is no break asks for nothing."""
    detector = BreakDetector(4)
    before = [told for _ in range(5) for told in texts(detector, frames(GOOD))]
    found = texts(detector, frames(BROKEN))
    assert not any(abnormal or "look at" in text for abnormal, text in before)
    assert [text.endswith(TO_DO) for abnormal, text in found if abnormal] == [True]
    assert not any("look at" in text for abnormal, text in found if not abnormal)


@pytest.mark.parametrize(("rule", "told"), [("both", False), ("either", True), ("advisory", True)])
def test_a_loss_that_the_classifier_does_not_confirm_asks_for_nothing(rule: Rule, told: bool) -> None:
    """The score is below its threshold, and so says why without the advice."""
    found = texts(taught(rule), heard(BROKEN, None))
    assert [abnormal for abnormal, text in found if text.endswith(TO_DO)] == ([True] if told else [])
    assert any(text.startswith("not taken for a break") for _, text in found) is not told


def test_a_fracture_that_the_classifier_alone_heard_says_what_to_do() -> None:
    """Under the rule by which it stops the machine itself."""
    [text] = [text for abnormal, text in texts(taught("either"), heard(GOOD, FRACTURE)) if abnormal]
    assert text.startswith("drill broken: the classifier heard a fracture") and text.endswith(TO_DO)
