"""Classical augmentation of sounds: shift, gain, noise, and mixing of two."""

from __future__ import annotations

import numpy as np

from models.drill.data import Float64
from models.drill.synthesis import Batch

SHIFT = 0.1
GAIN_DB = 6.0
SNR_DB = (10.0, 30.0)
MIXUP_ALPHA = 0.2


def classical(real: Batch, count: int, seed: int) -> Batch:
    """`count` sounds made of recorded ones, the classes in turn.

    Each is shifted in time by up to 10 % (the ends are filled by reflection), changed by up to ±6 dB, given white noise
    at 10 to 30 dB, and mixed with another of either class by a share from Beta(0.2, 0.2) (mixup, ICLR 2018), its target
    likewise.

    Args:
        real: recorded sounds, both classes.
        count: how many.
        seed: of everything.
    """
    rng = np.random.default_rng([seed, 1])
    by_class = [np.flatnonzero(real.target == c) for c in (0.0, 1.0)]
    rows = [int(rng.choice(by_class[i % 2])) for i in range(count)]
    others = rng.integers(0, len(real.x), count)
    share = np.maximum(mix := rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, count), 1.0 - mix)
    x = np.stack([_varied(real.x[i], rng) for i in rows])
    x = share[:, None] * x + (1.0 - share[:, None]) * np.stack([_varied(real.x[j], rng) for j in others])
    target = share * real.target[rows] + (1.0 - share) * real.target[others]
    parents = tuple(real.parents[i] | real.parents[j] for i, j in zip(rows, others.tolist(), strict=True))
    return Batch(x, target, parents)


def _varied(x: Float64, rng: np.random.Generator) -> Float64:
    most = int(SHIFT * len(x))
    shift = int(rng.integers(-most, most + 1))
    moved = np.pad(x, most, mode="reflect")[most + shift : most + shift + len(x)]
    moved = moved * 10.0 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20.0)
    noise = np.sqrt(np.mean(moved**2)) * 10.0 ** (-rng.uniform(*SNR_DB) / 20.0)
    varied: Float64 = moved + noise * rng.standard_normal(len(x))
    return varied
