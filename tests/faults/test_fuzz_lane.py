"""Random nonsense for a whole shard with its recording: nothing raises, and the machine beside does not notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clock import ManualClock
from pipeline.messages import NS, Anchor, Chunk, Context, Image, Input, Mark, Rate
from pipeline.recording.reader import read
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.replay import Replay
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of
from tests.faults.rig import ACC, journal, lane, plant, signal, unnoticed
from tests.faults.test_silence import _Plan

WILD = (0, 1, -1, 2**31, 2**43, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63))


def nonsense(rng: random.Random, count: int) -> Iterator[Input]:
    """Mostly the signal, with anything about it changed now and then."""
    x, n, epoch = signal(ACC, 30.0), 0, 0
    for k in range(count):
        step = rng.choice((200, 200, 200, 1, 777))
        at = n % (len(x) - 1000)
        epoch += rng.random() < 0.002
        message: Any = Chunk(replace(ACC, epoch=epoch), Anchor(0, T0), n, k, x[at : at + step])
        n += step
        if rng.random() < 0.3:
            message = rng.choice(MUTATIONS)(message, rng)
        yield message


def any_stream(m: Chunk, rng: random.Random) -> Input:
    """Another description of itself."""
    change = rng.choice((
        {"rate": Rate(rng.choice((1, 2000, 48_000)), rng.choice((1, 3)))}, {"unit": rng.choice(("g", "", "FS"))},
        {"dtype": rng.choice(("<i2", "<f8", ">f4", "image/png", "nonsense"))}, {"channels": rng.choice((0, 2, 9999))},
        {"epoch": rng.choice((-1, -2, 0, 1, 2**64))}, {"sensor": rng.choice(("ghost", "", "a/b", "ü"))},
        {"scale": rng.choice((0.0, float("nan"), float("inf"), -1.0, 1e38))}, {"modality": "acoustic"},
    ))  # fmt: skip
    return replace(m, stream=replace(m.stream, **change))


def any_place(m: Chunk, rng: random.Random) -> Input:
    """Somewhere else in the stream."""
    return replace(m, n0=rng.choice((*WILD, m.n0 - 150, m.n0 + 5000)))


def any_time(m: Chunk, rng: random.Random) -> Input:
    """At another time."""
    return replace(m, anchor=Anchor(rng.choice((0, *WILD)), T0 + rng.choice((*WILD, NS, -NS, 900))))


def any_samples(m: Chunk, rng: random.Random) -> Input:
    """Other samples."""
    x = m.samples.copy()
    if len(x) == 0:
        return m
    x[rng.randrange(len(x))] = rng.choice((np.nan, np.inf, 1e30, -1e38))
    return replace(m, samples=rng.choice((x, x.ravel(), x[:0], x.T, x.astype("<f8"), np.zeros((300_000, 1), "<f4"))))


def any_mark(m: Chunk, rng: random.Random) -> Input:
    """A mark, wherever."""
    reason = rng.choice(("silent", "gap", "abandoned"))
    return Mark(m.stream, m.anchor, m.n0, rng.choice((m.n0 + 100, m.n0 - 1, *WILD)), reason)  # type: ignore[arg-type]


def any_kind(m: Chunk, rng: random.Random) -> Input:
    """Something else altogether."""
    value = rng.choice((1.0, "idle", float("nan")))
    return rng.choice((Image(m.stream, m.anchor, m.n0, m.seq, b"?"), Context("m", "tool", T0 + m.n0, value)))


MUTATIONS: tuple[Callable[[Chunk, random.Random], Input], ...] = (
    any_stream, any_place, any_time, any_samples, any_mark, any_kind,
)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "seed"),
    [(1500, 1), (1500, 2), *(pytest.param(30_000, seed, marks=pytest.mark.slow) for seed in range(10, 20))],
)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_nothing_that_comes_in_ends_a_shard(tmp_path: Path, count: int, seed: int) -> None:
    """Also what it recorded meanwhile replays to the same journal."""
    ring = Ring(tmp_path / "rec", Start(), T0, ring_bytes=10**9)
    made = plant(tmp_path, lane(ACC, baseline=baseline_of(ACC)), tap=ring)
    made.feed(nonsense(random.Random(seed), count))
    made.shard.close()
    counts = made.shard.lanes["m"].counts
    assert {k for k in counts if k.startswith("dead.")} >= {"dead.range", "dead.wrong_shape", "dead.too_large"}
    assert counts["stage.sequence"] > count / 4
    assert unnoticed(made)
    for position in made.store.positions().values():
        assert 0 <= position.n < 2**63

    again = Store(tmp_path / "again.sqlite")
    files = [read(path) for path in sorted((tmp_path / "rec").glob("*.mcap"))]
    lanes = tuple(lane_.settings for lane_ in made.shard.lanes.values())
    Replay(files, _Plan(lanes), again, ManualClock()).run()  # type: ignore[arg-type]
    assert journal(again) == journal(made.store)
