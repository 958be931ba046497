"""Two machines in one shard: one that suffers, and one that must not notice. And what an operator sees of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from connectors.base import Resume
from connectors.prometheus import PrometheusSink
from models.anomaly.baseline import Baseline
from pipeline.clock import ManualClock
from pipeline.delivery import Delivery
from pipeline.errors import SourceError
from pipeline.messages import NS, Anchor, Chunk, Input, Stream
from pipeline.metrics import families
from pipeline.shard import Shard, Tap
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream

TOPICS = ("score", "feature", "alarm", "health", "late", "dlq")
JOURNAL = ("score", "machine_state", "alarm", "health")
SECONDS = 8.0

ACC = stream("acc", "vibration", 2000, dtype="<f4")
"""The sensor that suffers: an accelerometer of 2 kHz."""
WITNESS = replace(ACC, machine="witness")


def lane(*streams: Stream, baseline: Baseline | None = None, **more: object) -> LaneSettings:
    """Settings of the machine that has these sensors; the first one judged by a baseline, if one is given."""
    settings = machine(*streams, **{"name": streams[0].machine, **more})
    if baseline is None:
        return LaneSettings(settings)
    return LaneSettings(settings, {streams[0].sensor: baseline.settings}, {baseline.settings: baseline})


def signal(s: Stream, seconds: float = SECONDS, seed: int = 3) -> np.ndarray:
    """Normal running."""
    return normal_noise(s, seconds, seed)


@cache
def good() -> tuple[Input, ...]:
    """What the witness says: normal, and loud for a while so that it raises an alarm."""
    return tuple(chunks(WITNESS, normal_noise(WITNESS, SECONDS, 5, (2.0, 6.0))))


@dataclass
class Plant:
    """A shard with its state, and its page of metrics."""

    shard: Shard
    store: Store
    clock: ManualClock
    path: Path

    def feed(self, suffering: Iterable[Input]) -> None:
        """Give both machines their inputs, in turns, and bring everything to disk."""
        theirs, ours = iter(suffering), iter(good())
        while True:
            batch = [m for m in (next(theirs, None), next(ours, None)) if m is not None]
            if not batch:
                break
            for message in batch:
                self.shard.take(message)
            self.clock.sleep(0.1)
            self.shard.tick()
        self.shard.checkpoint()

    def records(self, topic: str, of: str = "m") -> list[dict[str, Any]]:
        """Bodies of a topic's results of a machine, oldest first."""
        found = self.store.read(0, (topic,), 100_000)
        return [dict(record.body) for record in found if record.machine == of]

    def health(self, sensor: str = "acc") -> list[tuple[str, tuple[str, ...]]]:
        """The sensor's states with their reasons."""
        return [(b["state"], tuple(b["reasons"])) for b in self.records("health") if b["sensor"] == sensor]

    def witness(self) -> list[dict[str, Any]]:
        """The journal of the machine that must not notice."""
        return sorted((b for t in JOURNAL for b in self.records(t, "witness")), key=lambda b: str(b["id"]))

    def metrics(self, **engine: dict[str, Any]) -> Metrics:
        """What Prometheus would scrape now."""
        return scrape(self.path, {self.shard.name: self.shard.metrics(), **engine})


class Metrics:
    """A page of metrics that was parsed by Prometheus' own parser."""

    def __init__(self, page: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(page) for s in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; 0 where there is none."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())


def scrape(path: Path, shards: dict[str, dict[str, Any]]) -> Metrics:
    """The page that a fresh exporter gives for this state and these counters."""
    sink, store = PrometheusSink(), Store(path)
    Delivery(sink, path, TOPICS, "scrape").drain(store)
    store.move_cursor("scrape", 0)
    store.close()
    sink.update(families(shards, {}))
    return Metrics(sink.render()[0].decode())


def plant(folder: Path, *lanes: LaneSettings, tap: Tap | None = None) -> Plant:
    """A shard of these lanes and the witness's."""
    path, clock = folder / "state.sqlite", ManualClock(T0)
    store = Store(path)
    witness = lane(WITNESS, baseline=baseline_of(WITNESS))
    return Plant(Shard("shard-0", [*lanes, witness], store, clock, tap), store, clock, path)


@cache
def undisturbed() -> tuple[str, ...]:
    """The witness's journal when nothing happens to anybody."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = plant(Path(folder))
        made.feed([])
        found = made.witness()
    assert any(body.get("transition") == "raised" for body in found)
    return tuple(str(body) for body in found)


def unnoticed(made: Plant) -> bool:
    """Whether the witness's journal is what it would have been."""
    return tuple(str(body) for body in made.witness()) == undisturbed()


class Device:
    """A live source of 100 ms chunks on a manual clock; `deaf`, `dead` and `held` say what is wrong with it now."""

    rereadable = False

    def __init__(self, s: Stream, x: np.ndarray | None = None) -> None:
        self.stream = s
        self.deaf = False
        """Samples pass without being sent."""
        self.dead = False
        """`poll` and `open` raise."""
        self.held = False
        """Samples are kept back and come later, all at once."""
        self.opened: list[dict[tuple[str, str], Resume]] = []
        self._x = x if x is not None else signal(s, 60.0)
        self._anchor = Anchor(0, 0)
        self._next = 0

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """A new stream from now on."""
        self.opened.append(dict(resume))
        if self.dead:
            raise SourceError(f"{self.stream.sensor}: unplugged")
        told = resume.get((self.stream.machine, self.stream.sensor))
        self.stream = replace(self.stream, epoch=0 if told is None else told.epoch + 1)
        self._anchor, self._next = Anchor(0, now_ns), 0
        return [self.stream]

    def poll(self, now_ns: int) -> list[Chunk]:
        """The chunks that are whole by now."""
        if self.dead:
            raise SourceError(f"{self.stream.sensor}: unplugged")
        if self.held:
            return []
        rate, step = round(self.stream.rate.hz), round(self.stream.rate.hz / 10)
        out = []
        while self._anchor.at(self._next + step, self.stream.rate) <= now_ns:
            n, self._next = self._next, self._next + step
            at = ((self._anchor.t_ns - T0) * rate // NS + n) % (len(self._x) - rate)
            if not self.deaf:
                out.append(Chunk(self.stream, self._anchor, n, n // step, self._x[at : at + step]))
        return out

    def wake_ns(self, now_ns: int) -> int:
        """In 10 ms."""
        return now_ns + NS // 100

    @property
    def exhausted(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to close."""


class Recording:
    """A re-readable source of one machine's inputs, `at_once` of them every `pace_ns`; `broken` is what it raises."""

    rereadable = True

    def __init__(self, messages: Sequence[Input], at_once: int = 3, pace_ns: int = 0) -> None:
        self.broken: Exception | None = None
        self.opened: list[dict[tuple[str, str], Resume]] = []
        self._messages: list[Any] = list(messages)
        self._left: list[Input] = []
        self._at_once, self._pace_ns = at_once, pace_ns

    def open(self, resume: Mapping[tuple[str, str], Resume], now_ns: int) -> Sequence[Stream]:
        """Go to where the stream stopped."""
        self.opened.append(dict(resume))
        if isinstance(self.broken, SourceError):
            raise self.broken
        self._left = list(self._behind(resume))
        return []

    def _behind(self, resume: Mapping[tuple[str, str], Resume]) -> Iterator[Input]:
        for message in self._messages:
            told = resume.get((message.stream.machine, message.stream.sensor))
            n = told.n if told else 0
            if message.n1 > n or not isinstance(message, Chunk):
                cut = isinstance(message, Chunk) and message.n0 < n
                yield replace(message, n0=n, samples=message.samples[n - message.n0 :]) if cut else message

    def poll(self, now_ns: int) -> list[Input]:
        """The next few."""
        if self.broken is not None:
            raise self.broken
        taken, self._left = self._left[: self._at_once], self._left[self._at_once :]
        return taken

    def wake_ns(self, now_ns: int) -> int:
        """At its pace."""
        return now_ns + self._pace_ns

    @property
    def exhausted(self) -> bool:
        """When nothing is left."""
        return not self._left

    def close(self) -> None:
        """Nothing to close."""


def journal(store: Store) -> list[tuple[str, str, str]]:
    """Topic, id and body of all that a journal holds, in its order."""
    return sorted((r.topic, r.id, str(r.body)) for r in store.read(0, JOURNAL, 100_000))
