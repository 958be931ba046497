"""What is louder than the idle machine and no drill: compressed air, bangs; and a drill that sounds otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from operators.band_levels import apart_db, loss_db, shape_db
from operators.breakage import FRAME, BreakFeatures
from operators.breakage_detector import BREAK, BreakDetector
from pipeline.messages import NS, Anchor, Feature, Rate, Score, Segment, Stream
from tests.operators.simulated import DRILL_HZ, TUNING, between_holes, holes

Bands = tuple[float, float, float, float]
AIR, DRILL, BLAST = (0.01,) * 4, (1.0, 0.5, 0.3, 0.1), (0.02, 0.1, 0.8, 3.0)
PAUSE = [AIR] * 100
GOOD = [*PAUSE, *[DRILL] * 400, *PAUSE]


def told(detector: BreakDetector, levels: Sequence[Bands]) -> list[Score]:
    """What a detector says of frames of these powers by band."""
    out: list[Score] = []
    for k, level in enumerate(levels):
        values = {f"p{i}": power for i, power in enumerate(level)}
        frame = Feature("m", ("s",), FRAME, k * 5_000_000, values | {"energy": 1.0, "crest": 3.0, "cutting": -1.0})
        out += [score for score in detector.process(frame) if isinstance(score, Score)]
    return [score for score in out if score.detector == BREAK]


def taught(drill: Sequence[Bands] = GOOD) -> BreakDetector:
    """One that knows a program."""
    detector = BreakDetector(4)
    told(detector, list(drill) * 5)
    return detector


def added(*sounds: Bands) -> Bands:
    """Powers of several sounds at once."""
    return tuple(np.sum(sounds, axis=0))


@pytest.mark.parametrize("frames", [40, 70, 150, 300])
def test_compressed_air_between_holes_is_no_broken_drill(frames: int) -> None:
    """Of the same level and as long as part of a hole, but unlike it by band."""
    detector = taught()
    found = told(detector, [*PAUSE, *[BLAST] * frames, *PAUSE])
    assert not [score for score in found if score.abnormal]
    assert [s for s in told(detector, [*PAUSE, *[DRILL] * 200, *[(0.03,) * 4] * 200, *PAUSE]) if s.abnormal]
    assert not [s for s in told(detector, GOOD) if s.abnormal]


def test_what_lasts_unlike_a_hole_and_sounds_unlike_one_is_not_learned() -> None:
    """Nor is it another program, however often it comes."""
    detector = taught()
    said = [s.reasons["text"] for s in told(detector, [*PAUSE, *[BLAST] * 150] * 4 + PAUSE)]
    assert sum("unlike the drill's" in text for text in said) == 4
    assert detector._template.ready


def test_compressed_air_within_a_hole_is_no_broken_drill() -> None:
    """Its end is the loss of what never was the drill; a break behind it is one."""
    detector = taught()
    blown = [added(DRILL, tuple(20.0 * power for power in BLAST))] * 60  # type: ignore[arg-type]
    assert not [s for s in told(detector, [*PAUSE, *[DRILL] * 100, *blown, *[DRILL] * 240, *PAUSE]) if s.abnormal]
    broken = [*PAUSE, *[DRILL] * 60, *blown[:30], *[DRILL] * 110, *[(0.03,) * 4] * 200, *PAUSE]
    assert [s for s in told(detector, broken) if s.abnormal]


def test_another_drill_is_known_from_its_third_hole_on() -> None:
    """One that sounds wholly otherwise; until then its break is not told, as it may be anything."""
    detector = taught()
    other = (0.1, 0.1, 0.5, 1.3)
    assert apart_db(shape_db(other), shape_db(DRILL)) > 5.0
    told(detector, [*PAUSE, *[other] * 400] * 2 + PAUSE)
    assert [s for s in told(detector, [*PAUSE, *[other] * 200, *[(0.03,) * 4] * 200, *PAUSE]) if s.abnormal]


def test_shapes_and_losses() -> None:
    """Shares in dB; the loss is that of the majority of the bands that stood out."""
    assert shape_db((1.0, 1.0, 2.0, 0.0)) == pytest.approx([-6.0206, -6.0206, -3.0103, -60.0], abs=1e-4)
    assert apart_db(shape_db((3.0, 6.0)), shape_db((1.0, 2.0))) == pytest.approx(0.0, abs=1e-12)
    assert apart_db([], [1.0]) == 0.0
    idle = [1.0, 1.0, 1.0, 1.0]
    assert loss_db([11.0, 11.0, 1.5, 11.0], [2.0, 11.0, 1.0, 2.0], idle, 0.6) == pytest.approx(10.0)
    assert loss_db(idle, idle, idle, 0.6) == 0.0


@pytest.mark.parametrize("start", [1, 6])
def test_a_simulated_hall_breaks_no_drill(start: int) -> None:
    """Two minutes of bangs, compressed air and warning tones behind four holes, in rooms where it was told before."""
    stream = Stream("m", "s", 0, "acoustic", Rate(DRILL_HZ), 1, "<f4", "FS")
    features, detector, n = BreakFeatures(stream), BreakDetector(), 0
    stops: list[float] = []
    snr_db = 10.0 + 10.0 * (start * 0.37 % 1.0)
    sounds = [made.sound for made in holes(TUNING[8], start, ["none"] * 4, snr_db=snr_db)]
    hall = between_holes(TUNING[8], start, 120.0, snr_db=snr_db)
    for sound in [*sounds, *np.array_split(hall, 120)]:
        frames = features.process(Segment(stream, Anchor(0, 0), n, sound))
        scores = [s for f in frames if isinstance(f, Feature) for s in detector.process(f) if isinstance(s, Score)]
        stops += [s.t_end_ns / NS for s in scores if s.detector == BREAK and s.abnormal]
        n += len(sound)
    assert detector._template.ready and not stops
