"""What the physics detectors say to input that they cannot trust: never a false alarm, never silence."""

from __future__ import annotations

import numpy as np
import pytest

from operators.breakage_detector import BREAK, MISSING, BreakDetector
from operators.chatter import CHATTER, ChatterFeatures
from operators.chatter_detector import ChatterDetector
from operators.chatter_lines import band_power, power
from operators.chatter_plan import plan
from operators.spindle import GivenSpeed, Reading
from pipeline.messages import NS, Anchor, Feature, Float32, Rate, Score, Segment, Stream
from tests.operators.test_breakage import AIR, GOOD, abnormal, broken, frames, program
from tests.operators.told import ToldSpeed

RATE, RPM, TEETH = 16_000, 9000.0, 3
MIC = Stream("m", "mic", 0, "acoustic", Rate(RATE), 1, "<f4", "FS")
ANCHOR = Anchor(0, 10 * NS)


def cut(seconds: float, rpm: float, teeth: int, level: float, seed: int = 0) -> np.ndarray:
    """A stable cut: multiples of the tooth passing and a little runout."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = 1e-3 * np.random.default_rng(seed).standard_normal(len(t))
    for k in range(1, 8):
        x += level / k * np.sin(2 * np.pi * k * teeth * rpm / 60 * t + k)
        x += 0.05 * level / k * np.sin(2 * np.pi * k * rpm / 60 * t + 2 * k)
    return x


def heard(x: np.ndarray, rpm: float = RPM, teeth: int = TEETH) -> list[Score]:
    """Scores of a second of air and then x."""
    whole = np.concatenate([1e-3 * np.random.default_rng(9).standard_normal(RATE), x])
    samples: Float32 = whole.astype(np.float32)[:, None]
    features, detector = ChatterFeatures(MIC, GivenSpeed(rpm), teeth, rpm), ChatterDetector(teeth, 2 * rpm)
    hops = features.process(Segment(MIC, ANCHOR, 0, samples))
    return [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.detector == "chatter"]


def test_a_clipping_sensor_is_said_and_is_no_chatter() -> None:
    """Clipping makes more multiples of the rotation, nothing between them."""
    found = heard(np.clip(cut(2.0, RPM, TEETH, 1.5), -1.0, 1.0))
    assert not any(s.abnormal for s in found)
    assert "the sensor clips" in found[-1].reasons["text"]


def test_another_machine_in_the_microphone_is_no_chatter() -> None:
    """Its lines lie between ours, but its neighbours are not a tooth passing of ours away."""
    ours = cut(2.0, RPM, TEETH, 0.2)
    assert not any(s.abnormal for s in heard(ours + cut(2.0, 7321.0, 4, 0.1, 1)))


@pytest.mark.parametrize("factor", [1.02, 0.97, 1.08])
def test_a_wrong_speed_is_unverified(factor: float) -> None:
    """The cut's lines contradict it: both speeds are said, nothing is judged."""
    found = heard(cut(2.0, RPM, TEETH, 0.2), factor * RPM)
    assert not any(s.abnormal for s in found)
    assert not found[-1].complete
    assert found[-1].reasons["speed"] == "mismatch"
    assert found[-1].reasons["heard_rpm"] == pytest.approx(RPM, rel=0.005)


@pytest.mark.parametrize("factor", [0.4, 0.7, 0.8, 0.88, 1.12, 1.25, 1.4, 1.7, 1.9])
def test_a_speed_far_from_the_true_one_is_unverified(factor: float) -> None:
    """As when the program was changed and the configuration was not: no false alarm, from the first hop on."""
    found = heard(cut(2.0, RPM, TEETH, 0.2), factor * RPM)
    assert not any(s.abnormal for s in found)
    assert not found[-1].complete
    assert found[-1].reasons["speed"] == "mismatch"
    assert found[-1].reasons["heard_rpm"] == pytest.approx(RPM, rel=0.005)


def test_lines_that_nothing_explains_are_unverified() -> None:
    """Tones of the hall without a pattern, as loud as the cut: no chatter, but no clean bill of health either."""
    t = np.arange(4 * RATE) / RATE
    tones = sum(0.1 * np.sin(2 * np.pi * f * t) for f in (517.0, 1193.0, 1731.0, 2677.0))
    found = heard(cut(4.0, RPM, TEETH, 0.05) + tones)
    assert not any(s.abnormal for s in found)
    assert found[-1].reasons.get("speed") == "unexplained"
    assert "neither 9,000 rpm nor chatter explains" in found[-1].reasons["text"]


def test_a_speed_wrong_by_a_harmonic_is_said() -> None:
    """Half the true speed has all true lines as multiples; twice of it looks like flip chatter, and that is said."""
    assert not any(s.abnormal for s in heard(cut(2.0, RPM, TEETH, 0.2), RPM / 2))
    raised = [s.reasons["text"] for s in heard(cut(2.0, RPM, TEETH, 0.2), 2 * RPM) if s.abnormal]
    assert raised
    assert all("told speed of twice the true one" in text or "check the told speed" in text for text in raised)


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_a_speed_told_too_high_by_a_half_or_thrice_is_unverified(times: float) -> None:
    """A tool of two teeth that runs out: the lines say so, and none of them is taken for chatter."""
    t = np.arange(2 * RATE) / RATE
    turn = sum((1.0 if k % 2 == 0 else 0.2) / k * np.sin(2 * np.pi * k * RPM / 60 * t + k) for k in range(1, 13))
    found = heard(0.1 * turn + 1e-3 * np.random.default_rng(4).standard_normal(len(t)), times * RPM, 2)
    assert not any(s.abnormal for s in found)
    assert not found[-1].complete
    assert found[-1].reasons["speed"] == "mismatch"


@pytest.mark.parametrize("teeth", [1, 2])
def test_chatter_at_a_third_of_the_rotation_is_told(teeth: int) -> None:
    """It is a multiple of a third of the tooth passing, as a whole cut under a third of the told speed would be."""
    t = np.arange(2 * RATE) / RATE
    x = 1e-3 * np.random.default_rng(4).standard_normal(len(t))
    for j in range(-2, 3):
        x += 0.1 * 10.0 ** (-0.5 * abs(j)) * np.sin(2 * np.pi * (28 / 3 + teeth * j) * RPM / 60 * t + j)
    x += 0.03 * np.sin(2 * np.pi * teeth * RPM / 60 * t)
    found = heard(x, RPM, teeth)
    assert found[-1].abnormal
    assert sum(s.abnormal for s in found) > 150
    assert "check the told speed" in found[-1].reasons["text"]


@pytest.mark.parametrize(("place", "spoken"), [(28 / 3, False), (9.42, True)])
def test_a_line_of_which_nothing_is_said_yet_is_not_learned_as_stable(place: float, spoken: bool) -> None:
    """Neither way teaches: a line at a third waits for four long windows, one elsewhere is told at once."""
    detector = ChatterDetector(TEETH, 2 * RPM)
    v = dict.fromkeys(
        ("er", "surprise", "clipped", "contradicts_rpm", "forced_db", "tooth_db", "half_tooth_db", "turn_db", "opr"),
        0.0,
    )
    v |= {"rpm": RPM, "tonal": 0.7, "coherent": 0.7, "long_tonal": 0.7, "residual": 10.0, "cutting": 1.0}
    v |= dict.fromkeys(("level_db", "line_db", "pair_db", "side_db", "long_pair_db", "long_side_db"), 40.0)
    v |= {"line_hz": place * RPM / 60, "long_line_hz": place * RPM / 60, "wavering": 1.0, "long_line_db": 40.0}
    said: list[Score] = []
    slow = {"long_tonal", "contradicts_rpm", "turn_db"}  # one long window is looked at, of the four that it takes
    for k in range(5):
        seen = v if k == 0 else {name: x for name, x in v.items() if name not in slow}
        hop = Feature("m", ("s",), CHATTER, (1 + k) * 10_000_000, seen)
        said += [s for s in detector.process(hop) if isinstance(s, Score) and s.detector == "chatter"]
    assert said[-1].abnormal is spoken
    assert detector._points.snapshot() == {"points": [], "good": []}


@pytest.mark.parametrize(("told", "says"), [(1.5, True), (3.0, True), (2.0 / 3.0, True), (1.0, False)])
def test_an_alarm_by_a_speed_that_is_wrong_by_a_ratio_says_so(told: float, says: bool) -> None:
    """Lines of runout lie between the told rotation's multiples; a chatter line elsewhere is not suspected."""
    detector = ChatterDetector(TEETH, 2 * RPM)
    line = (7 if says else 7.4) * RPM / 60
    speeds = [detector._text({"rpm": told * RPM, "tonal": 0.5, "clipped": 0.0}, line, 0.2, [], cutting=True)]
    assert ("check the told speed" in speeds[0]) is says


@pytest.mark.parametrize(
    "reading",
    [
        Reading(0.0, "missing"),
        Reading(0.0, "zero"),
        Reading(1.2 * RPM, "changing"),
        Reading(0.0, "stale"),
    ],
)
def test_an_unusable_speed_is_unverified(reading: Reading) -> None:
    """Missing, zero, jumping, stale: no score is complete, and each says why."""
    speed = ToldSpeed([(0, reading)])
    features, detector = ChatterFeatures(MIC, speed, TEETH, RPM), ChatterDetector(TEETH, 2 * RPM)
    x = cut(2.5, RPM, TEETH, 0.2).astype(np.float32)[:, None]
    hops = [*features.process(Segment(MIC, ANCHOR, 0, x)), *features.flush()]
    found = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score)]
    assert found
    assert not found[-1].complete
    assert found[-1].reasons["speed"] == reading.doubt
    assert "unverified" in found[-1].reasons["text"]


def test_a_spindle_that_stands_is_not_chattering() -> None:
    """Said to stand, and as quiet as the idle machine: judged as no cutting, so that an alarm may clear."""
    speed = ToldSpeed([(0, Reading(RPM)), (ANCHOR.t_ns + 3 * NS, Reading(0.0, "zero"))])
    features, detector = ChatterFeatures(MIC, speed, TEETH, RPM), ChatterDetector(TEETH, 2 * RPM)
    air = 1e-3 * np.random.default_rng(9).standard_normal((2, RATE))
    x = np.concatenate([air[0], cut(2.0, RPM, TEETH, 0.2), 0.5 * air[1], cut(1.0, RPM, TEETH, 0.2)])
    hops = [*features.process(Segment(MIC, ANCHOR, 0, x.astype(np.float32)[:, None])), *features.flush()]
    found = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.detector == "chatter"]
    at_s = {round((s.t_end_ns - ANCHOR.t_ns) / NS, 2): s for s in found}
    assert at_s[2.0].complete and at_s[2.0].reasons["cutting"]
    assert at_s[3.5].complete and "stands" in at_s[3.5].reasons["text"] and at_s[3.5].value == 0.0
    assert not at_s[4.9].complete and "unverified" in at_s[4.9].reasons["text"]  # it cuts: the tachometer is dead


def test_the_level_needs_no_speed() -> None:
    """A sine of amplitude A within the band has A²/2, as in `power`, whatever the speed."""
    t = np.arange(4800) / 48_000
    x = np.stack([0.3 * np.sin(2 * np.pi * 1000 * t), 0.4 * np.sin(2 * np.pi * 50 * t)], axis=1).astype(np.float32)
    assert band_power(x, 48_000) == pytest.approx(0.3**2 / 2, rel=0.01)
    made = plan(48_000, 9000, 3, 0.1)
    assert band_power(x, 48_000) == pytest.approx(float(power(x, made).sum()), rel=0.01)


# drills ------------------------------------------------------------------------------------------------------------

SHORT = [*AIR, *[1.0] * 250, *AIR]
LONG = [*AIR, *[1.0] * 700, *AIR]


def taught() -> BreakDetector:
    """A detector that has learned a program of holes of 400 frames."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    return detector


def test_a_hole_cut_short_is_said_to_be_one_or_a_break() -> None:
    """Without a burst the two cannot be told apart; the next whole holes are left alone."""
    detector = taught()
    (found,) = abnormal(program(detector, [SHORT]))
    assert "a broken drill, or a hole cut short" in found.reasons["text"]
    assert not abnormal(program(detector, [GOOD] * 3))


def test_a_shorter_program_is_one_alarm_at_most_and_then_learned() -> None:
    """The second hole that ends at the same place without a burst is another program."""
    detector = taught()
    found = program(detector, [SHORT] * 6)
    assert len(abnormal(found)) == 1
    texts = [s.reasons["text"] for s in found if s.detector == BREAK]
    assert any("another program, learned anew" in text for text in texts)
    assert any("not commissioned" in text for text in texts)
    assert abnormal(program(detector, [[*AIR, *[1.0] * 120, *[0.03] * 130, *AIR]]))


def test_a_longer_program_is_said_and_then_learned() -> None:
    """Unlike the template; after some of its holes a break late in them is found."""
    detector = taught()
    found = program(detector, [LONG] * 6)
    assert not abnormal(found)
    assert any("another program?" in s.reasons["text"] for s in found if s.detector == MISSING)
    assert abnormal(program(detector, [[*AIR, *[1.0] * 500, *[0.03] * 200, *AIR]]))


@pytest.mark.parametrize("db", [-4.0, 4.0])
def test_a_tool_change_without_notice_is_no_break(db: float) -> None:
    """A quieter or louder bit changes the level of all holes alike; its own break is found."""
    level = 10 ** (db / 10)
    detector = taught()
    assert not abnormal(program(detector, [[*AIR, *[level] * 400, *AIR]] * 4))
    assert abnormal(program(detector, [[*AIR, *[level] * 200, *[0.03 * level] * 200, *AIR]]))


def test_two_breaks_at_different_places_are_two() -> None:
    """Only the same place twice speaks of another program."""
    detector = taught()
    assert len(abnormal(program(detector, [broken(150), GOOD, broken(250)]))) == 2


def test_frames_of_a_standing_machine_are_not_judged() -> None:
    """The operating state says so."""
    detector = taught()
    made = frames([*AIR, *[1.0] * 200, *[0.01] * 200], cutting=0.0)
    assert not abnormal([s for f in made for s in detector.process(f) if isinstance(s, Score)])
