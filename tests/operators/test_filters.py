"""Filters against scipy's frequency responses and full-memory filtering; to the bit independent of chunking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import freqz, lfilter, sosfilt, sosfreqz, welch

from operators.filters import Fir, Level, Sos, butterworth, decibels, fir_taps, rms, warm_up
from pipeline.messages import Feature, Gap, Message, Segment, Window
from tests.operators.pieces import ANCHOR, column, contiguous, cuts, gap, joined, run, samples, segments, stream, tail

RATE = 8000
SOURCE = stream(RATE)
NOISE = np.random.default_rng(1).standard_normal((4 * RATE, 1)).astype(np.float32)


@pytest.mark.parametrize(("low", "high"), [(None, 1000.0), (1000.0, None), (500.0, 1500.0)])
def test_measured_response_of_sos(low: float | None, high: float | None) -> None:
    """Welch's ratio of output to input noise is scipy's response within 0.5 dB; -3.01 dB at the edges."""
    sos = butterworth(RATE, low, high, order=4)
    n0, y = joined(run(Sos(SOURCE, sos), segments(SOURCE, NOISE)))
    f, before = welch(NOISE[n0 : n0 + len(y), 0], RATE, nperseg=1024)
    _, after = welch(y[:, 0], RATE, nperseg=1024)
    _, response = sosfreqz(sos, f, fs=RATE)
    expected = 20 * np.log10(np.abs(response) + 1e-12)
    clear = expected > -40
    assert np.max(np.abs(10 * np.log10(after[clear] / before[clear]) - expected[clear])) < 0.5
    for edge in (low, high):
        if edge is not None:
            _, at = sosfreqz(sos, [edge], fs=RATE)
            assert decibels(abs(at[0])) == pytest.approx(-3.01, abs=0.01)
            measured = np.interp(edge, f, 10 * np.log10(after / before))
            assert measured == pytest.approx(-3.01, abs=0.5)


@pytest.mark.parametrize(("low", "high"), [(None, 1000.0), (1000.0, None), (500.0, 1500.0)])
def test_measured_response_of_fir(low: float | None, high: float | None) -> None:
    """-6.02 dB at the edges, flat within 0.01 dB in the band, 80 dB down beyond the transition."""
    taps = fir_taps(RATE, low, high, transition_hz=200)
    f, response = freqz(taps, worN=4000, fs=RATE)
    level = 20 * np.log10(np.abs(response) + 1e-12)
    inside = (f >= (low or -1e9) + 100) & (f <= (high or 1e9) - 100)
    outside = (f <= (low or -1e9) - 100) | (f >= (high or 1e9) + 100)
    assert np.max(np.abs(level[inside])) < 0.01
    assert np.max(level[outside]) < -79
    n0, y = joined(run(Fir(SOURCE, taps), segments(SOURCE, NOISE)))
    g, before = welch(NOISE[n0 : n0 + len(y), 0], RATE, nperseg=2048)
    _, after = welch(y[:, 0], RATE, nperseg=2048)
    for edge in (low, high):
        if edge is not None:
            assert np.interp(edge, f, level) == pytest.approx(-6.02, abs=0.1)
            assert np.interp(edge, g, 10 * np.log10(after / before)) == pytest.approx(-6.02, abs=0.5)


def test_fir_keeps_event_time() -> None:
    """A tone in the band comes out in phase, sample for sample."""
    n = np.arange(RATE)
    x = np.sin(2 * np.pi * 700 * n / RATE)
    n0, y = joined(run(Fir(SOURCE, fir_taps(RATE, 300, 1500, 200)), segments(SOURCE, column(x), range(0, RATE, 37))))
    assert np.max(np.abs(y[:, 0] - x[n0 : n0 + len(y)])) < 2e-4


def test_fir_is_the_convolution() -> None:
    """Equal to direct convolution in double precision to float32 rounding."""
    taps = fir_taps(RATE, None, 800, 150)
    n0, y = joined(run(Fir(SOURCE, taps), segments(SOURCE, NOISE)))
    direct = lfilter(taps, 1, NOISE[:, 0].astype(np.float64))[len(taps) // 2 :]
    assert np.max(np.abs(y[:, 0] - direct[n0 : n0 + len(y)])) < 2e-6


@pytest.mark.parametrize(("low", "high"), [(None, 50.0), (20.0, None), (100.0, 3000.0)])
def test_sos_differs_from_endless_memory_by_rounding(low: float | None, high: float | None) -> None:
    """Restarting from zero with the warm-up discarded stays within -120 dB of the largest sample."""
    sos = butterworth(RATE, low, high)
    n0, y = joined(run(Sos(SOURCE, sos), segments(SOURCE, NOISE)))
    endless = sosfilt(sos, NOISE[:, 0].astype(np.float64))
    assert n0 == warm_up(sos)
    bound = 1e-6 * np.abs(NOISE).max() * 3 + 6e-8 * np.abs(y).max()  # summed magnitude of the responses: below 3
    assert np.max(np.abs(y[:, 0] - endless[n0 : n0 + len(y)])) < bound


def operators() -> list[Fir | Sos]:
    two = stream(RATE, channels=2)
    return [Fir(two, fir_taps(RATE, 300, 1500, 200)), Sos(two, butterworth(RATE, 300, None))]


@settings(max_examples=20, deadline=None)
@given(cuts(4000), cuts(4000), st.integers(0, 1))
def test_chunking_changes_no_bit(first: list[int], second: list[int], which: int) -> None:
    """Any two ways to cut, with a gap between."""
    two = stream(RATE, channels=2)
    x = np.random.default_rng(2).standard_normal((8000, 2)).astype(np.float32)

    def of(at: list[int]) -> list[Message]:
        messages: list[Message] = [
            *segments(two, x[:4000], at),
            gap(two, 4000, 4100),
            *segments(two, x[4100:], at, n0=4100),
        ]
        return run(operators()[which], messages)

    a, b = of(first), of(second)
    assert samples(a) == samples(b)
    assert contiguous(a) and contiguous(b)
    assert [m for m in a if isinstance(m, Gap)] == [m for m in b if isinstance(m, Gap)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 16), st.integers(0, 1))
def test_a_rebuild_goes_on_with_the_same_bits(after: int, which: int) -> None:
    """From what is needed on, the rebuilt operator emits what the other one still had to emit."""
    two = stream(RATE, channels=2)
    x = np.random.default_rng(3).standard_normal((8000, 2)).astype(np.float32)
    messages: list[Message] = [*segments(two, x[:4000], range(0, 4000, 500)), gap(two, 4000, 4100)]
    messages += segments(two, x[4100:], range(0, 4000, 500), n0=4100)
    operator = operators()[which]
    run(operator, messages[:after])
    needs = operator.needs_from()
    rest = run(operator, messages[after:])
    assert samples(rest) == samples(run(operators()[which], tail(messages, needs)))


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (None, None, "needs a lower edge"),
        (0.0, 100.0, "between 0 and half"),
        (100.0, 4000.0, "between 0 and half"),
        (-5.0, None, "between 0 and half"),
        (900.0, 300.0, "must lie below"),
        (float("nan"), None, "between 0 and half"),
    ],
)
def test_edges_are_checked(low: float | None, high: float | None, text: str) -> None:
    """The message names the edge and its bounds."""
    with pytest.raises(ValueError, match=text):
        butterworth(RATE, low, high)
    with pytest.raises(ValueError, match=text):
        fir_taps(RATE, low, high, 10)


def test_other_refusals() -> None:
    """Order, transition, even taps, filters that settle too slowly or never."""
    with pytest.raises(ValueError, match="order"):
        butterworth(RATE, 100, None, order=0)
    for transition in (0.0, 300.0):
        with pytest.raises(ValueError, match="transition"):
            fir_taps(RATE, 100, None, transition)
    with pytest.raises(ValueError, match="odd"):
        Fir(SOURCE, np.ones(4))
    with pytest.raises(ValueError, match="more than its"):
        Sos(SOURCE, butterworth(RATE, 0.5, None))
    with pytest.raises(ValueError, match="stable"):
        warm_up(np.array([[1.0, 0, 0, 1, -2.5, 1]]))
    with pytest.raises(TypeError, match="Segment"):
        Fir(SOURCE, np.ones(3)).process(Window(SOURCE, 0, 1, 0, np.ones((1, 1), np.float32)))


def test_rms_of_a_tone_and_of_nothing() -> None:
    """Amplitude by the root of two; nothing is minus infinity decibels."""
    n = np.arange(1000)
    x = np.stack([3 * np.sin(2 * np.pi * n / 50), np.zeros(1000)], axis=1).astype(np.float32)
    assert rms(x) == pytest.approx([3 / np.sqrt(2), 0], rel=1e-7)
    assert decibels(0) == -np.inf


def test_level_of_windows() -> None:
    """Per channel and over all; a gap gives one incomplete feature for what is lost."""
    two = stream(RATE, channels=2)
    n = np.arange(1000)
    x = np.stack([np.sin(2 * np.pi * n / 50), 2 * np.sin(2 * np.pi * n / 50)], axis=1).astype(np.float32)
    messages: list[Message] = [*segments(two, x, [7, 500]), gap(two, 1000, 1010)]
    operator = Level(two, 200, 200)
    assert operator.needs_from() == {}
    out = run(operator, [*messages, *segments(two, x, n0=1010)])
    assert all(isinstance(m, Feature) and m.name == "level" for m in out)
    features = [m for m in out if isinstance(m, Feature)]
    assert [m.complete for m in features] == [True] * 5 + [False] + [True] * 4
    expected = {"ch0.rms": np.sqrt(0.5), "ch1.rms": np.sqrt(2), "rms": np.sqrt(1.25)}
    assert features[0].values == pytest.approx(expected, rel=1e-6)
    assert features[0].t_end_ns == ANCHOR.at(200, two.rate)
    assert features[5].lineage[0][2:] == (1000, 1200)
    assert operator.needs_from() == {two.key: 2000}
    with pytest.raises(ValueError, match="longer"):
        Level(two, 9000, 1)
    with pytest.raises(TypeError, match="Segment"):
        operator.process(features[0])


def test_segments_carry_the_streams_anchor() -> None:
    """At one rate anchors pass unchanged."""
    out = run(Fir(SOURCE, fir_taps(RATE, 300, None, 200)), segments(SOURCE, NOISE))
    assert {m.anchor for m in out if isinstance(m, Segment)} == {ANCHOR}
    assert {m.stream for m in out if isinstance(m, Segment)} == {SOURCE}
