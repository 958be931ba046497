"""The paper's preprocessing: what lies between 1 and 22 kHz."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from models.drill.data import RATE_HZ, Float64

LOW_HZ = 1000.0
HIGH_HZ = 22_000.0
ORDER = 8
_PAD = 1500


@lru_cache(maxsize=1)
def sections() -> Float64:
    """Both filters as second-order sections at 96 kHz."""
    from scipy.signal import butter  # seconds to import on a busy machine; a run without a classifier needs none of it

    return np.vstack(
        [
            butter(ORDER, LOW_HZ, "highpass", fs=RATE_HZ, output="sos"),
            butter(ORDER, HIGH_HZ, "lowpass", fs=RATE_HZ, output="sos"),
        ]
    )


def band_limited(x: Float64) -> Float64:
    """Sounds between 1 and 22 kHz: Butterworth, order 8 each, forwards and backwards (-6 dB at the edges).

    The ends are continued by reflection, since a step there would ring over a large share of 20 ms. The published
    filters are MATLAB's `highpass` and `lowpass`, of 60 dB and steepness 0.85; these are equivalent, not equal.

    Args:
        x: samples at 96 kHz along the last axis, shape (..., n), n >= 2.

    Returns:
        float64, same shape.
    """
    from scipy.signal import sosfiltfilt

    pad = min(x.shape[-1] - 1, _PAD)
    y: Float64 = sosfiltfilt(sections(), x.astype(np.float64), axis=-1, padtype="even", padlen=pad)
    return y
