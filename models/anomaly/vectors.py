"""What is compared: one vector per window and detector, in decibels, band by band.

``anomaly`` looks at the shape of the spectrum: the mean over time of the log-Mel image with its frequency rows kept,
per channel, less its own mean over the bands, so that neither gain nor the jitter of the window's loudest cell reads as
a fault. ``level`` looks at what that takes away: RMS, crest factor, kurtosis and octave levels, per channel.

Sensors too slow for a log-Mel (accelerometers below 745 Hz) have the second one alone, from RMS, peak, crest factor,
spectral kurtosis and Teager-Kaiser energy of one-second windows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from operators.levels import full_scale, octave_bank, octave_edges
from operators.mel import PAPER, FrontEnd, edges
from operators.mel import vibration as vibration_front_end
from operators.vibration import vibration_features
from pipeline.messages import Float32, Modality, Rate, Stream, Window

ANOMALY = "anomaly"
LEVEL = "level"
EMBEDDING = "embedding"
"""What an encoder makes of the same image, see `embedding`; no vector of `Extraction`."""
BAND = "band"
"""The name of a `Dimension` that is a Mel band."""
SOUND_RATE = Rate(48_000)
LOWEST_LOGMEL_HZ = 745.0
"""An accelerometer below this rate has Mel bands without a spectral line of their own."""
_VERSION = 1  # of these definitions; a change makes older baselines unusable, and says so
_FLOOR_DB = 0.5
"""Repeatability of a level between two mountings or days that is believed at best, in decibels."""
UNHEARD_DB = 1e6
_TINY = 1e-12
_SLOW = ("rms", "peak", "crest", "spectral_kurtosis", "tkeo")
_DB_PER_DECADE = {"rms": 20.0, "peak": 20.0, "crest": 20.0, "kurtosis": 10.0, "tkeo": 10.0}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One number of a vector, for people: a Mel band [low_hz, high_hz) of a channel, or a named quantity.

    Of the named ones, octaves have limits too; what has none has zeros.
    """

    channel: int
    name: str
    low_hz: float = 0.0
    high_hz: float = 0.0


@dataclass(frozen=True)
class Extraction:
    """How windows of one kind of sensor become vectors. Equal extractions have equal hashes.

    Args:
        modality: acoustic, stethoscope or vibration.
        rate: of the sensor's own stream.
        channels: of the sensor's own stream.
    """

    modality: Modality
    rate: Rate
    channels: int

    @cached_property
    def front_end(self) -> FrontEnd | None:
        """Settings of the log-Mel; None for sensors that are too slow for one."""
        if self.modality != "vibration":
            return PAPER
        return vibration_front_end(self.rate.hz) if self.rate.hz >= LOWEST_LOGMEL_HZ else None

    @cached_property
    def hash(self) -> str:
        """Changes with everything that a vector depends on."""
        front_end = self.front_end
        facts = [_VERSION, self.modality, list(self.rate), self.channels, front_end.hash if front_end else "slow"]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def rows(self) -> int:
        """Channels with an image of their own: sound is mixed down, axes are not."""
        return self.channels if self.modality == "vibration" else 1

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Dimension, ...]]:
        """Detector → what each number of its vector is."""
        front_end = self.front_end
        if front_end is None:
            return {LEVEL: tuple(Dimension(c, name) for c in range(self.channels) for name in _SLOW)}
        corners = edges(front_end.bands, front_end.f_min, front_end.f_max)
        bands = [(float(corners[b]), float(corners[b + 2])) for b in range(front_end.bands)]
        octaves, _ = octave_bank(front_end.rate_hz, front_end.n_fft)
        level = [("rms", 0.0, 0.0), ("crest", 0.0, 0.0), ("kurtosis", 0.0, 0.0)]
        level += [(name, *octave_edges(name)) for name in octaves]
        return {
            ANOMALY: tuple(Dimension(c, BAND, *band) for c in range(self.rows) for band in bands),
            LEVEL: tuple(Dimension(c, *named) for c in range(self.rows) for named in level),
        }

    @cached_property
    def heard(self) -> Mapping[str, NDArray[np.bool_]]:
        """Detector → which numbers of its vector lie in the sensor's own band; sound at 48 kHz may come from less."""
        half = self.rate.hz / 2
        return {detector: np.array([d.low_hz < half for d in ds]) for detector, ds in self.dimensions.items()}

    def floor(self, detector: str) -> Float32:
        """Smallest believed spread of each number of the vector; of one that cannot be heard, more than it can move."""
        return np.where(self.heard[detector], _FLOOR_DB, UNHEARD_DB).astype(np.float32)

    def vectors(self, window: Window) -> dict[str, Float32]:
        """Detector → vector of this window; empty where it is incomplete, silent, or of the wrong kind.

        Args:
            window: a log-Mel image, or one second of samples for slow sensors.
        """
        if not window.complete:
            return {}
        if self.front_end is None:
            usable = not window.side and bool(np.ptp(window.values, axis=0).any())
            return {LEVEL: _slow(window.values)} if usable else {}
        if not window.side or window.side["silent"]:
            return {}
        return {ANOMALY: self._spectrum(window.values), LEVEL: self._level(window)}

    def _spectrum(self, image: Float32) -> Float32:
        mean = image.reshape(self.rows, -1, image.shape[1]).mean(axis=2, dtype=np.float32)
        shape = (mean - mean.mean(axis=1, keepdims=True)) * np.float32(80.0)  # the image's unit is 80 dB
        return np.ascontiguousarray(shape.reshape(-1), np.float32)

    def _level(self, window: Window) -> Float32:
        reference_db = 20.0 * math.log10(full_scale(window.stream).full)
        values = []
        for d in self.dimensions[LEVEL]:
            name = f"ch{d.channel}_{d.name}" if self.rows > 1 else d.name
            value = window.side[name]
            if d.name in _DB_PER_DECADE:
                values.append(_decibels(d.name, value))
            else:
                values.append(value + reference_db)  # the side's octaves are relative to full scale
        return np.array(values, np.float32)


def extraction(stream: Stream) -> Extraction:
    """The extraction for a sensor's own stream."""
    return Extraction(stream.modality, stream.rate, stream.channels)


def resampled(stream: Stream) -> Stream:
    """What the sound front-end makes of a stream."""
    return stream if stream.rate == SOUND_RATE else replace(stream, rate=SOUND_RATE)


def _slow(samples: Float32) -> Float32:
    """Five features per axis of samples freed of their mean (gravity is no vibration), in decibels."""
    features = vibration_features(samples - samples.mean(axis=0, dtype=np.float64).astype(np.float32))
    result = np.empty(features.shape, np.float32)
    for row, axis in enumerate(features):
        for column, name in enumerate(_SLOW):
            value = float(axis[column])
            # the spectral kurtosis is -1 for a tone and 0 for noise: counted from the smallest it can be
            decibels = 10.0 * math.log10(value + 2.0) if name == "spectral_kurtosis" else _decibels(name, value)
            result[row, column] = decibels
    return result.reshape(-1)


def _decibels(name: str, value: float) -> float:
    return _DB_PER_DECADE[name] * math.log10(max(value, _TINY))
