"""Which windows are embedded: the first, then every n-th, and not the same of every machine."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.anomaly.chain import operators
from models.anomaly.vectors import extraction
from operators.mel import PAPER
from pipeline.lineup import LOGMEL
from pipeline.messages import Anchor, Embedding, Message, Rate, Segment, Stream, Window
from pipeline.stages_models import HOP, Embed

WINDOWS = 24


def turns(stream: Stream, every: int) -> Embed:
    """Embeds every n-th window of a stream."""
    encoder = SimpleNamespace(
        digest=LOGMEL, model="m", settings="s", vector=lambda image, rows: image.mean(axis=1, dtype=np.float32)
    )
    models: Any = SimpleNamespace(
        config=SimpleNamespace(every=every),
        pool=SimpleNamespace(counts=Counter()),
        at=lambda key, t: SimpleNamespace(active=None, shadow=None),
        encoder_of=lambda lineup: encoder,
    )
    return Embed(models, stream)


def mic(machine: str, rate: int = 48_000) -> Stream:
    """The stream of a microphone."""
    return Stream(machine, "mic", 0, "acoustic", Rate(rate), 1, "<f4", "FS", 1.0)


def embedded(machine: str, every: int, first: int = 0) -> list[int]:
    """Numbers of the windows of which embeddings are told, where the stream is heard from one of them on."""
    stream = mic(machine)
    embed = turns(stream, every)
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


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_a_short_recording_at_any_rate_has_an_embedding(rate: int) -> None:
    """Where sound is resampled, the grid's first window is never whole: the second is the first of the stream."""
    stream = mic("123456789", rate)  # its turns are others than 0 and 1
    x = np.random.default_rng(0).normal(0.0, 0.1, (round(1.9 * rate), 1)).astype(np.float32)
    messages: list[Message] = [Segment(stream, Anchor(0, 0), 0, x)]
    for operator in operators(stream, extraction(stream)):
        messages = [out for message in messages for out in operator.process(message)]
    ends = [window.t_end_ns for window in messages if isinstance(window, Window)]
    embed = turns(stream, 4)
    told = [one for message in messages for one in embed.process(message) if isinstance(one, Embedding)]
    assert [one.t_end_ns for one in told] == ends[:1]
