"""Five features of vibration per axis: RMS, peak, crest factor, spectral kurtosis and Teager-Kaiser energy.

Definitions: ``rms = sqrt(mean x²)`` and ``peak = max |x|`` of the samples as they are (a constant offset counts);
``crest = peak / rms``; the spectral kurtosis of Antoni (Mech. Syst. Signal Process. 20, 2006) in its unbiased form;
``ψ[n] = x[n]² - x[n-1]·x[n+1]`` (Kaiser, ICASSP 1990). All in double precision, on whole windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from operators.base import Windowed
from operators.filters import rms
from operators.spectral import hann
from pipeline.messages import Feature, Float32, Message, Window, axis_names

Float64 = NDArray[np.float64]

FEATURES = ("rms", "peak", "crest", "kurtosis", "tkeo")
SEGMENT = 256
LEAST_SAMPLES = 32
"""Of a window whose spectral kurtosis can be told."""
_FLOOR = 1e-12  # of the strongest line's power: below it there is only the rounding of float32 samples


def peak(x: NDArray[np.floating]) -> Float64:
    """Largest magnitude per channel of x, shape (n, channels)."""
    result: Float64 = np.max(np.abs(x), axis=0).astype(np.float64)
    return result


def crest_factor(x: NDArray[np.floating]) -> Float64:
    """Peak by RMS per channel of x, shape (n, channels); 0 where the channel is silent."""
    level = rms(x)
    result: Float64 = np.divide(peak(x), level, out=np.zeros_like(level), where=level > 0)
    return result


def teager_kaiser(x: NDArray[np.floating]) -> Float64:
    """Mean Teager-Kaiser energy per channel of x, shape (n ≥ 3, channels): A² sin²(w) for a tone ``A sin(w n)``."""
    if len(x) < 3:
        raise ValueError(f"the Teager-Kaiser energy needs 3 samples, not {len(x)}")
    wide = x.astype(np.float64)
    result: Float64 = np.mean(wide[1:-1] ** 2 - wide[:-2] * wide[2:], axis=0)
    return result


def segment_length(n: int) -> int:
    """Samples per segment of `spectral_kurtosis`: 256, or the largest power of two that leaves seven segments."""
    if n < LEAST_SAMPLES:
        raise ValueError(f"the spectral kurtosis needs {LEAST_SAMPLES} samples, not {n}")
    return min(SEGMENT, 1 << ((n // 4).bit_length() - 1))


def spectral_kurtosis(x: NDArray[np.floating]) -> Float64:
    """Spectral kurtosis of each line between zero and half the rate, per channel.

    ``SK = M/(M-1) · ((M+1) Σ|X|⁴ / (Σ|X|²)² - 2)`` over M Hann segments of 256 samples, half overlapped; windows
    shorter than 1024 samples use shorter segments (see `segment_length`). A steady tone gives -1, Gaussian noise 0.
    Lines more than 120 dB below the strongest one of the window hold only rounding, and count as 0.

    Args:
        x: samples, shape (n ≥ 32, channels).

    Returns:
        float64, shape (segment / 2 - 1, channels).
    """
    length = segment_length(len(x))
    frames = sliding_window_view(x.astype(np.float64), length, axis=0)[:: length // 2]
    power = np.abs(np.fft.rfft(frames * hann(length), axis=-1)[..., 1:-1]) ** 2  # (M, channels, lines)
    total, squares, m = power.sum(axis=0), (power**2).sum(axis=0), len(power)
    heard = total > _FLOOR * total.max(axis=-1, keepdims=True)
    ratio = np.divide(squares, total**2, out=np.full_like(total, 2 / (m + 1)), where=heard)
    result: Float64 = (m / (m - 1) * ((m + 1) * ratio - 2)).T
    return result


def vibration_features(x: NDArray[np.floating]) -> Float64:
    """RMS, peak, crest factor, largest spectral kurtosis over frequency and mean Teager-Kaiser energy.

    Args:
        x: samples, shape (n ≥ 32, channels).

    Returns:
        float64, shape (channels, 5), columns as in `FEATURES`.
    """
    kurtosis = spectral_kurtosis(x).max(axis=0)
    return np.stack([rms(x), peak(x), crest_factor(x), kurtosis, teager_kaiser(x)], axis=1)


def feature_names(axes: Sequence[str]) -> tuple[str, ...]:
    """``x.rms, x.peak, ...``: the names of the flattened `vibration_features`."""
    return tuple(f"{axis}.{feature}" for axis in axes for feature in FEATURES)


class VibrationFeatures(Windowed):
    """`Window` of samples → `Feature` named ``vibration`` with the values of `feature_names`.

    `rms` and `peak` are in the stream's unit, `tkeo` in its square, the others have none.

    Args:
        axes: names of the channels; None: as `axis_names` says.
    """

    def __init__(self, axes: Sequence[str] | None = None) -> None:
        self._axes = axes

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """Measure one window; an incomplete one gives an incomplete feature."""
        if not isinstance(message, Window):
            raise TypeError(f"VibrationFeatures takes Window, not {type(message).__name__}")
        values = self._values(message.values) if message.complete else {}
        stream = message.stream
        return [Feature(stream.machine, (stream.sensor,), "vibration", message.t_end_ns, values, message.complete,
                        (message.span,))]  # fmt: skip

    def _values(self, x: Float32) -> dict[str, float]:
        names = feature_names(axis_names(x.shape[1]) if self._axes is None else self._axes)
        return dict(zip(names, vibration_features(x).ravel().tolist(), strict=True))
