"""The classifier in a stream: its levels against the paper's, its frames however cut, its rules on made-up holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.drill.data import Float64
from models.drill.filters import HIGH_HZ, LOW_HZ
from models.drill.holes import cut, joined, train
from models.drill.levels import BANDS, band_powers, contrast
from models.drill.live import CLASSIFIER, LEARNED, WITHIN, LearnedBreak, LearnedFrames, Rule, probability
from models.drill.spectrogram import band_levels
from operators.breakage_detector import BREAK, BreakDetector
from operators.persistence import Persistence
from pipeline.errors import BadInput
from pipeline.messages import Alarm, Feature, Message, Score
from tests.operators.pieces import cuts, gap, run, segments, stream, tail
from tests.operators.test_breakage import AIR, GOOD, broken, digest, frames

RATE = 48_000
MICROPHONE = stream(RATE)


def test_levels_are_those_of_the_papers_clips() -> None:
    """Filtered forwards and backwards, Mel at 96 kHz: the same but for a constant, 0.3 dB in the bands at the edges."""
    x = np.random.default_rng(0).standard_normal((40, 2000))
    ours = 10.0 * np.log10([band_powers(row[:, None], 96_000.0) for row in x])
    difference = ours - band_levels(list(x[:, :1999]))
    assert difference.shape == (40, BANDS)
    assert np.ptp(difference.mean(axis=0)) < 0.3


@pytest.mark.parametrize("rate", [48_000.0, 96_000.0])
def test_a_tone_that_doubles_is_6_db_louder_in_its_band(rate: float) -> None:
    """By 20 log10 2 where the tone is; at both rates the same level."""
    n = round(rate / 24.0)
    t = np.arange(n) / rate
    tone = np.sin(2 * np.pi * 4800.0 * t) * np.where(t < 1 / 48 - 1e-9, 0.1, 0.2)
    found = contrast(tone[:, None], rate)
    assert found[np.argmax(band_powers(tone[n // 2 :, None], rate))] == pytest.approx(20 * np.log10(2), abs=1e-6)
    assert contrast(np.hstack([tone[:, None]] * 2), rate) == pytest.approx(found)
    assert LOW_HZ < 4800.0 < HIGH_HZ


def first(row: Float64) -> float:
    """A judge that is easily checked."""
    return float(row[0])


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_frames_do_not_depend_on_the_cuts(data: st.DataObject) -> None:
    """To the bit, with a gap, and after a rebuild; every second frame is judged, on the stream's grid."""
    x = np.random.default_rng(1).standard_normal((12_000, 1)).astype(np.float32)
    one, two = x[:5000], x[5600:]
    whole: list[Message] = [
        *segments(MICROPHONE, one),
        gap(MICROPHONE, 5000, 5600),
        *segments(MICROPHONE, two, n0=5600),
    ]
    pieces: list[Message] = [
        *segments(MICROPHONE, one, data.draw(cuts(5000))), gap(MICROPHONE, 5000, 5600),
        *segments(MICROPHONE, two, data.draw(cuts(6400)), 5600),
    ]  # fmt: skip
    straight = [f for f in run(LearnedFrames(MICROPHONE, first), whole) if isinstance(f, Feature)]
    assert digest(run(LearnedFrames(MICROPHONE, first), pieces)) == digest(straight)
    judged = [f.lineage[0].n0 for f in straight if LEARNED in f.values]
    assert judged and {n % 480 for n in judged} == {0}
    stop = data.draw(st.integers(1, len(pieces)))
    operator = LearnedFrames(MICROPHONE, first)
    before = run(operator, pieces[:stop])
    again = run(LearnedFrames(MICROPHONE, first), tail(pieces, operator.needs_from()))
    merged = {f.t_end_ns: f for f in (*before, *again) if isinstance(f, Feature)}
    assert digest(list(merged.values())) == digest(straight)


def test_another_rate_is_refused() -> None:
    with pytest.raises(BadInput, match="96000 or 48000 Hz, not 32000 Hz"):
        LearnedFrames(stream(32_000), first)


# rules -----------------------------------------------------------------------------------------------------------


def heard(levels: Sequence[float], at: int | None = None, start: int = 0) -> list[Feature]:
    """Frames of which every second one is judged: no fracture but at one of them."""
    made = frames(levels, start)
    for k, frame in enumerate(made):
        if k % 2 == 0:
            frame.values[LEARNED] = 3.0 if k == at else -3.0  # type: ignore[index]
    return made


def said(detector: LearnedBreak | BreakDetector, made: Sequence[Feature], name: str) -> list[Score]:
    """Scores above their threshold."""
    scores = [s for f in made for s in detector.process(f) if isinstance(s, Score)]
    return [s for s in scores if s.detector == name and s.abnormal]


def told(detector: LearnedBreak | BreakDetector, made: Sequence[Feature]) -> list[tuple[str, float, object]]:
    """All scores, comparable."""
    return [(s.id, s.value, s.reasons) for f in made for s in detector.process(f) if isinstance(s, Score)]


def taught(rule: Rule) -> LearnedBreak:
    """After five good holes."""
    detector = LearnedBreak(4, 0.9, rule, "digest")
    for _ in range(5):
        assert not said(detector, heard(GOOD), BREAK)
    return detector


BROKEN = broken(200)
FRACTURE = len(AIR) + 200
NEAR_THE_END = broken(368)


@pytest.mark.parametrize(
    ("rule", "heard_at", "stops"),
    [
        ("advisory", None, 1), ("advisory", FRACTURE, 1), ("both", None, 0), ("both", FRACTURE, 1),
        ("both", FRACTURE - WITHIN - 20, 0), ("either", None, 1), ("either", FRACTURE, 1), ("burst", None, 1),
    ],
)  # fmt: skip
def test_what_a_loss_and_a_fracture_make_together(rule: Rule, heard_at: int | None, stops: int) -> None:
    """A hole in which the cutting noise ends, and a fracture that the classifier heard or not."""
    assert len(said(taught(rule), heard(BROKEN, heard_at), BREAK)) == stops


@pytest.mark.parametrize(("rule", "stops"), [("advisory", 0), ("both", 0), ("either", 1), ("burst", 0)])
def test_a_fracture_without_a_loss(rule: Rule, stops: int) -> None:
    """Stops by itself only where either may."""
    assert len(said(taught(rule), heard(GOOD, FRACTURE), BREAK)) == stops


def test_a_fracture_raises_the_alarm_in_whatever_frame_it_is_heard() -> None:
    """Also where physics says in the same frame that nothing is lost: of two scores of one time alarms take one."""
    detector = LearnedBreak(4, 0.9, "either", "digest", every=2)
    (missing,) = frames(AIR[:1])
    assert not said(detector, [replace(missing, values={}, complete=False)], BREAK)  # now every second frame is told
    for n in range(5):
        assert not said(detector, heard(GOOD, start=2 + n * len(GOOD)), BREAK)
    saved = detector.snapshot()
    for at in range(len(AIR) + 100, len(AIR) + 300, 20):
        detector.restore(saved)
        raising = Persistence(alpha=1.0, k=1, n=1, clear_ratio=1.0)
        scores = [s for f in heard(GOOD, at, 2 + 5 * len(GOOD)) for s in detector.process(f) if isinstance(s, Score)]
        alarms = [a for s in scores if s.detector == BREAK for a in raising.process(s) if isinstance(a, Alarm)]
        assert [a.transition for a in alarms] == ["raised"]


def test_a_heard_fracture_is_a_burst_under_that_rule() -> None:
    """And allows the decision nearer to the hole's end, as a burst of the physics detector's own does."""
    alone, helped = taught("advisory"), taught("burst")
    at = len(AIR) + 368
    assert not said(alone, heard(NEAR_THE_END, at), BREAK)
    (found,) = said(helped, heard(NEAR_THE_END, at), BREAK)
    assert found.reasons["burst"] is True


def test_the_classifier_tells_once_a_hole_what_it_heard() -> None:
    """At once above the threshold, else at the end; in the air and at the entry nothing."""
    detector = taught("advisory")
    scores = [s for f in heard(GOOD, FRACTURE) for s in detector.process(f) if isinstance(s, Score)]
    (found,) = [s for s in scores if s.detector == CLASSIFIER]
    assert found.abnormal and found.value == pytest.approx(probability(3.0))
    scores = [s for f in heard(GOOD, 4) for s in detector.process(f) if isinstance(s, Score)]
    (found,) = [s for s in scores if s.detector == CLASSIFIER]
    assert not found.abnormal and found.value == pytest.approx(probability(-3.0))


def test_without_judged_frames_it_is_the_physics_detector() -> None:
    """Sensors that the classifier cannot hear."""
    made = [f for hole in (*[GOOD] * 5, BROKEN, GOOD) for f in frames(hole)]
    one, two = LearnedBreak(4, 0.9, "both", "digest"), BreakDetector(4)
    assert told(one, made) == told(two, made)


@pytest.mark.parametrize("stop", [150, 3100, 3305])
def test_a_restored_detector_goes_on_alike(stop: int) -> None:
    """Through JSON, before and within the hole of the fracture."""
    levels = [*GOOD * 5, *BROKEN, *GOOD]
    made = heard(levels, 5 * len(GOOD) + FRACTURE)

    one, two, three = (LearnedBreak(4, 0.9, "both", "digest") for _ in range(3))
    straight = told(one, made)
    head = told(two, made[:stop])
    saved = orjson.dumps(two.snapshot())
    assert len(saved) < 20_000
    three.restore(orjson.loads(saved))
    assert [*head, *told(three, made[stop:])] == straight
    assert three.snapshot() == one.snapshot()


def test_what_scores_depend_on_is_in_their_identity() -> None:
    """Package, threshold and rule."""
    made = {
        LearnedBreak(*which).settings
        for which in ((4, 0.9, "both", "a"), (4, 0.9, "both", "b"), (4, 0.8, "both", "a"), (4, 0.9, "either", "a"))
    }
    assert len(made) == 4
    with pytest.raises(ValueError, match="between 0 and 1"):
        LearnedBreak(4, 1.0, "both", "a")


# training --------------------------------------------------------------------------------------------------------


def test_rows_of_holes_teach_what_a_burst_is() -> None:
    """Noise with a burst of 2 ms ten times as loud: told apart on held-out recordings, with whole groups."""
    rng = np.random.default_rng(5)
    parts = []
    for k in range(16):
        x = rng.standard_normal((RATE, 1))
        onset = 0.6 if k % 2 else None
        if onset is not None:
            x[round(onset * RATE) :][: RATE // 500] *= 10.0
        parts.append((f"hole-{k}", cut(x, RATE, onset, k, "")))
    holes = joined(parts)
    assert holes.x.shape == (16 * 8 + 8 * 4, BANDS)
    model, scores = train(holes, folds=4)
    assert scores["auc"][0] > 0.99 and scores["auc of the mean difference alone"][0] > 0.95
    assert (model.probability(holes.x) > 0.5).astype(float) == pytest.approx(holes.target)


@pytest.mark.parametrize(
    ("rate", "onset", "says"),
    [(44_100, 0.5, "48000 Hz, not 44100 Hz"), (16_000, None, "not 16000 Hz"), (RATE, 0.01, "between 0.093 s")]
    + [(RATE, onset, "and 0.984 s") for onset in (-1.0, 0.09, 0.99, 30.0)],
)
def test_a_fracture_that_was_not_recorded_teaches_nothing(rate: int, onset: float | None, says: str) -> None:
    """Too early, too late, before what counts; rates that the bands do not fit."""
    with pytest.raises(BadInput, match=rf"hole-3\.wav: .*{says}"):
        cut(np.zeros((rate, 1)), float(rate), onset, 0, "hole-3.wav")
