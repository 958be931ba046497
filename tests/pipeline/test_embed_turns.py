"""Which windows are embedded: the first, then every n-th, and not the same of every machine."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from operators.mel import PAPER
from pipeline.lineup import LOGMEL
from pipeline.messages import Embedding, Rate, Stream, Window
from pipeline.stages_models import HOP, Embed

WINDOWS = 24


def embedded(machine: str, every: int, first: int = 0) -> list[int]:
    """Numbers of the windows of which embeddings are told, where the stream is heard from one of them on."""
    encoder = SimpleNamespace(
        digest=LOGMEL, model="m", settings="s", vector=lambda image, rows: image.mean(axis=1, dtype=np.float32)
    )
    models: Any = SimpleNamespace(
        config=SimpleNamespace(every=every),
        pool=SimpleNamespace(counts=Counter()),
        at=lambda key, t: SimpleNamespace(active=None, shadow=None),
        encoder_of=lambda lineup: encoder,
    )
    stream = Stream(machine, "mic", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1.0)
    embed = Embed(models, stream)
    image = np.zeros((PAPER.bands, PAPER.frames), np.float32)
    told = []
    for number in range(first, WINDOWS):
        n0 = number * HOP
        out = list(embed.process(Window(stream, n0, n0 + PAPER.samples, n0, image)))
        told += [number for one in out if isinstance(one, Embedding)]
    return told


@pytest.mark.parametrize("every", [1, 2, 4])
def test_machines_that_begin_together_take_turns(every: int) -> None:
    """Behind the first, each has every n-th; of a hundred machines no turn is held by more than its share and some."""
    held = Counter[int]()
    for i in range(100):
        told = embedded(f"m{i:03d}", every, first=1)
        assert told == list(range(told[0], WINDOWS, every))
        assert told[0] <= every
        held[told[0]] += 1
    assert len(held) == every
    assert max(held.values()) <= 100 / every * 1.3


def test_a_turn_is_the_machines_own() -> None:
    """The same after every start, by the CRC-32 (IEEE 802.3) of the name: of "123456789" it is 0xCBF43926."""
    assert embedded("123456789", 4, first=1)[0] == 0xCBF43926 % 4
    assert embedded("123456789", 7, first=1)[0] == 0xCBF43926 % 7


@pytest.mark.parametrize("machine", ["a", "b", "c", "d"])
def test_the_first_window_of_a_stream_is_embedded(machine: str) -> None:
    """A recording shorter than a turn has no other."""
    told = embedded(machine, 600)
    assert told == [0]
    assert embedded(machine, 2)[:2] in ([0, 1], [0, 2])
