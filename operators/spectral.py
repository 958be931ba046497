"""Short-time spectra: frames of a block, the thresholded STFT of the fusion model, Welch's power density."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, fftpack, sparse

from operators.base import Windowed
from operators.blocks import Blocks
from operators.rewindow import end_ns, missing
from pipeline.messages import Float32, Gap, Message, Segment, Stream, Window

MAD_TO_STD = 1.4826
"""Median absolute deviation times this estimates the standard deviation of Gaussian data."""
_FLOOR = np.float32(1e-6)  # keeps the logarithm finite: -120 dB
_LINE = 64  # bytes in a cache line
_PART = 32  # frames that are transformed together, where it divides their number


def hann(n: int) -> NDArray[np.float64]:
    """The periodic Hann window, 0.5 − 0.5 cos(2πk/n); its transform has the lines 0 (n/2) and ±1 (−n/4) alone."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)


def aligned(*shape: int) -> Float32:
    """An uninitialised float32 array that starts on a cache line."""
    size = math.prod(shape) * 4
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(np.float32).reshape(shape)


class Frames:
    """The Hann-windowed frames of one block and their Fourier transforms, always of the same shape.

    Write samples to `x`, then call `bands` or `spectrum`. Vectorised transforms of a part of the frames could differ
    in the last bit from those of all, so that there is no such call.

    Args:
        n_fft: samples per frame.
        hop: samples between frames.
        frames: frames per block.
    """

    def __init__(self, n_fft: int, hop: int, frames: int) -> None:
        self.n_fft, self.hop, self.frames = n_fft, hop, frames
        self.samples = (frames - 1) * hop + n_fft
        self.x = aligned(self.samples)
        self._view = np.lib.stride_tricks.sliding_window_view(self.x, n_fft)[::hop]
        self._window = aligned(n_fft)
        self._window[:] = hann(n_fft)
        self._framed = aligned(frames, n_fft)
        self._part = _PART if frames % _PART == 0 else frames
        several = math.gcd(self._part, 8)  # rows at a time: short inner loops cost twice as much
        self._windows = aligned(several * n_fft)
        self._windows[:] = np.tile(self._window, several)
        self._few = self._framed[: self._part]
        self._rows = self._few.reshape(-1, several * n_fft)

    def bands(self, weights: sparse.csr_array) -> tuple[Float32, Float32]:
        """Band powers.

        A few frames at a time, always as many: what they take fits into a core's cache beside all that comes next.

        Args:
            weights: from `pack`, shape (bands, n_fft).

        Returns:
            Powers, shape (bands, frames), and line 1 itself, its real and imaginary part, shape (2, frames).
        """
        powers, line = np.empty((weights.shape[0], self.frames), np.float32), np.empty((2, self.frames), np.float32)
        for at in range(0, self.frames, self._part):
            part = slice(at, at + self._part)
            np.copyto(self._few, self._view[part])
            self._rows *= self._windows
            # fftpack gives real rows with frames side by side: neither a complex pass nor a transposition is needed
            squares: Float32 = fftpack.rfft(self._few.T, axis=0)
            line[:, part] = squares[1:3]
            flat = squares.reshape(-1)
            np.square(flat, out=flat)
            powers[:, part] = weights @ squares
        return powers, line

    def spectrum(self) -> NDArray[np.complex64]:
        """Transforms of shape (bins, frames)."""
        np.multiply(self._view, self._window, out=self._framed)
        out: NDArray[np.complex64] = fft.rfft(self._framed.T, axis=0)
        return out


def pack(weights: NDArray[Any], n_fft: int) -> sparse.csr_array:
    """Weights over the lines of a spectrum, shape (rows, bins), as CSR for `Frames.bands`, (rows, n_fft), float32.

    Columns are Re² 0, Re² 1, Im² 1, Re² 2, ... up to half the rate.
    """
    line = (np.arange(n_fft) + 1) // 2  # of each row of the squares
    return sparse.csr_array(weights[:, line].astype(np.float32))


def soft_threshold(magnitude: Float32, factor: float) -> Float32:
    """Subtract from each frequency's magnitudes median + factor · 1.4826 · MAD over the frames; never below zero.

    Args:
        magnitude: shape (bins, frames).
        factor: standard deviations of Gaussian data above the median.
    """
    median = np.median(magnitude, axis=1, keepdims=True)
    mad = np.median(np.abs(magnitude - median), axis=1, keepdims=True)
    threshold = median + np.float32(factor * MAD_TO_STD) * mad
    result: Float32 = np.maximum(magnitude - threshold, np.float32(0.0))
    return result


class Stft(Windowed):
    """`Segment` and `Gap` of one stream → `Window` of log-magnitudes in dB, shape (n_fft // 2 + 1, frames), float32.

    Magnitudes are |X| over the sum of the Hann window (a full-scale sine gives 0.5), less an adaptive threshold per
    frequency (`soft_threshold`), as 20 log10(magnitude + 1e-6). Frame k starts at sample hop·k of the stream, hop half
    of `n_fft`. Channels are averaged.

    Args:
        stream: the stream.
        n_fft: samples per frame, even.
        frames: frames per window; 32 frames of 2,048 are the fusion model's two seconds at 16 kHz.
        window_hop: frames between window starts.
        threshold: factor of the adaptive threshold; None for none.

    Raises:
        ValueError: `n_fft` is odd, or a window is longer than `memory_s`.
    """

    memory_s: ClassVar[float] = 2.2

    def __init__(
        self, stream: Stream, n_fft: int = 2048, frames: int = 32, window_hop: int = 8, threshold: float | None = 3.0
    ) -> None:
        if n_fft % 2:
            raise ValueError(f"half-overlapping frames need an even n_fft, not {n_fft}")
        self.stream = stream
        self._threshold = threshold
        hop, block = n_fft // 2, math.gcd(frames, window_hop)
        self._frames = Frames(n_fft, hop, block)
        self._blocks = Blocks(
            self._frames.samples,
            block * hop,
            per_window=frames // block,
            step=window_hop // block,
            channels=stream.channels,
            analyse=self._analyse,
        )
        if self._blocks.length > self.memory_s * stream.rate.hz:
            raise ValueError(f"{frames} frames of {n_fft} samples are longer than {self.memory_s} s")

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window."""
        n = self._blocks.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Transform what this message completes."""
        if isinstance(message, Segment):
            return [self._window(message, n0, parts) for n0, parts in self._blocks.feed(message)]
        if isinstance(message, Gap):
            lost = self._blocks.gap(message)
            return [] if lost is None else [missing(message, *lost)]
        raise TypeError(f"Stft takes Segment and Gap, not {type(message).__name__}")

    def _analyse(self, x: Float32) -> Float32:
        mix(x, self._frames.x)
        return magnitudes(self._frames)

    def _window(self, segment: Segment, n0: int, parts: list[Float32]) -> Window:
        n1 = n0 + self._blocks.length
        values = log_magnitude(np.concatenate(parts, axis=1), self._threshold)
        return Window(segment.stream, n0, n1, end_ns(segment.anchor, n1, segment.stream), values)


def stft_clip(x: Float32, n_fft: int = 2048, threshold: float | None = 3.0, block: int = 8) -> Float32:
    """What `Stft` computes, for a clip whose ends are reflected by half a frame: 32,000 samples give 32 frames.

    Args:
        x: samples, shape (n,) or (n, channels), n at least n_fft / 2 + 1.
        n_fft: samples per frame, even.
        threshold: factor of the adaptive threshold over the clip's frames; None for none.
        block: frames that are transformed together, as in the stream (the greatest common divisor of a window's
            frames and its hop).

    Returns:
        Log-magnitudes in dB, float32, shape (n_fft // 2 + 1, 1 + 2 n // n_fft).
    """
    x = np.asarray(x, np.float32)
    x = x.reshape(len(x), -1)
    hop = n_fft // 2
    count = 1 + len(x) // hop
    frames = Frames(n_fft, hop, block)
    rounds = -(-count // block)
    padded = np.pad(x, ((hop, hop), (0, 0)), mode="reflect")
    padded = np.pad(padded, ((0, max(0, rounds * block * hop + hop - len(padded))), (0, 0)))
    parts = []
    for k in range(rounds):
        mix(padded[k * block * hop : k * block * hop + frames.samples], frames.x)
        parts.append(magnitudes(frames))
    return log_magnitude(np.concatenate(parts, axis=1)[:, :count], threshold)


def magnitudes(frames: Frames) -> Float32:
    """|X| / sum of the window, shape (bins, frames), of the samples in `frames.x`."""
    result: Float32 = np.abs(frames.spectrum())
    result *= np.float32(2.0 / frames.n_fft)
    return result


def log_magnitude(magnitude: Float32, threshold: float | None) -> Float32:
    """20 log10(magnitude + 1e-6) after the adaptive threshold, if any."""
    if threshold is not None:
        magnitude = soft_threshold(magnitude, threshold)
    result: Float32 = np.log10(magnitude + _FLOOR)
    result *= np.float32(20.0)
    return result


def mix(x: Float32, out: Float32) -> None:
    """Write the mean over the channels of x, shape (n, channels), to `out`, shape (n,), in a fixed order."""
    np.copyto(out, x[:, 0])
    for channel in range(1, x.shape[1]):
        out += x[:, channel]
    if x.shape[1] > 1:
        out *= np.float32(1.0 / x.shape[1])


def welch(
    x: NDArray[Any], rate_hz: float, n_fft: int, detrend: Literal["constant", "none"] = "constant"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power spectral density by Welch's method: mean periodogram of half-overlapping Hann-windowed frames.

    Args:
        x: samples, shape (n,) or (n, channels), n at least `n_fft`; what does not fill a frame is left out.
        rate_hz: samples per second.
        n_fft: samples per frame.
        detrend: whether each frame's mean is removed.

    Returns:
        Frequencies in hertz, shape (bins,), and the one-sided density in unit²/Hz, float64, (bins,) or
        (bins, channels).

    Raises:
        ValueError: fewer than `n_fft` samples.
    """
    if len(x) < n_fft:
        raise ValueError(f"{len(x)} samples do not fill a frame of {n_fft}")
    hop = n_fft - n_fft // 2
    framed = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), n_fft, axis=0)[::hop]
    if detrend == "constant":
        framed = framed - framed.mean(axis=-1, keepdims=True)
    window = hann(n_fft)
    power = np.square(np.abs(fft.rfft(framed * window, axis=-1))).mean(axis=0)
    scale = one_sided(n_fft) / (rate_hz * np.square(window).sum())
    f: NDArray[np.float64] = np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate_hz / n_fft)
    return f, np.moveaxis(power * scale, -1, 0)


def one_sided(n_fft: int) -> NDArray[np.float64]:
    """How often each line of a one-sided spectrum counts, shape (bins,): 2, but 1 at zero and half the rate."""
    times = np.full(n_fft // 2 + 1, 2.0)
    times[0] = 1.0
    if n_fft % 2 == 0:
        times[-1] = 1.0
    return times


def band_power(density: NDArray[np.float64], f: NDArray[np.float64], low_hz: float, high_hz: float) -> float:
    """Mean square of the signal in [low_hz, high_hz): the density of the lines in it times their spacing, unit²."""
    inside = (f >= low_hz) & (f < high_hz)
    return float(density[inside].sum() * (f[1] - f[0]))
