"""Bearing lines: geometry, kurtogram, envelope spectra of made signals, faults of simulated motors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, signal

from connectors.simulator.bearing import SKF_6205, Motor, decibels, vibration
from connectors.simulator.seeds import generator
from operators.bearing import FAULTS, BearingLines, Geometry, Spectrum, envelope_spectrum, judge, line_db
from operators.kurtogram import Band, envelope, kurtogram, kurtosis, most_impulsive, widths
from operators.spindle import GivenSpeed
from pipeline.messages import Message, Score
from tests.operators.pieces import cuts, gap, run, segments, stream, tail
from tests.operators.simulated import TUNING
from tests.operators.told import ToldSpeed

RATE = 25_600
GEOMETRY = Geometry(9, 0.2034)
MOTOR = stream(RATE, "m/s2", channels=3, modality="vibration")


def test_rates_of_a_6205() -> None:
    """BPFO 3.585, BPFI 5.415, 2 BSF 4.714, FTF 0.398 per revolution."""
    rates = GEOMETRY.per_revolution()
    assert rates["outer_race"] == pytest.approx(3.585, abs=1e-3)
    assert rates["inner_race"] == pytest.approx(5.415, abs=1e-3)
    assert rates["ball"] == pytest.approx(2 * 2.357, abs=2e-3)
    assert rates["cage"] == pytest.approx(0.398, abs=1e-3)
    assert rates["outer_race"] + rates["inner_race"] == pytest.approx(9)
    assert Geometry(9, 0.2034, np.pi / 3).per_revolution()["outer_race"] > rates["outer_race"]


def test_kurtosis_of_noise_tone_and_pulses() -> None:
    """0 within 2/sqrt(M) times a few, -1, and 1/share - 2 for pulses that fill a share of the time."""
    rng = np.random.default_rng(0)
    c = rng.standard_normal(20_000) + 1j * rng.standard_normal(20_000)
    assert kurtosis(c) == pytest.approx(0, abs=4 * 2 / np.sqrt(20_000))
    assert kurtosis(np.exp(0.3j * np.arange(1000))) == pytest.approx(-1)
    pulses = np.zeros(1000, complex)
    pulses[::50] = 1j
    assert kurtosis(pulses) == pytest.approx(48)
    assert kurtosis(np.zeros(8, complex)) == 0


def test_the_tree_is_binary_by_thirds() -> None:
    """Half the rate by 2, 3, 4, 6, 8, 12, ..."""
    assert [round(12_800 / w) for w in widths(RATE, 400)] == [2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_the_envelope_of_a_band_is_that_of_the_analytic_signal() -> None:
    """Against scipy's Hilbert transform of a band-limited modulated carrier."""
    n = RATE
    t = np.arange(n) / RATE
    x = (1 + 0.5 * np.cos(2 * np.pi * 40 * t)) * np.cos(2 * np.pi * 4000 * t)
    c = envelope(fft.rfft(x), RATE, Band(3200, 4800, 0.0))
    ours = np.abs(c) * 2 * len(c) / n
    truth = np.abs(signal.hilbert(x))
    at = np.round(np.arange(len(c)) * n / len(c)).astype(int) % n
    assert np.allclose(ours, truth[at], atol=0.01)


def test_the_most_impulsive_band_holds_the_resonance() -> None:
    """Impulses through a resonance of 4,200 Hz in noise."""
    rng = np.random.default_rng(1)
    pulses = np.zeros(4 * RATE)
    pulses[:: RATE // 100] = 30
    b, a = signal.iirpeak(4200, 12, fs=RATE)
    x = signal.lfilter(b, a, pulses) + 0.3 * rng.standard_normal(4 * RATE)
    band = most_impulsive(kurtogram(fft.rfft(x), RATE, 400, 500), 4.0)
    assert band.low_hz <= 4300 and band.high_hz >= 4100
    assert band.kurtosis > 0.5


def test_lines_of_a_modulated_carrier() -> None:
    """One line at the modulation, none a few percent away."""
    rng = np.random.default_rng(2)
    t = np.arange(4 * RATE) / RATE
    x = (1 + 0.9 * np.cos(2 * np.pi * 107.3 * t)) * signal.lfilter(
        *signal.iirpeak(5000, 8, fs=RATE), rng.standard_normal(len(t))
    )
    spectrum = envelope_spectrum(x, RATE, 1000)
    assert (line_db(spectrum, 107.3) or 0.0) > 20
    assert (line_db(spectrum, 107.3 * 1.04) or 99.0) < 12
    assert line_db(spectrum, 1e6) is None


def test_the_square_of_the_envelope_does_not_fold() -> None:
    """(1 + m cos wt)² = 1 + m²/2 + 2m cos wt + m²/2 cos 2wt: two lines, the second m/4 of the first, and no third."""
    t = np.arange(4 * 8000) / 8000
    x = (1 + 0.8 * np.cos(2 * np.pi * 500 * t)) * np.cos(2 * np.pi * 2000 * t)
    spectrum = envelope_spectrum(x, 8000, 1333, 1000)
    assert (spectrum.band.low_hz, spectrum.band.high_hz) == pytest.approx((4000 / 3, 8000 / 3))
    first, second = (float(spectrum.p[np.abs(spectrum.f - hz) < 0.1].item()) for hz in (500, 1000))
    assert second / first == pytest.approx(0.2**2, rel=1e-3)
    elsewhere = (np.abs(spectrum.f - 500) > 1) & (np.abs(spectrum.f - 1000) > 1)
    assert spectrum.p[elsewhere].max() < 1e-6 * first  # sampled at the band's width, 1,000 Hz would be at 333 Hz


def test_many_lines_of_noise_do_not_stand_out() -> None:
    """At high speed ±1 % holds a hundred lines, whose largest is no fault: as rare as where it holds eight."""
    rng = np.random.default_rng(7)
    f: Any = np.arange(12_000) * 0.25
    noise = [Spectrum(f, rng.exponential(size=len(f)), Band(0.0, 1.0, 0.0)) for _ in range(300)]
    few, many = (np.mean([(line_db(s, hz) or 0.0) > 8.0 for s in noise]) for hz in (100.0, 1400.0))
    assert many <= few + 0.03
    assert few < 0.1


def test_a_line_below_the_spectrums_resolution_is_no_number_out_of_nothing() -> None:
    """A slow cage has its line between the first two of the spectrum: nothing is around it to compare with."""
    spectrum = envelope_spectrum(np.random.default_rng(0).standard_normal(4 * RATE), RATE, 1000)
    levels = [line_db(spectrum, f) for f in np.arange(0.02, 1.0, 0.01)]
    assert levels[0] is None and levels[-1] is not None
    assert np.isfinite([level for level in levels if level is not None]).all()


def test_judge_wants_the_first_line() -> None:
    """Multiples alone are another fault's."""
    assert judge([1, 29, 3, 20, 4]) == 1
    assert judge([13, 11, 2, 0, 0]) == 11
    assert judge([18, 3, 2, 0, 0]) == 14


def recorded(fault: str | None, snr_db: float, index: int, rpm: float) -> np.ndarray:
    """Four seconds of a simulated motor with a 6205 bearing."""
    motor = Motor.draw(generator(TUNING[3], "test", index), rpm, SKF_6205, TUNING[3] + index, "m")
    faults = {fault: decibels(snr_db)} if fault else {}
    x = vibration(motor, faults, t0_s=50.0 * index, length=4 * RATE, rate_hz=RATE, seed=TUNING[3] + index)  # type: ignore[arg-type]
    return x[: 4 * RATE].astype(np.float32)


def judged(x: np.ndarray, rpm: float) -> dict[str, Score]:
    """Scores by fault."""
    found = run(BearingLines(MOTOR, GEOMETRY, GivenSpeed(rpm)), segments(MOTOR, x))
    return {s.detector.removeprefix("bearing_"): s for s in found if isinstance(s, Score)}


@pytest.mark.parametrize("fault", ["outer_race", "inner_race", "ball"])
@pytest.mark.parametrize("index", range(3))
def test_faults_are_found_in_four_seconds_at_0_db(fault: str, index: int) -> None:
    """Impulses as strong as the noise; no other race is accused."""
    rpm = 900.0 + 700.0 * index
    found = judged(recorded(fault, 0.0, index, rpm), rpm)
    assert found[fault].abnormal
    assert found[fault].reasons["fault_hz"] == pytest.approx(GEOMETRY.per_revolution()[fault] * rpm / 60)
    assert not any(s.abnormal for name, s in found.items() if name not in {fault, "cage"})


@pytest.mark.parametrize("index", range(4))
def test_a_healthy_bearing_is_left_alone(index: int) -> None:
    """Shaft lines, gear mesh and noise."""
    rpm = 1000.0 + 500.0 * index
    assert not any(s.abnormal for s in judged(recorded(None, 0.0, index, rpm), rpm).values())


def digest(found: Sequence[Message]) -> list[tuple[str, float, bool]]:
    """Comparable to the bit."""
    return sorted((s.id, s.value, s.complete) for s in found if isinstance(s, Score))


@given(st.data())
@settings(max_examples=6, deadline=None)
def test_scores_do_not_depend_on_the_cuts(data: st.DataObject) -> None:
    """To the bit, with a gap, and after a rebuild."""
    source = stream(4000, "m/s2", modality="vibration")
    x = np.random.default_rng(0).standard_normal((48_000, 1)).astype(np.float32)
    one, two = x[:26_000], x[26_500:]

    def operator() -> BearingLines:
        return BearingLines(source, GEOMETRY, GivenSpeed(600))

    whole: list[Message] = [*segments(source, one), gap(source, 26_000, 26_500), *segments(source, two, n0=26_500)]
    pieces: list[Message] = [
        *segments(source, one, data.draw(cuts(26_000))), gap(source, 26_000, 26_500),
        *segments(source, two, data.draw(cuts(21_500)), 26_500),
    ]  # fmt: skip
    straight = digest(run(operator(), whole))
    assert digest(run(operator(), pieces)) == straight
    assert any(not complete for _, _, complete in straight)
    first = operator()
    before = run(first, pieces[: (stop := data.draw(st.integers(1, len(pieces))))])
    again = run(operator(), tail(pieces, first.needs_from()))
    merged = {s.id: s for s in (*before, *again) if isinstance(s, Score)}
    assert stop and digest(list(merged.values())) == straight


@pytest.mark.parametrize(
    ("rate", "rpm", "blind"), [(8000, 18_000.0, {"inner_race", "ball"}), (8000, 10.0, {"outer_race", "cage"})]
)
def test_a_fault_that_cannot_be_seen_is_not_called_absent(rate: int, rpm: float, blind: set[str]) -> None:
    """Too fast for the envelope's band, or too slow for four seconds."""
    source = stream(rate, "m/s2", modality="vibration")
    x = np.random.default_rng(3).standard_normal((4 * rate, 1)).astype(np.float32)
    found = run(BearingLines(source, GEOMETRY, GivenSpeed(rpm)), segments(source, x))
    told = {s.detector.removeprefix("bearing_"): s for s in found if isinstance(s, Score)}
    assert {fault for fault, s in told.items() if not s.complete} == blind
    assert all("cannot be seen" in told[fault].reasons["text"] for fault in blind)


@pytest.mark.parametrize("dead", [(0, 1, 2), (0, 2)])
def test_a_torn_cable_is_no_sound_bearing(dead: tuple[int, ...]) -> None:
    """Nothing is judged where all axes are flat, so that an alarm stays; of several axes the living ones are."""
    x = recorded("outer_race", 0.0, 0, 1500.0)
    alive = judged(x, 1500.0)
    x[:, list(dead)] = 0.25
    scores = judged(x, 1500.0)
    assert set(scores) == set(alive)
    if len(dead) == 3:
        assert all(not s.complete and "no signal" in s.reasons["text"] for s in scores.values())
    else:
        assert all(s.complete for s in scores.values())
        assert scores["outer_race"].value > scores["outer_race"].threshold


def test_an_unknown_speed_is_said() -> None:
    """Incomplete scores with the reason."""
    found = run(BearingLines(MOTOR, GEOMETRY, ToldSpeed()), segments(MOTOR, np.ones((4 * RATE, 3), np.float32)))
    assert [s.detector for s in found if isinstance(s, Score)] == [f"bearing_{fault}" for fault in FAULTS]
    assert all(isinstance(s, Score) and not s.complete and s.reasons["speed"] == "missing" for s in found)


def test_impossible_settings() -> None:
    """No bearing has two balls, no lines are found at 1 kHz."""
    with pytest.raises(ValueError, match="rolling elements"):
        BearingLines(MOTOR, Geometry(2, 0.2), GivenSpeed(1000))
    with pytest.raises(ValueError, match="rate"):
        BearingLines(stream(1000), GEOMETRY, GivenSpeed(1000))
