"""What alarms hear of the drill detector while it is taught, and taught anew."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from operators.breakage_detector import BREAK, MISSING, WEAR, BreakDetector
from operators.breakage_reasons import UNTOLD
from pipeline import stages
from pipeline.messages import Alarm, Score
from pipeline.stages import LaneSettings
from pipeline.stages_physics import Raise
from tests.engines.scenarios import machine, stream
from tests.operators.test_breakage import AIR, GOOD, broken, frames

SHALLOW, LONG = [*AIR, *[1.0] * 240, *AIR], [*AIR, *[1.0] * 700, *AIR]
WORN = [*AIR, *[2.0] * 400, *AIR]
FAINT = [*AIR, *[0.05] * 400, *AIR]


class Listener:
    """The detector and its alarms, as a lane has them; frames are five milliseconds apart from the first on."""

    def __init__(self) -> None:
        waits = {"clear_after_s": 60.0}  # longer than any test: what ends before, ends for another reason
        settings = LaneSettings(machine(stream("mic", "acoustic", 48_000), drill={}, persistence=waits))
        self._detector, self._frames = BreakDetector(4), 0
        self._raise = {name: Raise(settings) for name in (BREAK, MISSING, WEAR)}
        self.scores: list[Score] = []
        self.alarms: list[tuple[str, str, str]] = []

    def hear(self, holes: Sequence[Sequence[float]]) -> None:
        """Holes one after the other."""
        for frame in frames([level for hole in holes for level in hole], self._frames):
            self._frames += 1
            for score in self._detector.process(frame):
                assert isinstance(score, Score)
                self.scores.append(score)
                told = [alarm for alarm in self._raise[score.detector].process(score) if isinstance(alarm, Alarm)]
                self.alarms += [(alarm.detector, alarm.transition, alarm.text) for alarm in told]

    def transitions(self, detector: str) -> list[str]:
        """Of its alarms."""
        return [transition for name, transition, _ in self.alarms if name == detector]


def test_nothing_is_complete_before_the_program_is_taught() -> None:
    """Nor the end of a hole: a gauge shows no 0 of what was not judged."""
    heard = Listener()
    heard.hear([GOOD] * 3)
    assert len([s for s in heard.scores if s.reasons["text"] == "end of a whole hole"]) == 3
    assert not any(score.complete for score in heard.scores)
    heard.hear([[*AIR, *[1.0] * 30, *AIR]])
    assert not any(score.complete for score in heard.scores)
    heard.hear([GOOD] * 2)
    ends = [s for s in heard.scores if s.reasons["text"] == "end of a whole hole"]
    assert [s.complete for s in ends] == [False] * 4 + [True]
    assert heard.alarms == []


def test_the_reason_is_the_one_that_the_pipeline_reads() -> None:
    """Operators import nothing of the pipeline but its messages."""
    assert UNTOLD == stages.UNTOLD


@pytest.mark.parametrize("program", [SHALLOW, LONG], ids=["shorter", "longer"])
@pytest.mark.parametrize(
    ("before", "detector"),
    [([broken(200)], BREAK), ([FAINT] * 2, MISSING), ([WORN] * 3, WEAR)],
    ids=["break", "missing", "wear"],
)
def test_alarms_end_where_another_program_is_learned(
    before: list[list[float]], detector: str, program: list[float]
) -> None:
    """None can be judged until it is; a break of the new program is then an alarm again."""
    heard = Listener()
    heard.hear([GOOD] * 6)
    heard.hear(before)
    assert heard.transitions(detector) == ["raised"]
    heard.hear([program] * 3)
    assert [heard.transitions(name).count("raised") for name in (BREAK, MISSING, WEAR)] == [
        heard.transitions(name).count("cleared") for name in (BREAK, MISSING, WEAR)
    ]
    if detector != MISSING:  # the first hole of a longer program clears that one
        assert any("is no longer judged" in text and "learned anew" in text for _, _, text in heard.alarms)
    heard.hear([program] * 4)
    assert heard.scores[-1].complete
    raised = heard.transitions(BREAK).count("raised")
    heard.hear([broken(100)])
    assert heard.transitions(BREAK).count("raised") == raised + 1


def test_an_alarm_of_an_earlier_detector_ends_with_the_first_word_of_a_new_one() -> None:
    """As after a change of the sensor's rate, with which it is taught anew."""
    heard = Listener()
    heard.hear([GOOD] * 6)
    heard.hear([broken(200)])
    heard._detector = BreakDetector(4)
    heard.hear([AIR * 3])
    assert heard.transitions(BREAK) == ["raised", "cleared"]


def test_coolant_between_holes_of_a_missing_tool_makes_no_other_program() -> None:
    """Holes too faint to be whole ones are of the taught length: the alarm stands, and nothing is learned anew."""
    heard = Listener()
    coolant = [*AIR, *[0.6] * 7000, *AIR, *AIR]
    heard.hear([GOOD] * 5)
    heard.hear([FAINT, coolant] * 3)
    assert heard.transitions(MISSING) == ["raised"]
    assert not any(score.reasons.get(UNTOLD) for score in heard.scores[-50:])
