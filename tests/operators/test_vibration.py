"""Vibration features against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from operators.vibration import (
    FEATURES,
    VibrationFeatures,
    crest_factor,
    feature_names,
    peak,
    segment_length,
    spectral_kurtosis,
    teager_kaiser,
    vibration_features,
)
from pipeline.messages import Feature, Segment, Window, axis_names
from tests.operators.pieces import ANCHOR, column, stream

N = np.arange(2048)


@pytest.mark.parametrize("w", [0.01, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("phase", [0.0, 1.1])
def test_teager_kaiser_energy_of_a_tone(w: float, phase: float) -> None:
    """A² sin²(w), exactly and for every sample."""
    x = 1.7 * np.sin(w * N + phase)[:, None]
    assert teager_kaiser(x)[0] == pytest.approx((1.7 * np.sin(w)) ** 2, abs=1e-9)
    for at in range(1, 2040, 97):
        assert teager_kaiser(x[at - 1 : at + 2])[0] == pytest.approx((1.7 * np.sin(w)) ** 2, abs=1e-9)


def test_rms_peak_and_crest_of_known_waves() -> None:
    """Sine √2, square 1, silence 0; an offset counts."""
    sine = np.sin(2 * np.pi * 16 * N / 2048)
    square = np.where(N % 2, 1.0, -1.0)
    x = np.stack([3 * sine, square, np.zeros(2048), np.full(2048, -2.0)], axis=1)
    features = vibration_features(x)
    assert features.shape == (4, 5)
    assert features[:, 0] == pytest.approx([3 / np.sqrt(2), 1, 0, 2])
    assert peak(x) == pytest.approx([3, 1, 0, 2])
    assert crest_factor(x) == pytest.approx([np.sqrt(2), 1, 0, 1])


def test_spectral_kurtosis_of_a_tone_is_minus_one() -> None:
    """|X| is the same in every segment: (M+1)/M - 2 times M/(M-1) is -1."""
    for length in (2048, 4096):
        x = np.sin(2 * np.pi * 20 * np.arange(length) / 256)[:, None]
        assert spectral_kurtosis(x)[19, 0] == pytest.approx(-1, abs=1e-9)


def test_spectral_kurtosis_of_one_burst() -> None:
    """Energy in one segment alone: Σ|X|⁴ = (Σ|X|²)², so M/(M-1) · (M - 1) = M."""
    x = np.zeros((2048, 1))
    x[0] = 0
    x[64] = 1.0  # only the first of the 15 segments holds it
    assert spectral_kurtosis(x) == pytest.approx(np.full((127, 1), 15.0))


def test_spectral_kurtosis_of_noise_is_unbiased() -> None:
    """Mean 0 and deviation 0.46 over Gaussian noise (the plain form would be -0.12 and 0.40)."""
    x = np.random.default_rng(0).standard_normal((2048, 200))
    kurtosis = spectral_kurtosis(x)[4:-4]
    assert abs(kurtosis.mean()) < 0.02
    assert kurtosis.std() == pytest.approx(0.46, abs=0.03)


def test_short_windows_use_shorter_segments() -> None:
    """At least seven segments, a power of two long; too short is refused."""
    assert [segment_length(n) for n in (32, 63, 64, 512, 1023, 1024, 100_000)] == [8, 8, 16, 128, 128, 256, 256]
    assert spectral_kurtosis(np.ones((64, 2))).shape == (7, 2)
    with pytest.raises(ValueError, match="32"):
        spectral_kurtosis(np.ones((31, 1)))
    with pytest.raises(ValueError, match="3"):
        teager_kaiser(np.ones((2, 1)))


def test_silence_has_no_kurtosis() -> None:
    """Nothing in, zero out, without a warning."""
    assert np.all(vibration_features(np.zeros((2048, 3))) == 0)


def test_names() -> None:
    """Three channels are axes."""
    assert axis_names(3) == ("x", "y", "z")
    assert axis_names(2) == ("ch0", "ch1")
    assert feature_names(("x", "y", "z"))[:6] == ("x.rms", "x.peak", "x.crest", "x.kurtosis", "x.tkeo", "y.rms")
    assert len(feature_names(axis_names(3))) == 15


def test_operator_names_and_values() -> None:
    """One feature per window; an incomplete window stays incomplete."""
    source = stream(5000, "m/s2", channels=3, modality="vibration")
    x = np.random.default_rng(1).standard_normal((2048, 3)).astype(np.float32)
    operator = VibrationFeatures()
    (got,) = operator.process(Window(source, 512, 2560, 99, x))
    assert isinstance(got, Feature)
    assert (got.machine, got.sensors, got.name, got.t_end_ns) == ("m", ("s",), "vibration", 99)
    assert got.lineage[0] == ("s", 0, 512, 2560)
    assert list(got.values) == list(feature_names("xyz"))
    assert got.values["y.rms"] == pytest.approx(np.sqrt(np.mean(x[:, 1].astype(float) ** 2)), rel=1e-12)
    assert got.values["z.tkeo"] == vibration_features(x)[2, FEATURES.index("tkeo")]
    (lost,) = operator.process(Window(source, 512, 2560, 99, np.empty((0, 0), np.float32), complete=False))
    assert isinstance(lost, Feature) and not lost.complete and not lost.values
    assert operator.needs_from() == {}
    (named,) = VibrationFeatures(["axial"]).process(Window(source, 0, 2048, 1, x[:, :1]))
    assert isinstance(named, Feature) and "axial.crest" in named.values


def test_operator_takes_windows_alone() -> None:
    """Anything else is a wiring error."""
    source = stream(5000)
    with pytest.raises(TypeError, match="Window"):
        VibrationFeatures().process(Segment(source, ANCHOR, 0, column(np.ones(5))))
