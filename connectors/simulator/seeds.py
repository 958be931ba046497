"""Independent random generators by name, so that adding one source of chance never shifts another."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """The generator of one named source of chance, e.g. ``generator(7, "mill", "coolant", 12)``.

    Args:
        seed: the seed that the user gave, 0 or more.
        path: what the numbers are for; equal paths give equal numbers.
    """
    words = [crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return np.random.default_rng([seed, len(words), *words])


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`."""
    return float(rng.uniform(low, high))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One number between `low` and `high`, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def derived(seed: int, *path: str | int) -> int:
    """A seed of its own for one named part, so that neighbouring seeds share nothing."""
    return int(generator(seed, "derived", *path).integers(2**62))
