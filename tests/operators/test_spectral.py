"""Spectra against scipy.signal, thresholds against their definition, and the same bits however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.spectral import Frames, Stft, band_power, mix, pack, soft_threshold, stft_clip, welch
from pipeline.messages import Float32, Message, Window
from tests.operators import signals
from tests.operators.pieces import ANCHOR, column, cuts, gap, run, segments, stream, tail

RATE = 16_000


def magnitude(x: NDArray[np.floating], n_fft: int, centred: bool) -> NDArray[np.float64]:
    """|STFT| of scipy: periodic Hann, half overlap, divided by the window's sum."""
    z = scipy.signal.stft(
        x.astype(float), window="hann", nperseg=n_fft, noverlap=n_fft // 2,
        boundary="even" if centred else None, padded=False,
    )[2]  # fmt: skip
    result: NDArray[np.float64] = np.abs(z)
    return result


def decibels(m: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 20.0 * np.log10(m + 1e-6)
    return result


@pytest.mark.parametrize(("n_fft", "count"), [(64, 12), (63, 64), (2048, 64), (2048, 22), (1999, 2)])
def test_bands_are_weighted_sums_of_the_power_spectrum(n_fft: int, count: int) -> None:
    frames = Frames(n_fft, n_fft // 3, count)
    frames.x[:] = signals.noise(frames.samples)
    weights = np.abs(signals.noise(n_fft // 2 + 1, channels=5)).T
    powers, line = frames.bands(pack(weights, n_fft))
    window = scipy.signal.get_window("hann", n_fft)
    framed = [frames.x[k * (n_fft // 3) :][:n_fft] * window for k in range(count)]
    want = np.fft.rfft(np.array(framed, float), axis=1).T
    np.testing.assert_allclose(powers, weights @ np.abs(want) ** 2, rtol=1e-5)
    np.testing.assert_allclose(line[0] + 1j * line[1], want[1], atol=1e-4)
    np.testing.assert_allclose(frames.spectrum(), want, atol=1e-4)


def test_a_sine_on_a_line_has_half_its_amplitude() -> None:
    values = stft_clip(column(signals.sine(32_000, RATE, 1000, 0.5)), threshold=None)
    assert values.shape == (1025, 32)
    assert values.dtype == np.float32
    assert values[128, 4:28] == pytest.approx(20 * np.log10(0.25), abs=1e-3)


@pytest.mark.parametrize("n", [32_000, 31_999, 5000])
def test_clip_equals_scipy(n: int) -> None:
    x = (signals.noise(n, 0.1) + signals.chirp(n, RATE, 100, 7000, 0.5)).astype(np.float32)
    np.testing.assert_allclose(stft_clip(x, threshold=None), decibels(magnitude(x, 2048, True)), atol=0.05)


def test_stream_windows_equal_scipy_on_the_grid() -> None:
    source, x = stream(RATE), column(signals.noise(60_000, 0.1))
    windows = [w for w in run(Stft(source, threshold=None), segments(source, x)) if isinstance(w, Window)]
    assert [w.n0 for w in windows] == [0, 8192, 16_384, 24_576]
    for w in windows:
        assert (w.n1 - w.n0, w.values.shape) == (33_792, (1025, 32))
        assert w.t_end_ns == ANCHOR.at(w.n1, source.rate)
        np.testing.assert_allclose(w.values, decibels(magnitude(x[w.n0 : w.n1, 0], 2048, False)), atol=0.05)


def test_threshold_is_median_plus_three_scaled_deviations() -> None:
    m = np.abs(signals.noise(40, channels=33)).astype(np.float32)
    m[7, 5] = 30.0
    deviation = scipy.stats.median_abs_deviation(m, axis=1, scale="normal")
    want = np.maximum(m - (np.median(m, axis=1) + 3 * deviation)[:, None], 0.0)
    np.testing.assert_allclose(soft_threshold(m, 3.0), want, atol=1e-4)
    assert soft_threshold(m, 3.0)[7, 5] > 20.0


def test_threshold_keeps_what_stands_out_and_drops_the_steady() -> None:
    x = signals.sine(32_000, RATE, 1000, 0.5) + signals.noise(32_000, 1e-3)
    x[16_000:16_200] += signals.sine(200, RATE, 3000, 0.5)
    values = stft_clip(column(x))
    assert values[128].max() < -60  # the steady tone
    assert values[384, 14:17].max() > -40  # the burst


@settings(max_examples=40, deadline=None)
@given(where=cuts(2000), channels=st.sampled_from([1, 2]), first=st.integers(0, 300))
def test_cuts_change_no_bit(where: list[int], channels: int, first: int) -> None:
    source, x = stream(1000, channels=channels), signals.noise(2000, channels=channels).astype(np.float32)

    def bits(messages: list[Message]) -> list[tuple[int, int, bytes]]:
        out = run(Stft(source, 64, 9, 6), messages)
        return [(w.n0, w.t_end_ns, w.values.tobytes()) for w in out if isinstance(w, Window)]

    whole = bits([*segments(source, x, n0=first)])
    assert len(whole) >= 7
    assert bits([*segments(source, x, where, n0=first)]) == whole


def test_gap_and_rebuild() -> None:
    source, x = stream(1000), column(signals.noise(3000))
    messages: list[Message] = [
        *segments(source, x[:900], [400, 700]),
        gap(source, 900, 950),
        *segments(source, x[950:], n0=950),
    ]
    whole = [w for w in run(Stft(source, 64, 9, 6), messages) if isinstance(w, Window)]
    assert [(w.n0, w.n1) for w in whole if not w.complete] == [
        (4 * 192, 4 * 192 + 320)
    ]  # those from 768 on touch the gap
    operator = Stft(source, 64, 9, 6)
    before = run(operator, messages[:2])
    after = run(Stft(source, 64, 9, 6), tail(messages, operator.needs_from()))
    again = [w for w in [*before, *after] if isinstance(w, Window)]
    assert [(w.n0, w.complete, w.values.tobytes()) for w in again] == [
        (w.n0, w.complete, w.values.tobytes()) for w in whole
    ]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="even n_fft"):
        Stft(stream(RATE), 2047)
    with pytest.raises(ValueError, match="longer than"):
        Stft(stream(8000))
    with pytest.raises(TypeError, match="takes Segment and Gap"):
        run(Stft(stream(RATE)), run(Stft(stream(RATE)), segments(stream(RATE), column(np.zeros(40_000)))))


def test_mix_is_the_mean_of_the_channels() -> None:
    x = signals.noise(100, channels=3).astype(np.float32)
    out: Float32 = np.empty(100, np.float32)
    mix(x, out)
    np.testing.assert_allclose(out, x.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("n_fft", [256, 255])
@pytest.mark.parametrize("detrend", ["constant", "none"])
@pytest.mark.parametrize("channels", [None, 2])
def test_welch_equals_scipy(n_fft: int, detrend: str, channels: int | None) -> None:
    x = signals.noise(5000, 0.3, channels=channels) + 0.2
    f, got = welch(x, 5000.0, n_fft, detrend)  # type: ignore[arg-type]
    want_f, want = scipy.signal.welch(
        x, 5000.0, window="hann", nperseg=n_fft, detrend=False if detrend == "none" else detrend, axis=0
    )
    np.testing.assert_allclose(f, want_f, rtol=1e-12)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-18)


def test_band_power_of_a_sine_is_half_its_square() -> None:
    f, density = welch(signals.sine(20_000, 5000, 400, 3.0), 5000.0, 1000)
    assert band_power(density, f, 350, 450) == pytest.approx(4.5, rel=1e-6)
    assert band_power(density, f, 500, 2500) < 1e-9
    with pytest.raises(ValueError, match="do not fill"):
        welch(np.zeros(99), 5000.0, 100)
