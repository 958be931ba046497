"""Recordings as clips: length, rate, channels, silence, clipping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from models.probe.seconds import LENGTH, seconds
from operators.logmel import clip
from operators.mel import PAPER
from pipeline.clips import read_clip
from pipeline.errors import BadInput
from pipeline.manifest import Row
from tests.models.probe.rig import sound


def cut(path: Path, tail_s: float = 0.5, modality: str = "acoustic", **row: Any) -> list:
    """All clips of a file."""
    pieces = read_clip(Row(path.name, path, "x", "g", "m", "s", modality, **row)).pieces  # type: ignore[arg-type]
    return [second for piece in pieces for second in seconds(piece, tail_s)]


def test_clips_are_the_files_own_seconds(tmp_path: Path) -> None:
    """At 48 kHz nothing is changed; the image is that of the front end's clip form."""
    sound(tmp_path / "a.wav", 3.0, 440)
    x = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    found = cut(tmp_path / "a.wav")
    assert [s.start_s for s in found] == [0.0, 1.0, 2.0]
    for i, s in enumerate(found):
        mine = x[i * LENGTH : (i + 1) * LENGTH]
        assert np.array_equal(s.samples, mine)
        assert np.array_equal(s.image, clip(mine, 48_000, PAPER).values)


@pytest.mark.parametrize(("length", "tail_s", "clips"), [(2.3, 0.5, 2), (2.7, 0.5, 3), (2.3, 0.0, 3), (0.6, 0.5, 1)])
def test_tails(tmp_path: Path, length: float, tail_s: float, clips: int) -> None:
    """A rest of half a second counts; DINOS's ceil(n / 48000) counts any; what is missing is zeros."""
    sound(tmp_path / "a.wav", length, 440)
    found = cut(tmp_path / "a.wav", tail_s)
    assert len(found) == clips
    assert all(s.samples.shape == (LENGTH,) and s.image.shape == (128, 128) for s in found)
    if clips > length:
        rest = round((length % 1) * LENGTH)
        assert np.any(found[-1].samples[rest - 100 : rest]) and not np.any(found[-1].samples[rest:])


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100, 96_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    """A tone keeps its frequency and its level; two channels are averaged."""
    t = np.arange(3 * rate) / rate
    x = np.stack([np.sin(2 * np.pi * 1000 * t), np.zeros_like(t)], axis=1)
    soundfile.write(tmp_path / "a.wav", 0.5 * x, rate, subtype="FLOAT")
    found = cut(tmp_path / "a.wav")
    assert len(found) == 3
    spectrum = np.abs(np.fft.rfft(found[1].samples)) / (LENGTH / 2)
    assert spectrum.argmax() == 1000
    assert spectrum[1000] == pytest.approx(0.25, rel=1e-3)


def test_silent_and_clipped_are_told(tmp_path: Path) -> None:
    """Silence has no image worth the name; full scale is noticed by the sensor's own samples."""
    x = np.zeros(3 * LENGTH)
    x[LENGTH:] = np.clip(3 * np.sin(np.arange(2 * LENGTH)), -1, 1)
    x[2 * LENGTH :] *= 0.5
    soundfile.write(tmp_path / "a.wav", x, LENGTH, subtype="FLOAT")
    found = cut(tmp_path / "a.wav")
    assert [(s.silent, s.clipped) for s in found] == [(True, False), (False, True), (False, False)]


def test_regions_keep_the_recordings_time(tmp_path: Path) -> None:
    """From 1.5 s to 4 s of a file: clips begin there."""
    sound(tmp_path / "a.wav", 6.0, 440)
    assert [s.start_s for s in cut(tmp_path / "a.wav", start_s=1.5, end_s=4.0)] == [1.5, 2.5, 3.5]


def test_vibration_is_refused(tmp_path: Path) -> None:
    """An encoder of sound learns nothing from an axis."""
    sound(tmp_path / "a.wav", 2.0, 440)
    with pytest.raises(BadInput, match="is no sound"):
        cut(tmp_path / "a.wav", modality="vibration")
