"""Images against the published recipe (librosa, float64), and the same bits however the stream is cut."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.logmel import LogMel, clip
from operators.mel import DINOS, DRILL, LISTEN, PAPER, FrontEnd, vibration
from operators.melparts import Analysis
from pipeline.messages import Float32, Message, Rate, Stream, Window
from tests.operators import signals
from tests.operators.pieces import ANCHOR, column, cuts, gap, run, segments, stream, tail
from tests.operators.signals import Float64

N = 48_000
SMALL = FrontEnd("small", 2000, 128, 24, 16, 0, 900, 24, 16, "zscore", "max80", clip_samples=600)
"""Blocks of 8 frames, 3 a window, 2 a hop: every case of the large ones, in little time."""
CLIPS = {
    "noise": signals.noise(N, 0.1),
    "noise on a mean": signals.noise(N, 0.01) + 0.4,
    "tone": signals.sine(N, N, 1000, 0.5) + signals.noise(N, 1e-5),
    "hum": signals.sine(N, N, 25, 0.5) + signals.noise(N, 0.01) + 0.1,
    "sweep": signals.chirp(N, N, 20, 20_000, 0.3),
    "clicks": signals.clicks(N, 6000) + signals.noise(N, 1e-4),
    "digital silence": np.zeros(N),
}


def normalised(x: Float64, y: Float64, e: FrontEnd) -> Float64:
    """y with the published waveform normalisation of x."""
    rms = np.sqrt(np.mean(x**2)) + 1e-6
    if e.waveform == "zscore":
        y = (y / rms - np.mean(x / rms)) / (np.std(x / rms) + 1e-6)
    if e.waveform == "listen":
        y = (y / rms - x.mean()) / (x.std(ddof=1) + 1e-6)
    return y


def scaled(power: Float64, e: FrontEnd) -> Float64:
    """The published scaling of Mel power."""
    db: Float64 = 10.0 * np.log10(np.maximum(power, 1e-10))
    if e.scaling == "db":
        return db
    db = np.maximum(db, db.max() - 80.0)
    images: dict[str, Float64] = {
        "max80": (db - db.max() + 80) / 80,
        "dinos": (db + 4.268) / (4.569 + 1e-6),
        "listen": (db + 80) / 160,
    }
    return images[e.scaling]


def mel_power(y: Float64, e: FrontEnd, center: bool) -> Float64:
    """Mel power spectrogram by librosa, as many frames as fit."""
    power: Float64 = librosa.feature.melspectrogram(
        y=y, sr=e.rate_hz, n_fft=e.n_fft, hop_length=e.hop, center=center, pad_mode="reflect", power=2.0,
        n_mels=e.bands, fmin=e.f_min, fmax=e.f_max, htk=True, norm="slaney" if e.mel_norm == "bandwidth" else None,
    )  # fmt: skip
    return power


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("front_end", [PAPER, DINOS, LISTEN], ids=lambda e: e.name)
def test_clip_follows_the_published_recipe(front_end: FrontEnd, name: str) -> None:
    x = CLIPS[name].astype(np.float32)
    got = clip(x, N, front_end).values
    want = scaled(mel_power(normalised(x.astype(float), x.astype(float), front_end), front_end, True), front_end)
    assert got.shape == (128, 128)
    assert got.dtype == np.float32
    assert np.abs(got - want[:, :128]).max() < 1e-3
    if front_end.scaling == "max80":
        assert 0.0 <= got.min() <= got.max() <= 1.0


def test_noise_agrees_to_a_thousandth_of_a_decibel() -> None:
    x = CLIPS["noise"].astype(np.float32)
    want = scaled(mel_power(normalised(x.astype(float), x.astype(float), PAPER), PAPER, True), PAPER)
    assert 80.0 * np.abs(clip(x, N).values - want).max() < 1e-3


@pytest.mark.parametrize("name", ["noise", "tone", "hum", "clicks"])
@pytest.mark.parametrize("gain_db", [-20.0, 20.0])
def test_gain_does_not_show(name: str, gain_db: float) -> None:
    x = CLIPS[name]
    assert np.abs(clip(10 ** (gain_db / 20) * x, N).values - clip(x, N).values).max() < 1e-4


def test_a_constant_does_not_show() -> None:
    x = CLIPS["noise"]
    assert np.abs(clip(x + 0.5, N).values - clip(x, N).values).max() < 1e-4


def test_clips_are_cropped_or_filled_with_zeros() -> None:
    x = signals.noise(60_000, 0.1)
    assert np.array_equal(clip(x, N).values, clip(x[:N], N).values)
    assert np.array_equal(clip(x[:30_000], N).values, clip(np.pad(x[:30_000], (0, 18_000)), N).values)


@pytest.mark.parametrize(("n", "frames"), [(1999, 1), (2000, 1), (4000, 2)])
def test_drill_clips(n: int, frames: int) -> None:
    x = signals.noise(n, 0.1).astype(np.float32)
    got = clip(x, 96_000, DRILL).values
    assert got.shape == (32, frames)
    np.testing.assert_allclose(got, scaled(mel_power(x.astype(float), DRILL, False), DRILL), atol=1e-3)


def test_clips_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 48000 Hz"):
        clip(np.zeros(N), 44_100)
    with pytest.raises(ValueError, match="too few"):
        clip(np.zeros(1998), 96_000, DRILL)
    with pytest.raises(ValueError, match="too few"):
        clip(np.zeros(0), N)


@pytest.mark.parametrize("front_end", [PAPER, LISTEN, vibration(2000.0)], ids=lambda e: e.name)
def test_stream_windows_follow_the_recipe_on_the_grid(front_end: FrontEnd) -> None:
    e = front_end
    start, source = e.window_hop * e.hop, stream(int(e.rate_hz))
    x = (signals.noise(2 * start + e.samples, 0.1) + 0.05).astype(np.float32)
    windows = run(LogMel(source, e), segments(source, column(x)))
    assert [w.n0 for w in windows if isinstance(w, Window)] == [0, start, 2 * start]
    for w in windows:
        assert isinstance(w, Window)
        assert w.n1 == w.n0 + e.samples
        assert w.t_end_ns == ANCHOR.at(w.n1, source.rate)
        y = x[w.n0 : w.n1].astype(float)
        want = scaled(mel_power(normalised(y[: e.frames * e.hop], y, e), e, False), e)
        assert np.abs(w.values - want).max() < 1e-4
        assert w.side["level_db"] == pytest.approx(20 * np.log10(y[: e.frames * e.hop].std()), abs=1e-3)


def images(operator: LogMel, messages: list[Message]) -> dict[tuple[int, int], tuple[bool, int, bytes, object]]:
    """(n0, n1) → bits and side values of each window."""
    out = run(operator, messages)
    return {(w.n0, w.n1): (w.complete, w.t_end_ns, w.values.tobytes(), w.side) for w in out if isinstance(w, Window)}


@settings(max_examples=60, deadline=None)
@given(where=cuts(3000), channels=st.sampled_from([1, 2]), rows=st.booleans(), first=st.integers(0, 900))
def test_cuts_change_no_bit(where: list[int], channels: int, rows: bool, first: int) -> None:
    e = replace(SMALL, channels="rows" if rows else "mean")
    source, x = stream(2000, channels=channels), signals.noise(3000, channels=channels).astype(np.float32)
    whole = images(LogMel(source, e), [*segments(source, x, n0=first)])
    assert len(whole) >= 5
    assert images(LogMel(source, e), [*segments(source, x, where, n0=first)]) == whole


@settings(max_examples=40, deadline=None)
@given(where=cuts(4000), lost=st.integers(0, 3000), length=st.integers(1, 900), stop=st.integers(1, 11))
def test_a_rebuild_gives_the_same_bits(where: list[int], lost: int, length: int, stop: int) -> None:
    source, x = stream(2000), column(signals.noise(4000))
    parts = [*segments(source, x[:lost], where)] if lost else []
    messages: list[Message] = [
        *parts,
        gap(source, lost, lost + length),
        *segments(source, x[lost + length :], where, n0=lost + length),
    ]
    operator = LogMel(source, SMALL)
    before = images(operator, messages[:stop])
    after = images(LogMel(source, SMALL), [*tail(messages, operator.needs_from())])
    whole = images(LogMel(source, SMALL), messages)
    complete = {key: value for key, value in after.items() if value[0]}
    assert complete.items() <= whole.items()
    assert {key for key, value in whole.items() if value[0]} == {
        key for key, value in {**before, **complete}.items() if value[0]
    }


def test_a_gap_is_one_incomplete_window() -> None:
    source, x = stream(2000), column(signals.noise(4000))
    messages: list[Message] = [
        *segments(source, x[:1000]),
        gap(source, 1000, 1500),
        *segments(source, x[1500:], n0=1500),
    ]
    windows = [w for w in run(LogMel(source, SMALL), messages) if isinstance(w, Window)]
    hop, length = 16 * 24, SMALL.samples  # windows of 680 samples, every 384
    assert [(w.n0, w.n1, w.complete) for w in windows] == [
        (0, length, True),
        (hop, 3 * hop + length, False),  # those from 384, 768 and 1152 touch the gap
        *[(k * hop, k * hop + length, True) for k in range(4, 9)],
    ]
    assert windows[1].values.size == 0


def test_channels_as_rows_are_images_of_their_own() -> None:
    x = signals.noise(1500, channels=3).astype(np.float32) * np.array([1.0, 10.0, 0.1], np.float32)
    source, e = stream(2000, channels=3), replace(SMALL, channels="rows")
    window = run(LogMel(source, e), segments(source, x))[0]
    assert isinstance(window, Window)
    assert window.values.shape == (48, 24)
    for c in range(3):
        alone = run(LogMel(stream(2000), SMALL), segments(stream(2000), x[:, c : c + 1]))[0]
        assert isinstance(alone, Window)
        assert np.array_equal(window.values[16 * c : 16 * c + 16], alone.values)
        assert window.side[f"ch{c}_level_db"] == alone.side["level_db"]
    mean = run(LogMel(source, SMALL), segments(source, x))[0]
    same = run(LogMel(stream(2000), SMALL), segments(stream(2000), column(x.astype(float).mean(axis=1))))[0]
    assert isinstance(mean, Window)
    assert isinstance(same, Window)
    assert np.abs(mean.values - same.values).max() < 1e-5
    assert clip(x, 2000, e).values.shape == (48, 24)


def test_blocks_of_any_size_and_any_buffers_agree() -> None:
    """Working memory elsewhere gives the same bits; other blocks the same image but for rounding."""
    source, x = stream(N), column(signals.noise(100_000, 0.1))
    a, b = Analysis(PAPER, True), Analysis(PAPER, True)
    assert a.part(x[: a.samples]).log.tobytes() == b.part(x[: b.samples]).log.tobytes()
    by_hop: dict[int, Float32] = {}
    for hop in (32, 64, 128):
        window = run(LogMel(source, replace(PAPER, window_hop=hop)), segments(source, x))[0]
        assert isinstance(window, Window)
        by_hop[hop] = window.values
    assert max(np.abs(values - by_hop[64]).max() for values in by_hop.values()) < 5e-5
    plain = run(LogMel(source, PAPER, levels=False), segments(source, x))[0]
    assert isinstance(plain, Window)
    assert set(plain.side) == {"level_db", "silent"}
    np.testing.assert_array_equal(plain.values, by_hop[64])


def test_side_values_of_a_sine() -> None:
    x = signals.sine(N, N, 1000, 0.5)
    side = clip(x, N, levels=True).side
    assert side["level_db"] == pytest.approx(20 * np.log10(0.5) - 3.0103, abs=1e-3)
    assert side["octave_1000_db"] == pytest.approx(side["level_db"], abs=0.01)
    assert side["crest"] == pytest.approx(np.sqrt(2), abs=1e-3)
    assert side["kurtosis"] == pytest.approx(1.5, abs=1e-3)
    assert max(side[f"octave_{f}_db"] for f in (63, 125, 4000, 8000, 16_000)) < side["level_db"] - 40


@pytest.mark.parametrize("front_end", [PAPER, LISTEN, vibration(25_600.0)], ids=lambda e: e.name)
def test_octaves_of_white_noise_follow_their_bandwidth(front_end: FrontEnd) -> None:
    """Band power of white noise is sigma² · bandwidth / half the rate."""
    source = stream(int(front_end.rate_hz))
    window = run(LogMel(source, front_end), segments(source, column(signals.noise(front_end.samples, 0.1))))[0]
    assert isinstance(window, Window)
    for f in (250, 1000, 4000, 8000):
        exact = 1000 * 10 ** (0.3 * np.log2(f / 1000))
        share = exact * (10**0.15 - 10**-0.15) / (front_end.rate_hz / 2)
        assert window.side[f"octave_{f}_db"] == pytest.approx(-20 + 10 * np.log10(share), abs=0.8)
    assert window.side["kurtosis"] == pytest.approx(3.0, abs=0.15)


def test_silence_is_flagged() -> None:
    assert clip(signals.noise(N, 0.9e-5), N).side["silent"] == 1.0
    assert clip(signals.noise(N, 1.1e-5), N).side["silent"] == 0.0
    still = clip(np.full(N, 0.25), N, levels=True)
    assert np.isfinite(still.values).all()
    assert still.side["silent"] == 1.0
    assert still.side["level_db"] == -200.0
    assert clip(signals.noise(N, 1.1e-5), N, full_scale=2.0).side["silent"] == 1.0


def test_streams_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has 44100\.0 Hz"):
        LogMel(stream(44_100))
    with pytest.raises(ValueError, match="longer than"):
        LogMel(stream(N), replace(PAPER, frames=256))
    with pytest.raises(TypeError, match="takes Segment and Gap"):
        run(LogMel(stream(N)), run(LogMel(stream(2000), SMALL), segments(stream(2000), column(np.zeros(2000)))))


def test_an_exact_ratio_is_a_rate() -> None:
    source = Stream("m", "s", 0, "vibration", Rate(20_000, 3), 1, "<f4", "m/s2")
    e = vibration(source.rate.hz)
    assert len(run(LogMel(source, e), segments(source, column(signals.noise(20_000))))) >= 3
