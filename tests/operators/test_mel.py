"""Filter banks against librosa, the published band counts, and what a hash depends on."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import librosa
import numpy as np
import pytest

from operators.mel import (
    DINOS,
    DRILL,
    LISTEN,
    PAPER,
    FrontEnd,
    band_slice,
    bank,
    centres,
    hz_to_mel,
    mel_bank,
    mel_to_hz,
    preset,
    vibration,
)


@pytest.mark.parametrize(
    "front_end", [PAPER, LISTEN, DRILL, vibration(5000.0), vibration(25_600.0)], ids=lambda f: f.name
)
def test_bank_equals_librosa(front_end: FrontEnd) -> None:
    want = librosa.filters.mel(
        sr=front_end.rate_hz, n_fft=front_end.n_fft, n_mels=front_end.bands, fmin=front_end.f_min,
        fmax=front_end.f_max, htk=True, norm="slaney" if front_end.mel_norm == "bandwidth" else None,
    )  # fmt: skip
    got = bank(front_end)
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got.toarray(), want, atol=1e-6 * want.max())


def test_the_scale_is_that_of_htk() -> None:
    assert hz_to_mel(np.array([700.0]))[0] == pytest.approx(2595.0 * np.log10(2.0))
    f = np.linspace(0.0, 24_000.0, 97)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(f)), f, atol=1e-8)
    np.testing.assert_allclose(centres(PAPER)[:3], [19.6, 39.8, 60.5], atol=0.05)
    np.testing.assert_allclose(centres(LISTEN)[:3], [150.1, 172.8, 196.0], atol=0.05)


def test_triangles_sum_to_one_between_the_outer_centres() -> None:
    total = bank(PAPER).toarray().sum(axis=0)
    f, c = np.fft.rfftfreq(2048, 1 / 48_000), centres(PAPER)
    np.testing.assert_allclose(total[(f >= c[0]) & (f <= c[-1])], 1.0, atol=1e-6)


def test_drill_bands_split_6_21_5() -> None:
    c = centres(DRILL)
    assert (int((c < 1000).sum()), int((c > 22_000).sum())) == (6, 5)
    assert band_slice(DRILL, 1000, 22_000) == slice(6, 27)
    np.testing.assert_allclose(c[[0, 6, 26, 31]], [96, 1022, 21819, 42125], atol=0.5)


def test_a_bank_with_an_empty_band_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer bands or longer frames"):
        mel_bank(48_000, 256, 128, 0, 24_000)
    with pytest.raises(ValueError, match="lies between two lines"):
        vibration(500.0)
    with pytest.raises(ValueError, match="f_min < f_max"):
        mel_bank(48_000, 2048, 128, 0, 24_001)


@pytest.mark.parametrize("rate", [1000.0, 3200.0, 5000.0, 6664.0, 12_800.0, 25_600.0, 51_200.0])
def test_vibration_front_end_follows_its_rule(rate: float) -> None:
    e = vibration(rate)
    assert e.n_fft / rate == pytest.approx(0.128, rel=0.07)
    assert e.hop * 4 == e.n_fft
    assert (e.bands, e.f_max, e.frames) == (64, 0.45 * rate, 32)
    assert 0.95 < e.frames * e.hop / rate < 1.03
    assert e.samples <= 1.2 * rate
    assert e.clip_samples == round(rate)


def test_shapes_of_the_presets() -> None:
    assert (PAPER.samples, PAPER.block_frames) == (49_800, 64)
    assert (DRILL.samples, DRILL.block_frames) == (3486, 1)
    assert [preset(e.name) for e in (PAPER, DINOS, LISTEN, DRILL)] == [PAPER, DINOS, LISTEN, DRILL]
    assert preset("vibration", 5000.0) == vibration(5000.0)
    with pytest.raises(ValueError, match="no front end"):
        preset("vibration")
    with pytest.raises(ValueError, match=r"works at 48000 Hz, not at 44100.0 Hz"):
        preset("paper", 44_100.0)


def test_hash_is_that_of_the_values() -> None:
    assert len({e.hash for e in (PAPER, DINOS, LISTEN, DRILL, vibration(5000.0))}) == 5
    assert replace(PAPER, name="other", window_hop=128).hash == PAPER.hash
    assert replace(PAPER, rate_hz=48_000.0, f_min=0.0).hash == PAPER.hash
    other: dict[str, Any] = {
        "rate_hz": 44_100, "n_fft": 1024, "hop": 375, "bands": 64, "f_min": 128, "f_max": 23_000, "frames": 64,
        "waveform": "none", "scaling": "db", "mel_norm": "bandwidth", "channels": "rows", "clip_samples": None,
    }  # fmt: skip
    assert set(other) == {f.name for f in fields(FrontEnd)} - {"name", "window_hop"}
    for name, value in other.items():
        assert replace(PAPER, **{name: value}).hash != PAPER.hash, name
