"""Frames of a drilling head: places and delays, bursts named by their bit, shares of bits, cuts and rebuilds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from operators.head import FRAME, HOP_S, PAST, HeadFrames
from operators.head_bursts import normal
from operators.head_geometry import HeadGeometry, grid
from operators.head_shares import Shares, smoothed
from pipeline.messages import Feature, Float32, Message
from tests.operators.heads import ARRAY, GEOMETRY, RATE, heard, sources
from tests.operators.pieces import cuts, gap, run, segments, stream, tail

FIRST_S = (2 * PAST + 1) * HOP_S


def frames(messages: Sequence[Message]) -> list[Feature]:
    """Those among the messages."""
    return [m for m in messages if isinstance(m, Feature)]


def digest(found: Sequence[Message]) -> list[tuple[int, bool, tuple[tuple[str, float], ...]]]:
    """What features say, comparable to the bit."""
    return sorted((f.t_end_ns, f.complete, tuple(sorted(f.values.items()))) for f in frames(found))


def test_places_give_delays_and_weights() -> None:
    """r/c and 1/r; the weights of a microphone have the sum of squares 1; heights count."""
    head = HeadGeometry(np.array([[0.0, 0.0], [0.3, 0.0]]), np.array([[0.0, 0.4, 0.3], [0.3, 0.4, 0.0]]), 340.0)
    np.testing.assert_allclose(head.distances_m(), [[0.5, 0.5], [np.sqrt(0.34), 0.4]])
    np.testing.assert_allclose(head.delays_s()[0], 0.5 / 340.0)
    np.testing.assert_allclose(np.sum(head.weights() ** 2, axis=0), 1.0)
    assert head.name(1) == "bit 2" and GEOMETRY.name(4) == "bit 5 (row 2, column 2)"
    assert GEOMETRY.pitch_m() == pytest.approx(0.25)
    np.testing.assert_allclose(grid(2, 3, 0.25)[4], [0.25, 0.25])


@pytest.mark.parametrize(
    ("bits", "microphones", "speed", "text"),
    [
        (grid(1, 1, 0.1), [[1.0, 0.0], [0.0, 1.0]], 343.0, "2 to 120 bits"),
        (grid(11, 11, 0.1), [[2.0, 0.0], [0.0, 2.0]], 343.0, "2 to 120 bits"),
        (grid(2, 2, 0.1), [[1.0, 0.0]], 343.0, "2 to 8 microphones"),
        (grid(2, 2, 0.1), [[1.0, 0.0], [1.0, 0.0]], 343.0, "same place"),
        (grid(2, 2, 0.0), [[1.0, 0.0], [0.0, 1.0]], 343.0, "same place"),
        (grid(2, 2, 0.1), [[0.1, 0.0], [0.0, 1.0]], 343.0, "within 2 cm"),
        (grid(2, 2, 0.1), [[1.0, 0.0], [0.0, np.nan]], 343.0, "finite"),
        (grid(2, 2, 0.1), [[-200.0, 0.0], [0.0, 600.0]], 343.0, "more than 10 m"),
        (grid(2, 2, 0.1), [[1.0, 0.0], [0.0, 1.0]], 1500.0, "speed of sound"),
    ],
)
def test_heads_that_cannot_be_are_refused(
    bits: np.ndarray, microphones: list[list[float]], speed: float, text: str
) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=text):
        HeadGeometry(bits, np.array(microphones), speed)


def test_energies_become_normal_values() -> None:
    """Wilson and Hilferty: tail probabilities of chi-square to a tenth of a standard deviation out to 5."""
    for freedom in (16.5, 66.0, 132.0):
        for z in (-2.0, 0.0, 2.0, 4.0, 5.0):
            ratio = stats.chi2.isf(stats.norm.sf(z), freedom) / freedom
            assert float(normal(np.array([ratio]), freedom)[0]) == pytest.approx(z, abs=0.1)


def test_smoothing_is_a_mean_with_repeated_ends() -> None:
    """Against the definition."""
    x = np.random.default_rng(0).random((20, 2))
    wide = np.concatenate([x[:1], x[:1], x, x[-1:], x[-1:]])
    expected = np.stack([wide[i : i + 5].mean(axis=0) for i in range(20)])
    np.testing.assert_allclose(smoothed(x, 2), expected)


@cache
def steady(seconds: float = 1.6, seed: int = 3) -> Float32:
    """Steady cutting of all bits."""
    return heard(sources(seconds, seed), seed=seed)


@given(st.data())
@settings(max_examples=4, deadline=None)
def test_frames_do_not_depend_on_the_cuts(data: st.DataObject) -> None:
    """To the bit, with a gap, and after a rebuild from what the operator says that it needs."""
    x = np.concatenate([steady(), steady(1.2, 4)])
    at = len(steady())
    one, two = x[:at], x[at + 900 :]
    whole: list[Message] = [*segments(ARRAY, one), gap(ARRAY, at, at + 900), *segments(ARRAY, two, n0=at + 900)]
    pieces: list[Message] = [
        *segments(ARRAY, one, data.draw(cuts(len(one)))), gap(ARRAY, at, at + 900),
        *segments(ARRAY, two, data.draw(cuts(len(two))), at + 900),
    ]  # fmt: skip
    straight = run(HeadFrames(ARRAY, GEOMETRY), whole)
    assert sum(not f.complete for f in frames(straight)) == 1
    assert digest(run(HeadFrames(ARRAY, GEOMETRY), pieces)) == digest(straight)
    stop = data.draw(st.integers(1, len(pieces)))
    first = HeadFrames(ARRAY, GEOMETRY)
    before = run(first, pieces[:stop])
    again = run(HeadFrames(ARRAY, GEOMETRY), tail(pieces, first.needs_from()))
    merged = {f.t_end_ns: f for f in (*frames(before), *frames(again))}
    assert digest(list(merged.values())) == digest(straight)


def test_frames_begin_with_full_memory_and_name_their_samples() -> None:
    """Nothing before 17 hops; then one every 50 ms."""
    found = frames(run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, steady())))
    ends = [f.lineage[0].n1 for f in found]
    assert ends[0] == pytest.approx(FIRST_S * RATE, abs=0.03 * RATE)
    assert set(np.diff(ends)) == {round(HOP_S * RATE)}
    assert {f.name for f in found} == {FRAME} and all(f.values["cutting"] == -1.0 for f in found)


@pytest.mark.parametrize("spindle", range(6))
def test_a_burst_is_named_by_its_bit(spindle: int) -> None:
    """4 ms of noise at four times that bit's level: 6 sigma and more, more when steered, nothing before it."""
    dry = sources(1.5, 10 + spindle)
    at = round(1.2 * RATE)
    dry[spindle, at : at + 64] += 4.0 * np.random.default_rng(spindle).standard_normal(64)
    found = frames(run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, heard(dry))))
    best = max(found, key=lambda f: f.values["burst"])
    assert best.values["spindle"] == spindle and best.values["second"] != spindle
    assert best.values["burst"] > 6.0 and best.values["contrast"] > 1.25
    assert best.lineage[0].n0 <= at < best.lineage[0].n1
    assert all(f.values["burst"] < 5.5 for f in found if f.lineage[0].n1 < at)


@pytest.mark.parametrize("bearing", [0.3, 2.0, 4.4])
def test_a_bang_from_afar_stands_out_more_unsteered(bearing: float) -> None:
    """A plane wave passes the microphones in another order than a sound from any bit."""
    x = steady().astype(np.float64)
    late = GEOMETRY.microphones_m[:, :2] @ np.array([np.cos(bearing), np.sin(bearing)]) / 343.0
    f = np.fft.rfftfreq(len(x), 1.0 / RATE)
    bang = np.zeros(len(x))
    bang[round(1.2 * RATE) :][:80] = 30.0 * np.random.default_rng(7).standard_normal(80)
    for m in range(4):
        x[:, m] += np.fft.irfft(np.fft.rfft(bang) * np.exp(-2j * np.pi * f * (late[m] - late.min())), len(x))
    found = frames(run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, x.astype(np.float32))))
    best = max(found, key=lambda one: one.values["burst"])
    assert best.values["outside"] > 10.0
    assert best.values["contrast"] < 1.25


def test_shares_say_which_bit_is_missing() -> None:
    """Free field, exact places: about 1 for bits that cut and 0 for one that does not, within 5 standard errors."""
    fit = Shares(GEOMETRY, RATE)
    silent = 4
    dry = sources(8.0, 5)
    dry[silent] = 0.0
    shares = fit.fit(fit.spectra(heard(dry, 0.0).astype(np.float64)))
    assert int(np.argmin(shares)) == silent
    whole = fit.fit(fit.spectra(heard(sources(8.0, 5), 0.0).astype(np.float64)))
    np.testing.assert_allclose(whole, 1.0, atol=0.35)
    np.testing.assert_allclose(whole[silent] - shares[silent], 1.0, atol=0.35)
    others = [k for k in range(6) if k != silent]
    np.testing.assert_allclose(shares[others], whole[others], atol=0.3)


def test_background_lowers_all_shares_alike() -> None:
    """Independent noise as loud as the cut halves the coherence."""
    fit = Shares(GEOMETRY, RATE)
    x = heard(sources(8.0, 6), 0.0).astype(np.float64)
    noise = np.random.default_rng(1).standard_normal(x.shape) * x.std(axis=0)
    clean, noisy = (np.mean(fit.fit(fit.spectra(one))) for one in (x, x + noise))
    assert noisy / clean == pytest.approx(0.5, abs=0.05)


def test_delays_of_the_largest_head_are_within_the_memory() -> None:
    """What a restart reads again covers the samples that a frame depends on, with a microphone 10 m away."""
    head = HeadGeometry(grid(2, 2, 0.1), np.array([[0.0, -0.05], [0.0, 9.8]]))
    one = HeadFrames(stream(RATE, channels=2, sensor="array"), head)
    run(one, segments(one.stream, np.zeros((2 * RATE, 2), np.float32)))
    (needed,) = one.needs_from().values()
    longest = 2 * PAST * round(HOP_S * RATE) + one._grid.length
    assert needed <= 2 * RATE - 2 * PAST * round(HOP_S * RATE)
    assert longest / RATE <= HeadFrames.memory_s


@pytest.mark.parametrize("dead", [[0, 1, 2, 3], [1]], ids=["array", "one"])
def test_a_microphone_that_was_dead_gives_no_burst(dead: list[int]) -> None:
    """Digital silence for as long as the memory, then sound: all values are numbers, nothing is steered at a bit."""
    x = heard(sources(3.0, 3), seed=3)
    x[round(0.5 * RATE) : round(1.55 * RATE), dead] = 0.0
    found = frames(run(HeadFrames(ARRAY, GEOMETRY), segments(ARRAY, x)))
    assert len(found) > 40
    assert all(np.isfinite(list(f.values.values())).all() for f in found)
    assert not [f for f in found if f.values["burst"] > 5.5 and f.values["contrast"] > 1.0]


def test_wiring_errors() -> None:
    """Channels that are not the microphones, and a rate that leaves no band, are refused in words."""
    with pytest.raises(ValueError, match="has 2 channels, the drilling head 4 microphones"):
        HeadFrames(stream(RATE, channels=2, sensor="array"), GEOMETRY)
    with pytest.raises(ValueError, match="at least 16000 Hz"):
        HeadFrames(stream(8000, channels=4), GEOMETRY)
