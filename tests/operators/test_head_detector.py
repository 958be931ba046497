"""The head detector on made-up frames: strokes, bursts, silent bits, other programs, what is saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from operators.head import FRAME
from operators.head_detector import BREAK, BURST_LIMIT, SILENT, SILENT_LIMIT, HeadDetector
from operators.head_geometry import HeadGeometry, grid
from operators.head_stroke import Strokes
from operators.head_template import HeadTemplate, Sums
from pipeline.messages import Feature, Score

BITS = 20
HEAD = HeadGeometry(grid(2, 10, 0.05), np.array([[-0.2, -0.2], [0.7, -0.2], [-0.2, 0.3], [0.7, 0.3]]), 343.0, 10)
HOP_NS = 50_000_000
SCATTER = 1.2
"""Standard deviation of a bit's share in one frame, as four microphones give it."""


class Made:
    """Frames of a head with known shares."""

    def __init__(self, seed: int = 0, bits: int = BITS, scatter: float = SCATTER) -> None:
        self.rng, self.n, self.bits, self.scatter = np.random.default_rng(seed), 0, bits, scatter

    def frame(self, level: float, shares: np.ndarray, **more: float) -> Feature:
        """One frame; `more` takes the place of quiet values."""
        self.n += 1
        seen = shares + self.scatter * self.rng.standard_normal(self.bits)
        values = {
            "level": level * (1.0 + 0.02 * self.rng.standard_normal()), "burst": 4.0, "outside": 2.0, "contrast": 2.0,
            "spindle": 3.0, "second": 4.0, "margin": 0.2, "cutting": -1.0, "flat": 0.0,
            **{f"m{k}": level for k in range(4)},
            **{f"a{k}": round(float(a), 4) for k, a in enumerate(seen)}, **more,
        }  # fmt: skip
        return Feature("m", ("array",), FRAME, self.n * HOP_NS, values)

    def stroke(self, silent: Sequence[int] = (), frames: int = 50, **at: dict[str, float]) -> list[Feature]:
        """Air, a stroke, air; `at` f12={...} changes frame 12 of the stroke."""
        good, none = np.full(self.bits, 0.8), np.zeros(self.bits)
        good[list(silent)] = 0.0
        air = [self.frame(0.1, none) for _ in range(10)]
        cut = [self.frame(1.0, good, **at.get(f"f{i}", {})) for i in range(frames)]
        return [*air, *cut, *[self.frame(0.1, none) for _ in range(10)]]


def said(detector: HeadDetector, frames: Sequence[Feature]) -> list[Score]:
    """All scores."""
    return [s for f in frames for s in detector.process(f) if isinstance(s, Score)]


def abnormal(found: Sequence[Score], name: str) -> list[Score]:
    """Those above their threshold."""
    return [s for s in found if s.detector == name and s.abnormal]


def taught(made: Made, strokes: int = 4) -> HeadDetector:
    """A detector that heard good strokes."""
    detector = HeadDetector(HEAD, strokes)
    for _ in range(strokes):
        assert not [s for s in said(detector, made.stroke()) if s.abnormal]
    return detector


def test_a_bit_that_is_silent_stroke_after_stroke_is_named() -> None:
    """A few strokes gather the evidence; good strokes before and a new bit after it give none."""
    made = Made()
    detector = taught(made)
    for _ in range(10):
        assert not abnormal(said(detector, made.stroke()), SILENT)
    found: list[Score] = []
    needed = 0
    while not found and needed < 12:
        found, needed = abnormal(said(detector, made.stroke(silent=[17])), SILENT), needed + 1
    assert 1 < needed < 12
    assert found[0].threshold == SILENT_LIMIT
    assert found[0].reasons["spindle"] == 18
    assert "bit 18 (row 2, column 8) silent" in found[0].reasons["text"]
    for _ in range(25):
        last = said(detector, made.stroke())
    assert not abnormal(last, SILENT)


def test_good_strokes_gather_no_evidence() -> None:
    """A hundred strokes of thirty bits: a likelihood ratio above exp(12) has a chance of exp(-12) at most each."""
    made = Made(5)
    detector = taught(made, 8)
    assert not [s for _ in range(100) for s in said(detector, made.stroke()) if s.abnormal]


def test_a_burst_from_one_bit_is_a_break_at_once() -> None:
    """In the middle of a stroke, steered; with the bit, the next one and the margin."""
    made = Made(1)
    detector = taught(made)
    burst = {"burst": 8.0, "spindle": 12.0, "second": 13.0, "margin": 1.5, "contrast": 2.2}
    (found,) = abnormal(said(detector, made.stroke(f30=burst)), BREAK)
    assert found.value == 8.0 and found.threshold == BURST_LIMIT
    assert (found.reasons["spindle"], found.reasons["runner_up"], found.reasons["margin"]) == (13, 14, 1.5)
    assert found.reasons["text"].startswith("bit 13 (row 2, column 3): burst 8.0 sigma")


@pytest.mark.parametrize(
    ("at", "changed"),
    [(30, {"contrast": 1.1}), (5, {}), (47, {}), (30, {"burst": 5.9})],
    ids=["bang", "entry", "exit", "small"],
)
def test_what_is_no_break(at: int, changed: dict[str, float]) -> None:
    """A bang in the hall, the entry of all bits, their exit, what steady cutting may have."""
    made = Made(2)
    detector = taught(made)
    burst = {"burst": 9.0, "spindle": 12.0, "contrast": 2.2, **changed}
    assert not abnormal(said(detector, made.stroke((), 50, **{f"f{at}": burst})), BREAK)


def test_bursts_of_taught_strokes_raise_the_threshold() -> None:
    """Chips that jam near a microphone are no breaks."""
    made = Made(3)
    detector = HeadDetector(HEAD, 3)
    for _ in range(3):
        said(detector, made.stroke(f20={"burst": 8.0}))
    assert not abnormal(said(detector, made.stroke(f20={"burst": 8.5})), BREAK)
    assert abnormal(said(detector, made.stroke(f20={"burst": 9.0})), BREAK)


def test_a_burst_counts_for_a_silent_bit() -> None:
    """Too small for a break, it shortens the wait: evidence is larger by 2 (z - 4.5)."""
    evidence = []
    for burst in (4.0, 5.5):
        made = Made(4)
        detector = taught(made)
        said(detector, made.stroke(silent=[17], f30={"burst": burst, "spindle": 17.0}))
        evidence.append(detector.snapshot()["evidence"][17])
    assert evidence[1] == pytest.approx(evidence[0] + 2.0, abs=1.0)
    assert evidence[1] > evidence[0]


def test_another_program_and_a_moved_microphone_are_said() -> None:
    """Neither is judged; the second stroke of another length, the third unlike one begin the template anew."""
    made = Made(6)
    detector = taught(made)
    for text in ("another program", "learned anew"):
        (score,) = [s for s in said(detector, made.stroke(frames=90)) if s.detector == SILENT]
        assert not score.complete and text in score.reasons["text"]
    made = Made(13)
    detector = taught(made)
    for frames in (20, 36, 22):  # cut short, each where somebody stopped it
        (score,) = [s for s in said(detector, made.stroke(frames=frames)) if s.detector == SILENT]
        assert "another program?" in score.reasons["text"]
    made = Made(7, scatter=0.5)
    detector = taught(made)
    for _ in range(3):
        shifted = made.stroke(silent=range(0, BITS, 2))
        (score,) = [s for s in said(detector, shifted) if s.detector == SILENT]
        assert not score.complete and "most bits differ" in score.reasons["text"]
    (score,) = [s for s in said(detector, made.stroke()) if s.detector == SILENT]
    assert "1 of 4 strokes taught" in score.reasons["text"]


def test_until_taught_it_says_so() -> None:
    """k of n, incomplete."""
    made = Made(8)
    detector = HeadDetector(HEAD, 4)
    found = said(detector, [*made.stroke(), *made.stroke(f30={"burst": 20.0})])
    assert found and not any(s.complete for s in found)
    assert "not commissioned: 2 of 4 strokes taught" in found[-1].reasons["text"]


def test_too_few_microphones_name_no_silent_bit() -> None:
    """Twenty bits and one pair: the score says so."""
    made = Made(12)
    detector = HeadDetector(HeadGeometry(HEAD.spindles_m, HEAD.microphones_m[:2], 343.0, 10), 3)
    found = [s for i in range(12) for s in said(detector, made.stroke(silent=[17] if i > 3 else []))]
    assert not [s for s in found if s.detector == SILENT and s.complete]
    assert any("too many bits for so few microphones" in s.reasons["text"] for s in found)


def test_missing_samples_end_the_stroke() -> None:
    """Said, and nothing is judged of what is left."""
    made = Made(9)
    detector = taught(made)
    frames = made.stroke(silent=[5])
    lost = Feature("m", ("array",), FRAME, frames[30].t_end_ns, {}, complete=False)
    found = said(detector, [*frames[:30], lost, *frames[31:]])
    assert any("samples are missing" in s.reasons["text"] and not s.complete for s in found)
    assert not abnormal(found, SILENT)


def test_dropouts_do_not_unteach_the_head() -> None:
    """The rest of a stroke behind missing samples is no stroke of another program, nor one that teaches."""
    made = Made(14)
    detector = HeadDetector(HEAD, 2)
    for strokes in (0, 2, 2):
        for at in (20, 30):
            frames = made.stroke()
            lost = Feature("m", ("array",), FRAME, frames[at].t_end_ns, {}, complete=False)
            (score,) = [s for s in said(detector, [*frames[:at], lost, *frames[at:]]) if s.detector == SILENT]
            assert not score.complete and "not judged: a part of a stroke" in score.reasons["text"]
            assert detector.snapshot()["template"]["strokes"] == strokes
        said(detector, [] if strokes else [*made.stroke(), *made.stroke()])
    last = [s for s in said(detector, made.stroke()) if s.detector == SILENT]
    assert [s.complete for s in last] == [True]


def test_what_is_loud_for_over_a_minute_teaches_nothing() -> None:
    """Coolant, or samples behind a digital silence; what follows is heard from its beginning again."""
    made = Made(15)
    detector = HeadDetector(HEAD, 2)
    frames = made.stroke(frames=1300)
    assert "over a minute" in next(s for s in said(detector, frames) if s.detector == SILENT).reasons["text"]
    assert detector.snapshot()["template"]["strokes"] == 0
    said(detector, made.stroke())
    assert detector.snapshot()["template"]["strokes"] == 1


def test_a_stroke_under_way_at_the_start_teaches_nothing() -> None:
    """Where the machine says that it cuts."""
    made = Made(16)
    detector = HeadDetector(HEAD, 2)
    cut = [made.frame(1.0, np.full(BITS, 0.8), cutting=1.0) for _ in range(30)]
    stands = [made.frame(0.1, np.zeros(BITS), cutting=0.0) for _ in range(5)]
    for strokes in (0, 1):
        said(detector, [*cut, *stands])
        assert detector.snapshot()["template"]["strokes"] == strokes


def test_dead_microphones_in_taught_strokes_are_found_out() -> None:
    """The machine says that it cuts, nothing is heard: numbers all the same, and taught once something is."""
    made = Made(17)

    def stroke(share: float) -> list[Feature]:
        made.scatter = share
        cut = [made.frame(share, np.full(BITS, share), cutting=1.0) for _ in range(50)]
        return [*cut, *[made.frame(0.0, np.zeros(BITS), cutting=0.0) for _ in range(5)]]

    detector = HeadDetector(HEAD, 2)
    silence = [made.frame(0.0, np.zeros(BITS), cutting=0.0)]
    found = said(detector, [*silence, *(f for _ in range(4) for f in stroke(0.0))])
    assert detector.snapshot()["template"]["strokes"] == 0
    found += said(detector, [f for _ in range(6) for f in stroke(0.8)])
    assert all(np.isfinite(s.value) for s in found)
    assert "None" not in str(orjson.loads(orjson.dumps(detector.snapshot())))
    last = [s for s in found if s.detector == SILENT][-1]
    assert last.complete and last.value < SILENT_LIMIT and detector.snapshot()["template"]["mean"][0] > 0.5


@pytest.mark.parametrize(
    "other",
    [
        HeadDetector(HeadGeometry(grid(2, 5, 0.05), HEAD.microphones_m)),
        HeadDetector(HeadGeometry(HEAD.spindles_m, HEAD.microphones_m + 0.01)),
        HeadDetector(HEAD, 8),
    ],
    ids=["bits", "places", "strokes"],
)
def test_what_was_learned_of_another_head_is_not_taken_over(other: HeadDetector) -> None:
    """The lane then begins anew and says why, where shares of other places would be compared, or nothing at all."""
    saved = orjson.loads(orjson.dumps(taught(Made(18)).snapshot()))
    with pytest.raises(ValueError, match="another head"):
        other.restore(saved)
    del saved["settings"]  # of an earlier version
    HeadDetector(HEAD).restore(saved)


def test_strokes_by_level_or_by_what_the_machine_says() -> None:
    """1 dB over idle for 0.2 s begins one; a told state decides alone."""
    strokes = Strokes()
    levels = [0.1] * 10 + [0.2] * 20 + [0.1] * 5
    told = [strokes.take(level, -1.0) for level in levels]
    assert told.index("begins") == 13 and told.index("ends") == 31
    machine = Strokes()
    states = [0.0] * 10 + [1.0] * 20 + [0.0] * 5
    told = [machine.take(0.1, state) for state in states]
    assert told.index("begins") == 13 and told.index("ends") == 30
    short = Strokes()
    assert "begins" not in [short.take(level, -1.0) for level in [0.1] * 10 + [9.0] * 3 + [0.1] * 5]


def test_a_louder_idle_machine_behind_missing_samples_makes_no_stroke_a_part_for_ever() -> None:
    """Coolant was switched on meanwhile: what is known in part is the first stroke alone."""
    strokes = Strokes()
    for _ in range(20):
        strokes.take(0.1, -1.0)
    strokes.forget()
    told = [(strokes.take(level, -1.0), strokes.whole) for level in ([0.14] * 30 + [1.0] * 60) * 4 + [0.14] * 5]
    assert [whole for what, whole in told if what == "ends"] == [False, True, True, True]
    assert [what for what, _ in told].index("begins", 30) == 123  # and the air before a stroke is no part of it


def test_the_template_holds_mean_and_scatter() -> None:
    """Against numpy; what a silent bit lacks is the mean share."""
    rng = np.random.default_rng(0)
    strokes = 1.0 + 0.1 * rng.standard_normal((5, 40, 8))
    template = HeadTemplate(5)
    for stroke in strokes:
        sums = Sums.none(8)
        for frame in stroke:
            sums.add(frame)
        np.testing.assert_allclose(sums.variance(), stroke.var(axis=0, ddof=1))
        template.teach(sums, 4.0)
    assert template.ready and template.burst == 4.0 and not template.unlike(45) and template.unlike(60)
    np.testing.assert_allclose(template.snapshot()["mean"], strokes.mean(axis=(0, 1)))
    sums = Sums.none(8)
    for frame in strokes[0]:
        sums.add(np.where(np.arange(8) == 3, 0.0, frame))
    loss, z, due = template.judge(sums, 0.6)
    assert loss[3] == pytest.approx(1.0, abs=0.15) and abs(loss[0]) < 0.2
    assert z[3] > due[3] > 10.0


@pytest.mark.parametrize("stop", [30, 150, 333, 380])
def test_a_restored_detector_goes_on_alike(stop: int) -> None:
    """Through JSON, in the air and within a stroke, taught or not, with the same scores."""
    made = Made(10)
    frames = [f for i in range(6) for f in made.stroke(silent=[9] if i > 3 else [], f30={"burst": 5.5})]

    def scores(detector: HeadDetector, part: Sequence[Feature]) -> list[tuple[str, float, object]]:
        return [(s.id, s.value, s.reasons) for s in said(detector, part)]

    one, first, second = (HeadDetector(HEAD, 3) for _ in range(3))
    straight = scores(one, frames)
    before = scores(first, frames[:stop])
    second.restore(orjson.loads(orjson.dumps(first.snapshot())))
    assert [*before, *scores(second, frames[stop:])] == straight
    assert second.snapshot() == one.snapshot()


def test_snapshots_of_the_largest_head_are_small() -> None:
    """120 bits, at any time: below 20 kB."""
    made = Made(11, 120)
    big = HeadGeometry(grid(10, 12, 0.05), HEAD.microphones_m[:, :2] * 2.0, 343.0, 12)
    detector = HeadDetector(big, 3, bits_per_pair=99.0)
    largest = 0
    for i in range(5):
        for n, frame in enumerate(made.stroke(silent=[40] if i > 2 else [])):
            list(detector.process(frame))
            if n % 10 == 0:
                largest = max(largest, len(orjson.dumps(detector.snapshot())))
    assert 5_000 < largest < 20_000


def test_wiring_errors() -> None:
    """Wrong messages and settings are refused."""
    with pytest.raises(TypeError, match=FRAME):
        HeadDetector(HEAD).process(Feature("m", ("s",), "other", 0, {}))
    with pytest.raises(ValueError, match="two strokes"):
        HeadDetector(HEAD, 1)
