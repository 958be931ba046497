"""The third engine: does everything to a lane that a real one might, and expects the same journal.

It interleaves a machine's sensors at random, cuts and joins chunks, and between any two messages throws the lane away
and builds it anew from its snapshot bytes and from the log behind its positions, once more in another order. What waits
for a model is answered at random moments, or lost with the lane. What is read again begins at the first sample needed,
or with a whole message that was the first one needed some time before the snapshot.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pipeline.messages import Chunk, Image, Input, Mark, Record, Result
from pipeline.models_pool import Pool
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.stages import LaneSettings

Log = Mapping[str, Sequence[Input]]
"""What each sensor published, in order; decisions stand under the name ``""``."""


def run_straight(settings: LaneSettings, log: Log) -> list[Record]:
    """The undisturbed run: sensors merged by event time, nothing cut."""
    lane = Lane(settings)
    records = {}
    queues = {sensor: deque(messages) for sensor, messages in log.items() if messages}
    while queues:
        sensor = min(queues, key=lambda s: (s != "", queues[s][0].t1_ns))
        message = queues[sensor].popleft()
        if not queues[sensor]:
            del queues[sensor]
        for result in lane.process(message):
            record = record_of(result)
            records[record.topic, record.id] = record
    return list(records.values())


def run_hostile(settings: LaneSettings, log: Log, seed: int, rebuild: float = 0.05) -> list[Record]:
    """The same log, treated badly; `rebuild` is the chance of a restart between two messages."""
    rng = random.Random(seed)
    log = {sensor: list(recut(messages, rng)) for sensor, messages in log.items()}
    lane, pool = fresh(settings)
    records: dict[tuple[str, str], Record] = {}

    def give(message: Input) -> None:
        keep(lane.process(message))
        if pool is not None and rng.random() < 0.2:
            answer()

    def answer() -> None:
        if pool is not None:
            pool.poll(0, force=True)
            keep(lane.collect())

    def keep(results: list[Result]) -> None:
        for record in map(record_of, results):
            records[record.topic, record.id] = record

    for message in log.get("", ()):
        give(message)
    taken: dict[str, list[Input]] = {sensor: [] for sensor in log if sensor}
    committed = dict.fromkeys(taken, 0)
    for sensor, message in interleave({s: m for s, m in log.items() if s}, rng):
        give(message)
        taken[sensor].append(message)
        if rng.random() < rebuild:
            needed = lane.needs_from()
            committed = {s: first_needed(messages, needed) for s, messages in taken.items()}
        if rng.random() < rebuild:
            snapshot, needed = lane.snapshot(), lane.needs_from()
            lane, pool = fresh(settings)
            lane.restore(snapshot)
            for decision in log.get("", ()):
                give(decision)
            again: dict[str, list[Input]]
            if rng.random() < 0.5:  # as from a log whose offsets were committed some time before the snapshot
                again = {s: messages[committed[s] :] for s, messages in taken.items()}
            else:
                again = {s: list(behind(messages, needed)) for s, messages in taken.items()}
            for _, old in interleave(again, rng):
                give(old)
    answer()
    return list(records.values())


def fresh(settings: LaneSettings) -> tuple[Lane, Pool | None]:
    """A lane, and where its windows wait if it has models."""
    pool = None if settings.models is None else Pool(settings.models.shelf, deferred=True)
    return Lane(settings, pool=pool), pool


def interleave(log: Log, rng: random.Random) -> Iterator[tuple[str, Input]]:
    """All messages, each sensor's in order, the sensors in any; some are heard of much less often than others."""
    queues = {sensor: list(reversed(messages)) for sensor, messages in log.items() if messages}
    weights = {sensor: 10 ** rng.uniform(-2, 0) for sensor in sorted(queues)}
    while queues:
        left = sorted(queues)
        sensor = rng.choices(left, [weights[name] for name in left])[0]
        for _ in range(rng.randint(1, 20)):  # now and then one sensor runs far ahead of the others
            if sensor in queues:
                yield sensor, queues[sensor].pop()
                if not queues[sensor]:
                    del queues[sensor]


def first_needed(messages: Sequence[Input], needed: Mapping[tuple[str, int], int]) -> int:
    """Place of the first message that is still needed: what comes before it may be acknowledged."""
    for place, message in enumerate(messages):
        if isinstance(message, Chunk | Mark | Image) and message.n1 > needed.get(message.stream.key, message.n1):
            return place
    return len(messages)


def behind(messages: Sequence[Input], needed: Mapping[tuple[str, int], int]) -> Iterator[Input]:
    """What a log gives that is read again: from the first samples needed, and each stream's end."""
    for message in messages:
        if not isinstance(message, Chunk | Mark | Image):
            continue  # the snapshot has the facts
        n = needed.get(message.stream.key)
        if isinstance(message, Chunk):
            if n is not None and message.n1 > n:
                cut = max(0, n - message.n0)
                yield replace(message, n0=message.n0 + cut, samples=message.samples[cut:]) if cut else message
        elif (n is not None and message.n1 > n) or (isinstance(message, Mark) and message.reason == "end"):
            yield message


def recut(messages: Sequence[Input], rng: random.Random) -> Iterator[Input]:
    """The same samples in other chunks: neighbours joined, then cut anywhere."""
    held: list[Chunk] = []
    for message in messages:
        joinable = (
            isinstance(message, Chunk)
            and held
            and held[-1].stream == message.stream
            and held[-1].anchor == message.anchor
            and held[-1].n1 == message.n0
            and len(held) < 8
        )
        if not joinable:
            yield from _cut(held, rng)
            held = []
        if isinstance(message, Chunk):
            held.append(message)
        else:
            yield message
    yield from _cut(held, rng)


def _cut(held: Sequence[Chunk], rng: random.Random) -> Iterator[Chunk]:
    if not held:
        return
    samples = np.concatenate([chunk.samples for chunk in held])
    places = sorted({0, len(samples), *(rng.randint(0, len(samples)) for _ in range(rng.randint(0, 6)))})
    for lo, hi in pairwise(places):
        yield replace(held[0], n0=held[0].n0 + lo, samples=samples[lo:hi])
