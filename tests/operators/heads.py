"""A small drilling head in a free field: independent noise from each bit, with 1/r and r/c to each microphone."""

from __future__ import annotations

import numpy as np

from operators.head_geometry import HeadGeometry, grid
from pipeline.messages import Float32
from tests.operators.pieces import stream

RATE = 16_000
GEOMETRY = HeadGeometry(
    grid(2, 3, 0.25), np.array([[-0.2, -0.15], [0.72, -0.21], [-0.13, 0.44], [0.66, 0.5]]), 343.0, 3
)
ARRAY = stream(RATE, channels=4, sensor="array")


def sources(seconds: float, seed: int) -> np.ndarray:
    """White noise of each bit, shape (bits, n)."""
    return np.random.default_rng(seed).standard_normal((len(GEOMETRY.spindles_m), round(seconds * RATE)))


def heard(dry: np.ndarray, background: float = 0.1, seed: int = 0) -> Float32:
    """What the microphones hear of sources, delayed exactly (by a phase), shape (n, 4)."""
    n = dry.shape[1]
    f = np.fft.rfftfreq(n, 1.0 / RATE)
    spectra = np.fft.rfft(dry, axis=1)
    out = background * np.random.default_rng(seed + 1).standard_normal((n, 4))
    for m in range(4):
        turn = np.exp(-2j * np.pi * f * GEOMETRY.delays_s()[:, m, None])
        out[:, m] += np.fft.irfft(np.sum(spectra * turn / GEOMETRY.distances_m()[:, m, None], axis=0), n)
    return out.astype(np.float32)
