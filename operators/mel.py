"""Mel filter banks and the front ends that use them: every setting of a log-Mel image in one frozen value.

The Mel scale is that of HTK, ``mel(f) = 2595 log10(1 + f/700)``; a band is a triangle between the centres of its
neighbours, linear in hertz.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Waveform: TypeAlias = Literal["zscore", "none", "listen"]
Scaling: TypeAlias = Literal["max80", "dinos", "listen", "db"]
MelNorm: TypeAlias = Literal["none", "bandwidth"]
Channels: TypeAlias = Literal["mean", "rows"]

_VERSION = 1  # of the computation itself: a change that alters images must change hashes
_NOT_HASHED = ("name", "window_hop")


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """How sound becomes a log-Mel image of shape (bands, frames).

    Frame k starts at sample ``hop * k`` of the stream; a window has `frames` frames and starts every `window_hop`
    frames. Windows are periodic Hann windows of `n_fft` samples.

    Attributes:
        name: name of the preset, for people; not part of `hash`.
        rate_hz: samples per second that the stream must have.
        n_fft: samples per frame.
        hop: samples between frames.
        bands: Mel bands.
        f_min: lower edge of the first band in hertz.
        f_max: upper edge of the last band in hertz.
        frames: frames per window.
        window_hop: frames between window starts; not part of `hash`, since it changes no window.
        waveform: what is done to the samples, expressed on their power: ``"zscore"`` removes mean and RMS,
            ``"none"`` nothing, ``"listen"`` the published LISTEN recipe.
        scaling: what is done to the decibels: ``"max80"`` (dB − max + 80)/80; ``"dinos"`` (dB + 4.268)/4.569;
            ``"listen"`` (dB + 80)/160; ``"db"`` nothing. All but ``"db"`` first raise values to max − 80 dB.
        mel_norm: ``"bandwidth"`` divides a band's weights by half its width in hertz (unit area), ``"none"`` leaves
            peaks of 1.
        channels: several channels are averaged (``"mean"``) or their images stacked in rows, channel by channel.
        clip_samples: length to which a clip is cropped or filled with zeros before its ends are reflected by half a
            frame; None leaves clips as they are and unpadded.
    """

    name: str
    rate_hz: float
    n_fft: int
    hop: int
    bands: int
    f_min: float
    f_max: float
    frames: int
    window_hop: int
    waveform: Waveform
    scaling: Scaling
    mel_norm: MelNorm = "none"
    channels: Channels = "mean"
    clip_samples: int | None = None

    @property
    def samples(self) -> int:
        """Samples that one window depends on."""
        return (self.frames - 1) * self.hop + self.n_fft

    @property
    def block_frames(self) -> int:
        """Frames that are computed together: the longest blocks that tile both windows and their hops."""
        return math.gcd(self.frames, self.window_hop)

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of all that a window's values depend on."""
        return _digest(self)


@lru_cache(maxsize=64)
def _digest(front_end: FrontEnd) -> str:
    settings = {k: v for k, v in asdict(front_end).items() if k not in _NOT_HASHED}
    settings |= {k: float(settings[k]) for k in ("rate_hz", "f_min", "f_max")}
    text = json.dumps(settings | {"version": _VERSION}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _impact(name: str, f_min: float, waveform: Waveform, scaling: Scaling) -> FrontEnd:
    return FrontEnd(name, 48_000, 2048, 376, 128, f_min, 24_000, 128, 64, waveform, scaling, clip_samples=48_000)


PAPER = _impact("paper", 0, "zscore", "max80")
"""IMPACT (arXiv 2507.06481): z-scored second at 48 kHz, 128 × 128, level removed."""
DINOS = _impact("dinos", 0, "none", "dinos")
"""The authors' DINOS code: level kept, AudioSet statistics."""
LISTEN = _impact("listen", 128, "listen", "listen")
"""The authors' LISTEN code (arXiv 2507.07879): bands from 128 Hz on, level inverted rather than removed."""
DRILL = FrontEnd("drill", 96_000, 1999, 1487, 32, 0, 48_000, 2, 1, "none", "db", mel_norm="bandwidth")
"""Drill breakage (arXiv 2209.11527): 20.8 ms frames at 96 kHz; one frame for 1,999 samples, two for 4,000."""


def vibration(rate_hz: float) -> FrontEnd:
    """The front end of an accelerometer: one second, 64 bands up to 0.45 of the rate, one image per axis.

    `n_fft` is the multiple of 4 without prime factors above 5 that is nearest to 128 ms (and lets 32 frames fit into
    a second), the hop a quarter of it, about 32 ms; a window has 32 frames (1.02 s from first to last frame start,
    plus one hop) and starts every 16 frames.

    Args:
        rate_hz: samples per second.

    Raises:
        ValueError: the rate is so low (under about 0.75 kHz) that a band would hold no spectral line.
    """
    n_fft = _fast_length(0.128 * rate_hz, 4 / 31 * rate_hz)
    front_end = FrontEnd(
        "vibration", rate_hz, n_fft, n_fft // 4, 64, 0.0, 0.45 * rate_hz, 32, 16, "zscore", "max80",
        channels="rows", clip_samples=round(rate_hz),
    )  # fmt: skip
    bank(front_end)
    return front_end


def preset(name: str, rate_hz: float | None = None) -> FrontEnd:
    """The front end of this name; ``"vibration"`` needs the stream's rate.

    Raises:
        ValueError: no such preset, or a rate that it does not have.
    """
    if name == "vibration" and rate_hz is not None:
        return vibration(rate_hz)
    for front_end in (PAPER, DINOS, LISTEN, DRILL):
        if front_end.name == name:
            if rate_hz not in (None, front_end.rate_hz):
                raise ValueError(f"front end '{name}' works at {front_end.rate_hz} Hz, not at {rate_hz} Hz")
            return front_end
    raise ValueError(f"no front end '{name}': choose paper, dinos, listen, drill, or vibration with a rate")


def _fast_length(target: float, limit: float) -> int:
    lengths = [n for n in range(4, int(limit) + 1, 4) if _smooth(n)]
    if not lengths:
        raise ValueError(f"no frame length near {target:.1f} samples: the rate is too low")
    return min(lengths, key=lambda n: abs(n - target))


def _smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def hz_to_mel(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """HTK Mel of a frequency in hertz."""
    return 2595.0 * np.log10(1.0 + f / 700.0)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency in hertz of an HTK Mel value."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def edges(bands: int, f_min: float, f_max: float) -> NDArray[np.float64]:
    """The bands + 2 corner frequencies in hertz; band b rises from corner b to b + 1 and falls to b + 2."""
    low, high = hz_to_mel(np.array([f_min, f_max], np.float64))
    return mel_to_hz(np.linspace(low, high, bands + 2))


def centres(front_end: FrontEnd) -> NDArray[np.float64]:
    """Centre frequencies of the bands in hertz, shape (bands,)."""
    return edges(front_end.bands, front_end.f_min, front_end.f_max)[1:-1]


def band_slice(front_end: FrontEnd, low_hz: float, high_hz: float) -> slice:
    """The rows whose centres lie in [low_hz, high_hz]: 21 of 32 for the drill's 1–22 kHz."""
    first, last = np.searchsorted(centres(front_end), [low_hz, high_hz])
    return slice(int(first), int(last))


def mel_bank(
    rate_hz: float, n_fft: int, bands: int, f_min: float, f_max: float, *, norm: MelNorm = "none"
) -> sparse.csr_array:
    """Weights of Mel bands over the lines of a one-sided power spectrum.

    Args:
        rate_hz: samples per second.
        n_fft: samples per frame, odd or even.
        bands: number of bands.
        f_min: lower edge of the first band in hertz.
        f_max: upper edge of the last band in hertz.
        norm: ``"none"`` for peaks of 1, ``"bandwidth"`` for unit area in hertz.

    Returns:
        CSR matrix, float32, shape (bands, n_fft // 2 + 1).

    Raises:
        ValueError: the edges do not lie in order between 0 and half the rate, or a band would hold no line.
    """
    if not 0 <= f_min < f_max <= rate_hz / 2:
        raise ValueError(f"bands need 0 <= f_min < f_max <= {rate_hz / 2} Hz, not {f_min} and {f_max} Hz")
    corners = edges(bands, f_min, f_max)[:, None]
    f = np.fft.rfftfreq(n_fft, 1.0 / rate_hz)
    rise = (f - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - f) / (corners[2:] - corners[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall))
    if norm == "bandwidth":
        weights *= 2.0 / (corners[2:] - corners[:-2])
    empty = np.flatnonzero(weights.max(axis=1) <= 0.0)
    if len(empty):
        raise ValueError(
            f"Mel band {empty[0]} lies between two lines of {rate_hz / n_fft:.2f} Hz: fewer bands or longer frames"
        )
    return sparse.csr_array(weights.astype(np.float32))


@lru_cache(maxsize=32)
def bank(front_end: FrontEnd) -> sparse.csr_array:
    """The front end's filter bank, shared; see `mel_bank`."""
    e = front_end
    return mel_bank(e.rate_hz, e.n_fft, e.bands, e.f_min, e.f_max, norm=e.mel_norm)
