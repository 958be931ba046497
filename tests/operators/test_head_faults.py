"""The head detector where what it hears is no stroke of its bits, or not all of it: coolant, microphones, streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest

from operators.breakage_reasons import UNTOLD
from operators.head import PAST, HeadFrames
from operators.head_detector import BREAK, SILENT, HeadDetector
from operators.head_geometry import HeadGeometry, grid
from operators.head_stroke import Strokes
from pipeline.messages import Alarm, Feature, Score, Span
from pipeline.stages import LaneSettings
from pipeline.stages_physics import Raise
from tests.engines.scenarios import machine, stream
from tests.operators.heads import ARRAY, GEOMETRY, RATE, heard, sources
from tests.operators.pieces import run, segments
from tests.operators.test_head_detector import BITS, HEAD, Made, abnormal, said, taught

BURST = {"burst": 9.0, "spindle": 12.0, "contrast": 2.2}
NONE = np.zeros(BITS)


def strokes_taught(detector: HeadDetector) -> int:
    """Of the template."""
    return int(detector.snapshot()["template"]["strokes"])


def changed(frames: Sequence[Feature], first: int, last: int, **values: float) -> list[Feature]:
    """The same with other values from frame `first` to before `last`."""
    return [replace(f, values={**f.values, **values}) if first <= i < last else f for i, f in enumerate(frames)]


def last_silent(found: Sequence[Score]) -> Score:
    """What the end of the last stroke said."""
    return [s for s in found if s.detector == SILENT][-1]


# learned anew ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["program", "moved", "restart"])
def test_alarms_of_a_head_that_is_learned_anew_are_over(why: str) -> None:
    """Nobody judges what they told: both end with what begins the template anew, not once it is taught."""
    made = Made(30, scatter=0.5)
    detector = taught(made)
    settings = LaneSettings(machine(stream("array", "acoustic", 48_000, channels=4)))
    alarms: dict[str, list[Alarm]] = {BREAK: [], SILENT: []}
    raising = {name: Raise(settings) for name in alarms}

    def hear(frames: Sequence[Feature]) -> None:
        for score in said(detector, frames):
            for one in raising[score.detector].process(score):
                assert isinstance(one, Alarm)
                alarms[score.detector].append(one)

    while not alarms[SILENT]:
        hear(made.stroke(silent=[17]))
    hear(made.stroke(silent=[17], f40=BURST))
    assert [[a.transition for a in alarms[name]] for name in (BREAK, SILENT)] == [["raised"], ["raised"]]
    if why == "restart":  # what was learned of another head is not taken over
        detector = HeadDetector(HEAD)
        hear(made.stroke())
    for _ in range({"program": 2, "moved": 3, "restart": 0}[why]):
        hear(made.stroke(frames=90) if why == "program" else made.stroke(silent=range(0, BITS, 2)))
    assert strokes_taught(detector) < 2
    for name in (BREAK, SILENT):
        assert [a.transition for a in alarms[name]] == ["raised", "cleared"]
    assert "no longer judged" in alarms[SILENT][-1].text and "not commissioned" in alarms[SILENT][-1].text


def test_the_first_stroke_of_another_program_ends_no_alarm() -> None:
    """It may have been cut short: nothing is untold before the template begins anew, nor once it is taught."""
    made = Made(31)
    detector = taught(made)
    found = said(detector, made.stroke(frames=90))
    assert not [s for s in found if s.reasons.get(UNTOLD)]
    found = said(detector, made.stroke(frames=90))
    assert {s.detector for s in found if s.reasons.get(UNTOLD)} == {BREAK, SILENT}
    assert len({s.id for s in found}) == len(found)
    for _ in range(4):
        said(detector, made.stroke(frames=90))
    assert not [s for s in said(detector, made.stroke(frames=90)) if s.reasons.get(UNTOLD)]


# coolant ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [50, 90, 400])
def test_coolant_is_no_program(frames: int) -> None:
    """As long as a stroke or longer, again and again: the noise does not come from the bits."""
    made = Made(32)
    detector = taught(made)
    for _ in range(4):
        spray = [*[made.frame(0.1, NONE) for _ in range(10)], *[made.frame(1.0, NONE) for _ in range(frames)]]
        score = last_silent(said(detector, [*spray, *[made.frame(0.1, NONE) for _ in range(10)]]))
        assert not score.complete and "not come from where the bits are: coolant" in score.reasons["text"]
        assert not score.reasons.get(UNTOLD)
    assert strokes_taught(detector) == 4
    assert last_silent(said(detector, made.stroke())).complete


def test_a_jet_between_strokes_makes_no_microphone_unreliable() -> None:
    """What coolant alone does to a microphone says nothing of what it hears of the bits: breaks are judged on."""
    made = Made(48)
    detector = taught(made)
    for _ in range(3):
        spray = changed([made.frame(1.0, NONE) for _ in range(40)], 0, 40, m1=30.0)
        score = last_silent(said(detector, [*spray, *[made.frame(0.1, NONE) for _ in range(10)]]))
        assert not score.complete and "not come from where the bits are: coolant" in score.reasons["text"]
        found = said(detector, made.stroke(f30=BURST))
        assert abnormal(found, BREAK) and last_silent(found).complete


def test_coolant_teaches_nothing() -> None:
    """Before the first stroke, and between those that teach."""
    made = Made(33)
    detector = HeadDetector(HEAD, 2)
    for strokes in (0, 1, 1, 2):
        good = strokes_taught(detector) < strokes
        said(detector, made.stroke() if good else made.stroke(silent=range(BITS)))
        assert strokes_taught(detector) == strokes


# microphones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dead", "text"), [([2], "microphone 3 gives"), ([0, 2], "microphones 1, 3 give")])
def test_a_dead_microphone_is_said_and_nothing_judged(dead: list[int], text: str) -> None:
    """In the air and in a stroke; a burst is no break, a stroke teaches nothing and moves no evidence."""
    made = Made(34)
    detector = taught(made)
    mask = float(sum(2**k for k in dead))
    before = detector.snapshot()
    for _ in range(4):
        frames = changed(made.stroke(silent=[17], f40=BURST), 0, 70, flat=mask)
        found = said(detector, frames)
        assert not [s for s in found if s.complete]
        assert all(f"sensor unreliable: {text} no signal" in s.reasons["text"] for s in found if s.detector == SILENT)
    after = detector.snapshot()
    assert after["template"] == before["template"] and after["evidence"] == before["evidence"]
    assert last_silent(said(detector, made.stroke())).complete


def test_breaks_are_judged_again_behind_a_dropout_of_one_microphone() -> None:
    """Once what bursts are measured against is whole again; the stroke's shares are not judged."""
    made = Made(35)
    detector = taught(made)
    for at, breaks in ((25 + 2 * PAST, 0), (26 + 2 * PAST + 1, 1)):
        found = said(detector, changed(made.stroke((), 50, **{f"f{at - 1}": BURST}), 34, 35, flat=1.0))
        assert len(abnormal(found, BREAK)) == breaks
        assert "microphone 1 gives no signal" in last_silent(found).reasons["text"]


@pytest.mark.parametrize(("factor", "text"), [(0.001, "hears 30 dB less"), (40.0, "hears 16 dB more")])
def test_a_microphone_that_hears_otherwise_than_the_others_is_said(factor: float, text: str) -> None:
    """A torn cable that hums, a jet of coolant: strokes unlike the template do not unteach the head."""
    made = Made(36, scatter=0.5)
    detector = taught(made)
    before = detector.snapshot()
    for _ in range(5):
        frames = made.stroke(silent=range(0, BITS, 2))
        found = said(detector, changed(frames, 0, len(frames), m1=factor))
        score = last_silent(found)
        assert not score.complete and f"sensor unreliable: microphone 2 {text} beside" in score.reasons["text"]
    assert detector.snapshot()["template"] == before["template"]
    assert not abnormal(said(detector, made.stroke(f30=BURST)), BREAK)  # nor is a burst believed until it is well
    assert last_silent(said(detector, made.stroke())).complete
    assert abnormal(said(detector, made.stroke(f30=BURST)), BREAK)


def test_a_gain_that_was_changed_is_learned_after_three_strokes() -> None:
    """All shares are there: the microphone hears its bits. What was silent before goes on counting."""
    made = Made(41)
    detector = taught(made)
    for told in (False, False, True, True):
        frames = made.stroke()
        assert last_silent(said(detector, changed(frames, 0, len(frames), m1=100.0))).complete is told
    frames = made.stroke(f30=BURST)
    assert abnormal(said(detector, changed(frames, 0, len(frames), m1=100.0)), BREAK)
    assert strokes_taught(detector) == 4 + 3


@pytest.mark.parametrize("bad", [1, 2])
def test_a_microphone_that_was_off_while_the_head_was_taught_does_not_hold_it_up_for_ever(bad: int) -> None:
    """A jet of coolant in the first strokes: once three are without, they are taught alone."""
    made = Made(42)
    detector = HeadDetector(HEAD, 4)
    for i in range(bad + 6):
        frames = made.stroke()
        said(detector, changed(frames, 0, len(frames), m1=1e4 if i < bad else 1.0))
    assert strokes_taught(detector) == 4


def test_a_silent_bit_beside_a_microphone_is_no_fault_of_the_microphone() -> None:
    """In a head of four it has most of what the microphone hears: breaks of the others are judged on."""
    close = np.array([[-0.05, -0.03], [0.35, -0.03], [-0.05, 0.33], [0.35, 0.33]])
    made = Made(43, bits=4, scatter=0.3)
    detector = HeadDetector(HeadGeometry(grid(2, 2, 0.3), close, 343.0, 2), 4)
    for _ in range(4):
        said(detector, made.stroke())
    for _ in range(2):
        frames = made.stroke(silent=[0], f30={"burst": 9.0, "spindle": 3.0, "contrast": 2.2})
        found = said(detector, changed(frames, 0, len(frames), m0=0.06))
        assert abnormal(found, BREAK) and "unreliable" not in last_silent(found).reasons["text"]
    frames = made.stroke(silent=[0])
    assert "unreliable" in last_silent(said(detector, changed(frames, 0, len(frames), m0=0.001))).reasons["text"]


def test_another_gain_of_all_microphones_is_judged_on() -> None:
    """What the others do, too, is no fault of one."""
    made = Made(37)
    detector = taught(made)
    frames = made.stroke()
    louder = changed(frames, 0, len(frames), **{f"m{k}": 50.0 for k in range(4)})
    assert last_silent(said(detector, louder)).complete


@pytest.mark.parametrize("why", ["20 dB", "2 dB", "one", "zeros"])
def test_louder_air_is_not_counted_to_the_strokes_for_ever(why: str) -> None:
    """More gain of all microphones or of one; zeros before and behind quiet air that no gate let through.

    What is heard behind the second stroke is the idle machine from then on. The template and what it finds stay.
    """
    made = Made(47, scatter=0.5)
    detector = taught(made)
    gains = {"20 dB": [100.0] * 4, "2 dB": [1.6] * 4, "one": [100.0, 1.0, 1.0, 1.0], "zeros": [1.0] * 4}[why]
    more = {"level": float(np.mean(gains)), **{f"m{k}": gain for k, gain in enumerate(gains)}}
    if why == "zeros":
        pause = [made.frame(0.0, NONE, flat=15.0) for _ in range(25)]
        said(detector, [*pause, *[made.frame(0.1, NONE) for _ in range(40)], *pause])
    for i in range(6):
        frames = [*[made.frame(0.1, NONE) for _ in range(30)], *made.stroke(f30=BURST if i == 5 else {})]
        frames = [replace(f, values={n: v * more.get(n, 1.0) for n, v in f.values.items()}) for f in frames]
        found = said(detector, frames)
        assert not [s for s in found if s.reasons.get(UNTOLD)]
        assert last_silent(found).complete is (i >= (3 if why == "one" else 2))
    assert abnormal(found, BREAK)


def test_digital_silence_in_strokes_does_not_unteach_the_head() -> None:
    """A converter that gives zeros for half a second: neither half is a stroke of another program."""
    made = Made(38)
    detector = taught(made)
    for _ in range(4):
        frames = made.stroke()
        zeros = dict.fromkeys(("level", "m0", "m1", "m2", "m3", "burst"), 0.0)
        found = said(detector, changed(frames, 30, 40, flat=15.0, **zeros))
        assert "part of a stroke" in last_silent(found).reasons["text"]
        assert not [s for s in found if s.reasons.get(UNTOLD)]
    silence = said(detector, [made.frame(0.0, NONE, flat=15.0) for _ in range(40)])
    assert silence and all("no microphone gives a signal; not judged" in s.reasons["text"] for s in silence)
    assert not [s for s in silence if s.complete]
    assert last_silent(said(detector, made.stroke())).complete


def test_frames_that_are_zeros_in_part_make_no_stroke_of_the_air() -> None:
    """The first and the last one of a pause are quieter than the idle machine, which is as loud as before behind it."""
    for edges in ((0.01, 0.1), (0.1, 0.0001), (0.01, 0.0001)):
        strokes = Strokes()
        assert {strokes.take(0.1, -1.0) for _ in range(40)} == {"air"}
        strokes.take(edges[0], -1.0)
        assert not any(strokes.silence(-1.0) for _ in range(25))
        strokes.take(edges[1], -1.0)
        assert {strokes.take(0.1, -1.0) for _ in range(40)} == {"air"}
        told = [strokes.take(level, -1.0) for level in [1.0] * 40 + [0.1] * 4]
        assert told.count("begins") == told.count("ends") == 1 and strokes.whole


def test_a_noise_gate_between_strokes_is_no_fault() -> None:
    """It opens with the stroke and closes behind it: strokes teach and are judged."""
    strokes = Strokes()
    for _ in range(5):
        strokes.take(0.1, -1.0)
    for _ in range(3):
        for _ in range(30):
            strokes.silence(-1.0)
        told = [strokes.take(level, -1.0) for level in [1.0] * 40 + [0.1] * 4]
        assert told.count("begins") == told.count("ends") == 1 and strokes.whole
    for _ in range(10):  # what follows silence is not louder than the idle machine for a minute
        strokes.silence(-1.0)
    assert {strokes.take(0.1, -1.0) for _ in range(40)} == {"air"}


@pytest.mark.parametrize("cutting", [-1.0, 0.0])
def test_strokes_between_which_a_noise_gate_is_closed_are_taught(cutting: float) -> None:
    """From the start, without a sound between them; silence of a second ends them, or the machine's word."""
    made = Made(44)
    detector = HeadDetector(HEAD, 2)
    gate = {"flat": 15.0, **{f"m{k}": 0.0 for k in range(4)}, "cutting": cutting}
    told = {} if cutting < 0.0 else {"cutting": 1.0}
    for _ in range(5):
        cut = changed(made.stroke()[10:60], 0, 50, **told)
        found = said(detector, [*cut, *[made.frame(0.0, NONE, **gate) for _ in range(25)]])
    assert strokes_taught(detector) >= 2 and last_silent(found).complete
    cut = changed(made.stroke(f30=BURST)[10:60], 0, 50, **told)
    assert abnormal(said(detector, cut), BREAK)


def test_microphones_that_are_dead_while_the_machine_cuts_end_no_stroke() -> None:
    """Nor does silence of less than a second: what is heard behind either is a part."""
    for frames, cutting in ((10, -1.0), (24, 1.0)):
        made = Made(45)
        detector = taught(made)
        stroke = changed(made.stroke(), 10, 60, cutting=cutting)
        found = said(detector, changed(stroke, 30, 30 + frames, flat=15.0, level=0.0))
        assert "a part of a stroke" in last_silent(found).reasons["text"]
        assert len([s for s in found if s.detector == SILENT]) == 1


def test_frames_say_which_microphones_give_no_signal() -> None:
    """Zeros or any other constant; levels of the others as they are."""
    x = heard(sources(2.0, 3), seed=3)
    x[:, 1] = 0.0
    x[round(1.3 * RATE) :, 3] = 0.25
    found = [f for f in run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, x)) if isinstance(f, Feature)]
    assert {f.values["flat"] for f in found if f.lineage[0].n1 < 1.3 * RATE} == {2.0}
    assert {f.values["flat"] for f in found if f.lineage[0].n0 > 1.3 * RATE} == {10.0}
    assert all(f.values["m1"] == 0.0 < f.values["m0"] for f in found)
    mean = [np.mean([f.values[f"m{k}"] for k in range(4)]) for f in found]
    np.testing.assert_allclose(mean, [f.values["level"] for f in found])


# streams and restarts --------------------------------------------------------------------------------------------


def test_a_later_stream_within_a_stroke_makes_no_stroke_of_two_parts() -> None:
    """A converter that begins anew: nothing says what is missing between its streams."""
    made = Made(39)
    detector = taught(made)
    before = strokes_taught(detector)
    for epoch in range(0, 8, 2):
        frames = [replace(f, lineage=(Span("array", epoch + (i > 35), i, i + 1),)) for i, f in enumerate(made.stroke())]
        score = last_silent(said(detector, frames))
        assert not score.complete and "a part of a stroke" in score.reasons["text"]
    assert strokes_taught(detector) == before


@pytest.mark.parametrize("stop", [205, 245, 300, 330, 333, 350, 372, 420])
def test_a_detector_restored_among_faults_goes_on_alike(stop: int) -> None:
    """Through JSON: a dead microphone, one that hears less, zeros in a stroke, a later stream."""
    made = Made(40)
    frames = [f for _ in range(6) for f in made.stroke(silent=[9], f40=BURST)]
    frames = changed(frames, 230, 250, flat=4.0)
    frames = changed(frames, 280, 350, m2=0.0001)
    frames = changed(frames, 370, 380, flat=15.0, level=0.0)
    frames = [replace(f, lineage=(Span("array", i // 400, i, i + 1),)) for i, f in enumerate(frames)]

    def scores(detector: HeadDetector, part: Sequence[Feature]) -> list[tuple[str, bool, float, object]]:
        return [(s.id, s.complete, s.value, s.reasons) for s in said(detector, part)]

    one, first, second = (HeadDetector(HEAD, 2) for _ in range(3))
    straight = scores(one, frames)
    before = scores(first, frames[:stop])
    second.restore(orjson.loads(orjson.dumps(first.snapshot())))
    assert [*before, *scores(second, frames[stop:])] == straight
    assert second.snapshot() == one.snapshot()


def test_a_constant_microphone_that_comes_back_gives_numbers() -> None:
    """What it hears is infinitely louder than what it heard: no warning, and every value can be stored."""
    x = heard(sources(2.0, 3))
    x[: len(x) // 2, 1] = 0.25
    frames = [f for f in run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, x)) if isinstance(f, Feature)]
    assert frames and all(np.isfinite(list(f.values.values())).all() for f in frames)
