"""Revolutions of a signal laid over each other: what repeats with the rotation, and what does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.chatter_plan import HIGH_HZ, LOW_HZ
from pipeline.messages import Float32

Float64 = NDArray[np.float64]

_TINY = 1e-30


def turns(x: Float32, rate_hz: float, rpm: float, revolutions: int) -> Float64:
    """The last whole revolutions of a signal within 100 to 6,000 Hz, each on the same grid of angles.

    The band is cut out of the padded transform, which also raises the rate to eight samples per period of its upper
    edge; between those, values are interpolated by cubic polynomials. The first and last 5 ms, which the cut
    disturbs, are left out.

    Args:
        x: samples, shape (n, channels).
        rate_hz: samples per second.
        rpm: spindle speed.
        revolutions: how many at most.

    Returns:
        float64, shape (revolutions found, angles, channels); no revolutions where the signal is too short.
    """
    high = min(HIGH_HZ, 0.45 * rate_hz)
    edge_s = 0.005
    x = x[-round(revolutions * 60.0 / rpm * rate_hz + 2.0 * edge_s * rate_hz + 8.0) :]
    n_fft: int = fft.next_fast_len(len(x) + 512, real=True)
    up = max(1, -(-int(8.0 * high) // int(rate_hz)))
    spectrum = fft.rfft(x.astype(np.float64), n_fft, axis=0)
    f = np.arange(len(spectrum)) * (rate_hz / n_fft)
    gain = np.clip((f - 0.5 * LOW_HZ) / (0.5 * LOW_HZ), 0.0, 1.0) * np.clip((1.1 * high - f) / (0.1 * high), 0.0, 1.0)
    y = fft.irfft(spectrum * gain[:, None], up * n_fft, axis=0)[: up * len(x)] * up
    edge = round(edge_s * rate_hz) * up
    period = 60.0 / rpm * rate_hz * up
    angles = max(16, int(period))
    found = min(revolutions, int((len(y) - 2 * edge - 4) / period))
    if found < 1:
        return np.empty((0, angles, x.shape[1]))
    start = len(y) - edge - 3 - found * period
    at = start + (np.arange(found)[:, None] + np.arange(angles)[None] / angles) * period
    return _cubic(y, at)


def _cubic(y: Float64, at: Float64) -> Float64:
    """Values between samples by the cubic through the four nearest (Lagrange)."""
    i = np.floor(at).astype(np.int64)
    t = (at - i)[..., None]
    a, b, c, d = (y[i + k] for k in (-1, 0, 1, 2))
    value: Float64 = (
        -a * t * (t - 1.0) * (t - 2.0) / 6.0
        + b * (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
        - c * (t + 1.0) * t * (t - 2.0) / 2.0
        + d * (t + 1.0) * t * (t - 1.0) / 6.0
    )
    return value


def once_per_revolution(y: Float64) -> float:
    """OPR: standard deviation of samples taken once per revolution over that of all, averaged over the angles.

    Near 0 where every revolution repeats the last, up to 1 where nothing does. Averaging the variance over all angles
    in place of taking one frees the ratio from the choice of the angle.

    Args:
        y: from `turns`.
    """
    if len(y) < 2:
        return 0.0
    total = float(np.var(y, axis=(0, 1)).sum())
    return float(np.sqrt(np.var(y, axis=0).mean(axis=0).sum() / total)) if total > 0.0 else 0.0


def residual_ratio(y: Float64) -> float:
    """R: variance of what the synchronous average leaves over the variance of the average; 0 for silence.

    Args:
        y: from `turns`.
    """
    if len(y) < 2:
        return 0.0
    mean = y.mean(axis=0)
    left, periodic = float(np.var(y - mean, axis=(0, 1)).sum()), float(np.var(mean, axis=0).sum())
    return left / max(periodic, _TINY) if left > 0.0 else 0.0
