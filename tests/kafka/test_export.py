"""From Kafka into a recording, without a broker: in the order of the logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import codec
from pipeline.clock import ManualClock
from pipeline.kafka import export
from pipeline.messages import NS, Anchor, Feature, Input
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from tests.engines.scenarios import T0, chunks, machine, normal_noise, stream

ACC, MIC = stream("acc", "vibration", 2000), stream("mic", "acoustic", 16_000)


def recorded(monkeypatch: pytest.MonkeyPatch, *logs: list[Input]) -> list[Input]:
    """What a recording holds of these partitions, of which a poll brings a part each."""
    written: list[Input] = []
    records = {
        str(number): [SimpleNamespace(headers=codec.encode(m)[0], value=codec.encode(m)[1]) for m in log]
        for number, log in enumerate(logs)
    }

    class Consumer:
        def __init__(self, **_: object) -> None:
            self.at = dict.fromkeys(records, 0)

        def poll(self, **_: object) -> dict[str, list[Any]]:
            found = {tp: records[tp][at : at + 130] for tp, at in self.at.items()}
            self.at = {tp: at + len(found[tp]) for tp, at in self.at.items()}
            return found

        def position(self, tp: str) -> int:
            return self.at[tp]

        def close(self) -> None:
            pass

    monkeypatch.setattr(export, "KafkaConsumer", Consumer)
    monkeypatch.setattr(export, "_seek", lambda *_: {tp: len(held) for tp, held in records.items()})
    recorder: Any = SimpleNamespace(write=lambda m, _: written.append(m), sync=list, close=list)
    client: Any = SimpleNamespace(settings=dict)
    counts = export._record(client, recorder, 0, ManualClock(), None)
    assert counts == {"messages": len(written)} and len(written) == sum(map(len, logs))
    return written


def windows(messages: list[Input]) -> Iterator[tuple[int, int]]:
    """Epoch-free places of what a lane makes of these messages."""
    lane = Lane(LaneSettings(machine(ACC)))
    for message in messages:
        yield from ((r.t_end_ns, len(r.values)) for r in lane.process(message) if isinstance(r, Feature))


def test_a_device_that_started_anew_with_an_earlier_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay makes of it what the workers made: nothing is late."""
    again = replace(ACC, epoch=1)
    log = chunks(ACC, normal_noise(ACC, 8.0, 1), anchor=Anchor(0, T0 + 3600 * NS))
    log += chunks(again, normal_noise(again, 8.0, 2), anchor=Anchor(0, T0))
    played = recorded(monkeypatch, log)
    assert [codec.encode(m) for m in played] == [codec.encode(m) for m in log]
    live = list(windows(log))
    assert list(windows(played)) == live and min(live) < (T0 + 3600 * NS, 0)


def test_sensors_in_several_topics_go_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay need not hold one until the other one comes."""
    acc, mic = chunks(ACC, normal_noise(ACC, 8.0, 1)), chunks(MIC, normal_noise(MIC, 8.0, 2))
    played = recorded(monkeypatch, acc, mic)
    times = [m.t1_ns for m in played]
    assert max(a - b for a, b in pairwise(times)) <= NS // 10
