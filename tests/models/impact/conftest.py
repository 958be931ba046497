"""Tiny networks, and sound to feed them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
import torch

from models.impact.crops import Take
from models.impact.images import Batches
from models.impact.network import Size
from models.impact.settings import Pretraining
from pipeline.messages import Float32, Rate

TINY = Size("tiny", 32, 2, 4, 64, maps=4)
TINY_EDGE = Size("tiny-edge", 16, 1, 4, 16, stem="patch", cls=False)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The machine is shared, and one thread gives the same bits every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**over: object) -> Pretraining:
    """A run of a few seconds."""
    values: dict[str, object] = {
        "seed": 3,
        "clips_per_epoch": 64,
        "epochs": 3,
        "batch": 16,
        "lr_per_256": 2e-2,
        "ema_start": 0.9,
        "ema_end": 0.99,
        "log_every": 4,
        "checkpoint_every": 5,
        "threads": 1,
    }
    return Pretraining(**values | over)  # type: ignore[arg-type]


@lru_cache(maxsize=4)
def pool(count: int = 64, seed: int = 0) -> np.ndarray:
    """Images of hums, each with its own bands and rhythm, float16, in [0, 1]."""
    rng = np.random.default_rng(seed)
    band, frame = np.arange(128)[:, None], np.arange(128)[None]
    images = []
    for _ in range(count):
        x = 0.05 * rng.standard_normal((128, 128)) + 0.3
        for _ in range(3):
            centre, width, rate = rng.uniform(5, 120), rng.uniform(2, 9), rng.uniform(0, 0.4)
            x += 0.5 * np.exp(-(((band - centre) / width) ** 2)) * (1 + 0.5 * np.sin(rate * frame))
        images.append(np.clip(x / x.max(), 0, 1))
    return np.asarray(images, np.float16)


def batches(made: Pretraining) -> Batches:
    """Batches of the hums."""
    return Batches(pool(), made.batch, made.seed, made.mixing)


def take(x: Float32, rate: int = 48_000, name: str = "take", sensor: str = "mic") -> Take:
    """Samples (n,) or (n, channels) as a take."""
    x = x.reshape(len(x), -1)
    return Take(name, sensor, Rate(rate), len(x), x.shape[1], lambda a, b: x[a:b], source=sensor)
