"""Frames of drilling against closed forms, and the break detector on made-up and simulated holes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.breakage import EDGES_HZ, FRAME, BreakFeatures, band_powers, crest, energy_peak
from operators.breakage_detector import BREAK, LOSS_DB, MISSING, WEAR, BreakDetector
from operators.hole_template import Heard, HoleTemplate
from operators.vibration import teager_kaiser
from pipeline.messages import NS, Feature, Message, Score
from tests.operators.pieces import ANCHOR, column, cuts, gap, run, segments, stream, tail
from tests.operators.simulated import DRILL_HZ, TUNING, Drilled, holes

RATE = 48_000
MICROPHONE = stream(RATE)


def test_band_powers_of_sines() -> None:
    """A²/2 in the band of the sine, nearly nothing elsewhere, added over channels."""
    t = np.arange(480) / RATE
    x = column(0.4 * np.sin(2 * np.pi * 4000 * t))
    powers = band_powers(x, RATE)
    assert len(powers) == len(EDGES_HZ) - 1
    assert powers[2] == pytest.approx(0.08, rel=1e-3)
    assert sum(powers[:2]) + sum(powers[3:]) < 1e-6
    assert band_powers(np.hstack([x, x]), RATE)[2] == pytest.approx(0.16, rel=1e-3)
    assert len(band_powers(column(np.ones(160)), 16_000)) == 4


def test_energy_peak_of_a_tone_is_its_teager_kaiser_energy() -> None:
    """A² sin²(w) wherever it is averaged."""
    x = column(0.7 * np.sin(0.3 * np.arange(2400)))
    assert energy_peak(x, 48, 240) == pytest.approx((0.7 * np.sin(0.3)) ** 2, rel=1e-4)
    assert energy_peak(x, 48, 240) == pytest.approx(float(teager_kaiser(x)[0]), rel=1e-4)


def test_crest_of_a_click_in_noise() -> None:
    """The peak of the differences over their RMS; only the last samples are looked at."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2400, 1)).astype(np.float32)
    assert crest(x, 240) < 4.5
    x[2300] += 20
    assert crest(x, 240) > 8
    assert crest(x[:-240], 50) < 4.5
    assert crest(np.zeros((2400, 1), np.float32), 240) == 0


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_frames_do_not_depend_on_the_cuts(data: st.DataObject) -> None:
    """To the bit, with a gap, and after a rebuild."""
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
    straight = run(BreakFeatures(MICROPHONE), whole)
    assert digest(run(BreakFeatures(MICROPHONE), pieces)) == digest(straight)
    stop = data.draw(st.integers(1, len(pieces)))
    first = BreakFeatures(MICROPHONE)
    before = run(first, pieces[:stop])
    merged = {
        f.t_end_ns: f
        for f in (*before, *run(BreakFeatures(MICROPHONE), tail(pieces, first.needs_from())))
        if isinstance(f, Feature)
    }
    assert digest(list(merged.values())) == digest(straight)


def digest(found: Sequence[Message]) -> list[tuple[int, bool, tuple[tuple[str, float], ...]]]:
    """What features say, comparable to the bit."""
    return sorted((f.t_end_ns, f.complete, tuple(sorted(f.values.items()))) for f in found if isinstance(f, Feature))


# made-up holes ---------------------------------------------------------------------------------------------------


def frames(levels: Sequence[float], start: int = 0, **more: float) -> list[Feature]:
    """Frames of given power, alike in three bands."""
    made = []
    for k, level in enumerate(levels):
        values = {"p0": level, "p1": level, "p2": level, "energy": level, "crest": 3.0, "cutting": -1.0} | more
        made.append(Feature("m", ("s",), FRAME, (start + k) * 5_000_000, values))
    return made


def program(detector: BreakDetector, levels: Sequence[Sequence[float]]) -> list[Score]:
    """Scores of holes one after the other."""
    made = frames([level for hole in levels for level in hole])
    return [s for f in made for s in detector.process(f) if isinstance(s, Score)]


AIR = [0.01] * 100
GOOD = [*AIR, *[1.0] * 400, *AIR]


def broken(at: int, left: float = 0.03) -> list[float]:
    """A hole that loses its cutting noise after so many frames."""
    return [*AIR, *[1.0] * at, *[left] * (400 - at), *AIR]


def abnormal(found: Sequence[Score], detector: str = BREAK) -> list[Score]:
    """Those above their threshold."""
    return [s for s in found if s.detector == detector and s.abnormal]


def test_a_loss_within_the_hole_is_a_break() -> None:
    """Once, within 200 ms, with what was lost; a whole hole is none."""
    detector = BreakDetector(4)
    assert not abnormal(program(detector, [GOOD] * 6))
    (found,) = abnormal(program(detector, [broken(200)]))
    assert (found.t_end_ns / 5_000_000 - 300) * 0.005 < 0.2
    assert found.value > LOSS_DB
    assert "no burst heard" in found.reasons["text"]
    assert not abnormal(program(detector, [GOOD] * 3))


def test_a_burst_before_the_loss_is_said() -> None:
    """And allows a decision nearer to the end."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    made = frames(broken(250))
    made[350].values["energy"], made[350].values["crest"] = 50.0, 9.0  # type: ignore[index]
    found = [s for f in made for s in detector.process(f) if isinstance(s, Score)]
    assert abnormal(found)[0].reasons["burst"] is True


def test_nothing_is_judged_before_the_template_is_taught() -> None:
    """The score says how many holes are missing."""
    detector = BreakDetector(4)
    found = program(detector, [GOOD, broken(200), GOOD])
    assert not abnormal(found)
    assert any(not s.complete and "not commissioned" in s.reasons["text"] for s in found)


def test_another_program_teaches_anew() -> None:
    """Two holes of another length in a row begin the template again."""
    template = HoleTemplate(3)
    for length in (400, 410, 700, 405):  # one odd hole is passed over
        template.learn(Heard(length, length, 0.0, 0.0, [0.0] * 80, []))
    assert template.ready
    other = HoleTemplate(3)
    for length in (400, 700, 710):
        other.learn(Heard(length, length, 0.0, 0.0, [0.0] * 80, []))
    assert not other.ready and other.holes == 2
    assert template.unlike(700) and not template.unlike(410)


def test_noise_between_the_holes_does_not_stop_the_teaching() -> None:
    """Bangs that are alike, more of them than holes; they last a tenth as long, and are no program of their own."""
    detector = BreakDetector(4)
    bang = [*AIR[:60], *[1.0] * 70, *AIR[:60]]
    said = [s.reasons["text"] for s in program(detector, [bang, bang, GOOD, bang, bang, bang] * 3 + [GOOD])]
    assert said[-1] == "no hole" and "not commissioned: 3 of 4 good holes learned" in said
    assert abnormal(program(detector, [broken(200)]))
    only = BreakDetector(4)
    program(only, [GOOD, *[bang] * 3])  # three bangs and a hole: neither is taught
    program(only, [bang])
    assert not only._template.ready  # four bangs last less than the hole
    again = BreakDetector(4)
    again.restore(json.loads(json.dumps(only.snapshot())))
    assert again.snapshot() == only.snapshot() and again._template.holes == 1


def test_a_slow_loss_leaves_the_tube() -> None:
    """Too slow for a loss against the last 400 ms, but far below what good holes are here."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    fading = [10 ** (-k / 80) for k in range(250)]
    found = abnormal(program(detector, [[*AIR, *[1.0] * 100, *fading, *AIR]]))
    assert found


def test_what_the_machine_stops_is_no_break() -> None:
    """The operating state ends the hole."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    made = [*frames([*AIR, *[1.0] * 200]), *frames([0.01] * 200, 300, cutting=0.0)]
    assert not abnormal([s for f in made for s in detector.process(f) if isinstance(s, Score)])


def test_a_faint_hole_and_wear_are_advised() -> None:
    """7 dB below the template: missing or broken tool; a level that rises hole by hole: wear."""
    faint = [*AIR, *[0.2] * 400, *AIR]
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    (found,) = abnormal(program(detector, [faint]), MISSING)
    assert found.value == pytest.approx(10 * np.log10(0.99 / 0.19), abs=1.5)  # the idle level follows a little
    rising = [[*AIR, *[1.0 * 10 ** (0.1 * k)] * 400, *AIR] for k in range(1, 7)]
    worn = BreakDetector(4)
    program(worn, [GOOD] * 5)
    assert abnormal(program(worn, rising), WEAR)


def test_a_new_drill_takes_wear_back() -> None:
    """After however many worn holes."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    assert abnormal(program(detector, [[*AIR, *[2.0] * 400, *AIR]] * 30), WEAR)
    fresh = [s for s in program(detector, [GOOD] * 20) if s.detector == WEAR]
    assert not fresh[-1].abnormal


def test_coolant_that_is_switched_on_is_no_endless_hole() -> None:
    """After 30 s it is the idle machine, and breaks are told again."""
    detector = BreakDetector(4)
    program(detector, [GOOD] * 5)
    wet = [level + 0.3 for hole in [GOOD] * 12 for level in hole]
    said = [s.reasons["text"] for s in program(detector, [wet])]
    assert "louder for longer than any hole: taken for the idle machine" in said
    program(detector, [[level + 0.3 for level in GOOD]] * 2)
    assert abnormal(program(detector, [[level + 0.3 for level in broken(200)]]))


def test_a_program_of_holes_of_a_minute_is_learned_anew() -> None:
    """The first of them passes for coolant, the second does not."""
    detector = BreakDetector(2)
    program(detector, [GOOD] * 3)
    long = [*AIR, *[1.0] * 12_000, *AIR]
    program(detector, [long] * 4)
    assert abnormal(program(detector, [[*AIR, *[1.0] * 600, *[0.03] * 11_400, *AIR]]))


@pytest.mark.parametrize("seconds", [6.0, 20.0, 30.0])
def test_long_holes_are_judged_to_their_end(seconds: float) -> None:
    """A break at four fifths is found, a hole that ends there twice is another program, none after good ones."""
    whole = round(200 * seconds)
    detector = BreakDetector(2)
    good, place = [*AIR, *[1.0] * whole, *AIR], whole * 4 // 5
    assert not abnormal(program(detector, [good] * 4))
    torn = [*AIR, *[1.0] * place, *[0.03] * (whole - place), *AIR]
    (found,) = abnormal(program(detector, [torn]))
    assert found.reasons["into_hole_s"] == pytest.approx(place * 0.005, abs=0.2)
    assert not abnormal(program(detector, [good] * 2))
    shorter = [*AIR, *[1.0] * place, *AIR]
    said = [s.reasons["text"] for s in program(detector, [shorter] * 2)]
    assert any("two holes ended here without a burst" in text for text in said)


def test_missing_samples_are_said() -> None:
    """The hole under way is forgotten."""
    (score,) = BreakDetector().process(Feature("m", ("s",), FRAME, 5, {}, complete=False))
    assert isinstance(score, Score) and not score.complete


# simulated holes -------------------------------------------------------------------------------------------------


@cache
def drilled(start: int) -> tuple[Drilled, ...]:
    """Four good holes to learn, then a fracture and a good hole, of the tuning set."""
    faults = ["none"] * 4 + ["fracture", "none"]
    return tuple(holes(TUNING[2], start, faults, snr_db=14.0))  # type: ignore[arg-type]


@cache
def heard(start: int) -> tuple[Feature, ...]:
    """Their frames."""
    source = stream(DRILL_HZ)
    x = np.concatenate([hole.sound for hole in drilled(start)])
    return tuple(f for f in run(BreakFeatures(source), segments(source, x)) if isinstance(f, Feature))


@pytest.mark.parametrize("start", range(2))
def test_simulated_fractures_are_found_in_time(start: int) -> None:
    """Within 200 ms, and no whole hole is stopped, through room and microphone."""
    detector = BreakDetector(4)
    found = abnormal([s for f in heard(start) for s in detector.process(f) if isinstance(s, Score)])
    (broke,) = [(k, hole) for k, hole in enumerate(drilled(start)) if hole.break_s is not None]
    assert broke[1].break_s is not None
    (when,) = [(s.t_end_ns - ANCHOR.t_ns) / NS for s in found]
    assert 0 <= when - (3.0 * broke[0] + broke[1].break_s) <= 0.2


@pytest.mark.parametrize("stop", [3, 700, 2650, 3100])
def test_a_restored_detector_goes_on_alike(stop: int) -> None:
    """Through JSON, in the air and within a hole, small, and with the same scores."""
    made = heard(0)

    def scores(detector: BreakDetector, part: Sequence[Feature]) -> list[tuple[str, float, object]]:
        return [(s.id, s.value, s.reasons) for f in part for s in detector.process(f) if isinstance(s, Score)]

    one, first = BreakDetector(4), BreakDetector(4)
    straight = scores(one, made)
    head = scores(first, made[:stop])
    saved = orjson.dumps(first.snapshot())
    assert len(saved) < 20_000
    second = BreakDetector(4)
    second.restore(orjson.loads(saved))
    assert [*head, *scores(second, made[stop:])] == straight
    assert second.snapshot() == one.snapshot()


def test_wiring_errors() -> None:
    """Wrong messages and settings are refused."""
    with pytest.raises(TypeError, match="drill_frame"):
        BreakDetector().process(Feature("m", ("s",), "other", 0, {}))
    with pytest.raises(ValueError, match="rate"):
        BreakFeatures(stream(2000))
    with pytest.raises(ValueError, match="two holes"):
        BreakDetector(1)
