"""Levels against closed forms and scipy.stats, and the same bits however the stream is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.levels import (
    OCTAVES,
    Levels,
    Moments,
    WindowLevels,
    decibels,
    full_scale,
    mean_of,
    merge,
    moments,
    octave_bank,
)
from operators.logmel import LogMel
from pipeline.messages import Feature, Message, Rate, Stream, Window
from tests.operators import signals
from tests.operators.pieces import ANCHOR, column, cuts, gap, run, segments, stream, tail

N = 48_000


def measured(x: NDArray[np.float64]) -> Moments:
    y = x.astype(np.float32)
    mean = mean_of(y)
    return moments(y - np.float32(mean), mean, np.empty_like(y))


def level(x: NDArray[np.float64], rate: int = N) -> dict[str, float]:
    """The features of the first window."""
    source = stream(rate)
    feature = run(Levels(source), segments(source, column(x)))[0]
    assert isinstance(feature, Feature)
    return dict(feature.values)


@pytest.mark.parametrize("f", [125, 250, 500, 1000, 2000, 4000, 8000, 16_000])
def test_a_sine_has_its_level_in_its_octave(f: int) -> None:
    got = level(signals.sine(24_000, N, f, 0.5) + 0.2)
    assert got["level_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert got["rms"] == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert got["mean"] == pytest.approx(0.2, abs=5e-3)  # 125 Hz ends in mid-period
    assert got[f"octave_{f}_db"] == pytest.approx(got["level_db"], abs=0.1)
    assert got["kurtosis"] == pytest.approx(1.5, abs=1e-2)
    assert got["silent"] == 0.0
    others = [got[f"octave_{g}_db"] for g in OCTAVES if g not in (f // 2, f, 2 * f, 63)]
    assert max(others) < got["level_db"] - 50


def test_square_wave_and_clicks() -> None:
    got = level(signals.square(24_000, 100, 0.3))
    assert got["crest"] == pytest.approx(1.0, abs=1e-5)
    assert got["kurtosis"] == pytest.approx(1.0, abs=1e-5)
    assert got["rms"] == pytest.approx(0.3, rel=1e-6)
    x = signals.clicks(24_000, 1200, 0.5)
    got, p = level(x), 1 / 1200  # a Bernoulli variable: var p(1-p), kurtosis 1/(p(1-p)) - 3
    assert got["crest"] == pytest.approx(np.sqrt((1 - p) / p), rel=1e-4)
    assert got["kurtosis"] == pytest.approx(1 / (p * (1 - p)) - 3, rel=1e-4)


@pytest.mark.parametrize("sizes", [(1000, 1000), (1, 7), (5000, 300), (20_000, 24_064)])
def test_joined_moments_are_those_of_all_samples(sizes: tuple[int, int]) -> None:
    x = signals.noise(sum(sizes)) ** 3 + 0.7
    x[: sizes[0]] += 0.5
    got = measured(x[: sizes[0]]).join(measured(x[sizes[0] :]))
    y = x.astype(np.float32).astype(float)
    assert got.n == len(y)
    assert got.mean == pytest.approx(y.mean(), rel=1e-5)
    assert got.std == pytest.approx(y.std(), rel=1e-5)
    assert got.rms == pytest.approx(np.sqrt(np.mean(y**2)), rel=1e-5)
    assert got.m3 / len(y) == pytest.approx(scipy.stats.moment(y, 3), rel=1e-4)
    assert got.kurtosis == pytest.approx(scipy.stats.kurtosis(y, fisher=False), rel=1e-4)
    assert got.crest == pytest.approx(np.abs(y - y.mean()).max() / y.std(), rel=1e-4)


@pytest.mark.parametrize(("rate", "n_fft", "first", "last"), [(48_000, 2048, 63, 16_000), (5000, 640, 63, 1000)])
def test_octaves_share_out_the_lines(rate: int, n_fft: int, first: int, last: int) -> None:
    names, weights = octave_bank(rate, n_fft)
    assert names[0] == f"octave_{first}_db"
    assert names[-1] == f"octave_{last}_db"
    unit = weights.max()
    assert (weights >= 0).all()
    assert weights.sum(axis=0).max() == pytest.approx(unit)  # no line counts twice
    assert (weights[:, :2] == 0).all()  # a mean value shows nowhere
    widths = weights.sum(axis=1) / unit * rate / n_fft
    want = [1000 * 10 ** (0.3 * OCTAVES[int(name.split("_")[1])]) * (10**0.15 - 10**-0.15) for name in names]
    np.testing.assert_allclose(widths, want, rtol=1e-9)


def test_full_scale_is_that_of_the_code() -> None:
    def of(dtype: str, unit: str, scale: float) -> float:
        return full_scale(Stream("m", "s", 0, "vibration", Rate(1000), 1, dtype, unit, scale)).full

    assert of("<i2", "FS", 2.0**-15) == 1.0
    assert of("<i2", "m/s2", 0.01) == pytest.approx(327.68)
    assert of("<i4", "FS", 2.0**-31) == 1.0
    assert of("<i4", "mg", 1.0) == of("<i4", "Pa", 2.0**-30) == 1.0  # relative to one unit
    assert of("<f4", "Pa", 20.0) == 20.0
    assert of("<f4", "Pa", 1.0) == 1.0
    assert decibels(0.25, 0.5) == pytest.approx(0.0)
    assert decibels(0.0, 1.0) == decibels(1e-30, 1.0) == -200.0


def test_silence_is_flagged_and_finite() -> None:
    got = level(np.full(24_000, 0.25))
    assert got["silent"] == 1.0
    assert got["level_db"] == got["octave_1000_db"] == -200.0
    assert level(np.full(24_000, 0.1))["level_db"] < -120  # what float32 leaves of the mean
    assert np.isfinite(list(got.values())).all()


@pytest.mark.parametrize(
    ("dtype", "unit", "scale", "std", "silent"),
    [
        ("<i4", "mg", 1.0, 100.0, False),  # counts of a 12-bit converter in 32 bits
        ("<i4", "FS", 2.0**-31, 0.9e-5, True),
        ("<i2", "mg", 1.0, 0.3, True),  # less than one code
        ("<f4", "m", 1.0, 5e-6, False),  # a displacement of 5 µm
        ("<f4", "m/s2", 1.0, 0.0, True),
        ("<f4", "FS", 1.0, 0.9e-5, True),
    ],
)
def test_silence_needs_a_full_scale_or_a_constant(
    dtype: str, unit: str, scale: float, std: float, silent: bool
) -> None:
    source = Stream("m", "s", 0, "vibration", Rate(N), 1, dtype, unit, scale)
    for mean in (0.0, 9.81):
        x = (signals.noise(N // 2, 1.0) * std + (mean if unit != "FS" else 0.0)).astype(np.float32)
        got: Any = run(Levels(source), segments(source, x[:, None]))[0]
        assert got.values["silent"] == float(silent or (mean > 0.0 and std < 9e-5)), mean


def test_channels_are_named_and_joined() -> None:
    source = stream(N, channels=2)
    x = np.stack([signals.sine(24_000, N, 500, 0.5), np.zeros(24_000)], axis=1).astype(np.float32)
    feature = run(Levels(source), segments(source, x))[0]
    assert isinstance(feature, Feature)
    assert feature.values["ch0_rms"] == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    assert (feature.values["ch0_silent"], feature.values["ch1_silent"], feature.values["silent"]) == (0.0, 1.0, 1.0)
    assert feature.values["level_db"] == pytest.approx(feature.values["ch0_level_db"] - 10 * np.log10(2), abs=1e-6)
    assert merge([{"level_db": -3.0, "silent": 0.0}]) == {"level_db": -3.0, "silent": 0.0}


@settings(max_examples=40, deadline=None)
@given(where=cuts(3000), first=st.integers(0, 500), hop=st.sampled_from([200, 512, 700]))
def test_cuts_change_no_bit(where: list[int], first: int, hop: int) -> None:
    source, x = stream(1000), column(signals.noise(3000))

    def features(pieces: list[Message]) -> list[tuple[object, ...]]:
        out = run(Levels(source, 512, hop, 64), pieces)
        return [(f.t_end_ns, f.lineage, f.values) for f in out if isinstance(f, Feature)]

    whole = features([*segments(source, x, n0=first)])
    assert len(whole) >= 3
    assert features([*segments(source, x, where, n0=first)]) == whole


def test_gap_and_rebuild() -> None:
    source, x = stream(1000), column(signals.noise(3000))
    messages: list[Message] = [
        *segments(source, x[:900], [400, 700]),
        gap(source, 900, 950),
        *segments(source, x[950:], n0=950),
    ]
    whole = [f for f in run(Levels(source, 500, 250, 64), messages) if isinstance(f, Feature)]
    lost = [f for f in whole if not f.complete]
    assert [(f.lineage[0].n0, f.lineage[0].n1, dict(f.values)) for f in lost] == [(500, 1250, {})]
    assert lost[0].t_end_ns == ANCHOR.at(1250, source.rate)
    operator = Levels(source, 500, 250, 64)
    before = run(operator, messages[:2])
    after = run(Levels(source, 500, 250, 64), tail(messages, operator.needs_from()))
    again = [f for f in [*before, *after] if isinstance(f, Feature)]
    assert [(f.lineage, f.values) for f in again] == [(f.lineage, f.values) for f in whole]


def test_window_levels_repeat_what_the_log_mel_kept() -> None:
    source, x = stream(N), column(signals.noise(60_000, 0.1))
    window = run(LogMel(source), segments(source, x))[0]
    assert isinstance(window, Window)
    (feature,) = WindowLevels(source).process(window)
    assert isinstance(feature, Feature)
    assert (feature.machine, feature.sensors, feature.name) == ("m", ("s",), "level")
    assert feature.values == window.side
    assert (feature.t_end_ns, feature.lineage, feature.complete) == (window.t_end_ns, (window.span,), True)
    direct = run(Levels(source, 48_128), segments(source, x))[0]
    assert isinstance(direct, Feature)
    assert set(direct.values) == set(feature.values)
    for name, value in feature.values.items():
        assert direct.values[name] == pytest.approx(value, abs=0.5 if "octave" in name else 1e-3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold"):
        Levels(stream(N), 2000)
    with pytest.raises(ValueError, match="must hold"):
        Levels(stream(N), 3 * N)
    with pytest.raises(TypeError, match="takes Segment and Gap"):
        run(Levels(stream(N)), run(LogMel(stream(N)), segments(stream(N), column(np.zeros(60_000)))))
    with pytest.raises(TypeError, match="takes Window"):
        run(WindowLevels(stream(N)), segments(stream(N), column(np.zeros(100))))
