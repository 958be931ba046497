"""From Kafka into a recording, without a broker: in the order of the logs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.schema import Kafka, Settings
from models.anomaly.store import load, save
from pipeline import codec
from pipeline.app import Plan
from pipeline.clock import ManualClock
from pipeline.kafka import export
from pipeline.kafka.admin import BrokerError
from pipeline.kafka.client import Client
from pipeline.kafka.records import NOBODY, OWNER, Claim, claim_out
from pipeline.messages import NS, Anchor, Context, Decision, Feature, Input
from pipeline.recording.recorder import Recorder, Start
from pipeline.recording.recover import recover
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream

ACC, MIC = stream("acc", "vibration", 2000), stream("mic", "acoustic", 16_000)


def exported(monkeypatch: pytest.MonkeyPatch, write: Callable[[Input, int], None], *logs: list[Input]) -> Counter[str]:
    """What is counted of these partitions, of which a poll brings a part each, and a recorder writes."""
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
    recorder: Any = SimpleNamespace(write=write, sync=list, close=list, leave=list)
    client: Any = SimpleNamespace(settings=dict)
    return export._record(client, recorder, 0, ManualClock(), None)


def recorded(monkeypatch: pytest.MonkeyPatch, *logs: list[Input]) -> list[Input]:
    """What a recording holds of these partitions."""
    written: list[Input] = []
    counts = exported(monkeypatch, lambda message, _: written.append(message), *logs)
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


def test_brokers_that_fall_silent_end_it_and_leave_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not under the name of a recording that is whole."""
    message = chunks(ACC, normal_noise(ACC, 1.0, 1))[0]
    headers, value = codec.encode(message)
    polls: list[int] = []

    class Silent:
        def __init__(self, **_: object) -> None:
            """As kafka-python's."""

        def poll(self, **_: object) -> dict[str, list[Any]]:
            polls.append(len(polls))
            return {"0": [SimpleNamespace(headers=headers, value=value)]} if len(polls) == 1 else {}

        def position(self, _: str) -> int:
            return 1

        def close(self) -> None:
            """As kafka-python's."""

    monkeypatch.setattr(export, "KafkaConsumer", Silent)
    monkeypatch.setattr(export, "_seek", lambda *_: {"0": 7, "1": 7})
    monkeypatch.setattr(export, "STUCK_S", 0.05)
    recorder = Recorder(tmp_path / "out.mcap", Start(), 0)
    with pytest.raises(BrokerError, match=r"nothing has come for 0\.05 s, 2 partitions are unread"):
        export._record(Client(Kafka()), recorder, 0, ManualClock(), None)
    assert not recorder.path.exists() and recorder.part.exists()
    assert recover(recorder.part, recorder.path).kept == 1


@pytest.mark.parametrize("ends", [True, False])
def test_only_decisions_are_read_for_its_beginning(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all results; and a recording does not begin without some of them."""
    asked: list[tuple[str, dict[int, int]]] = []

    class Reader:
        def __init__(self, _: Client) -> None:
            """As `LogReader`."""

        async def read(self, topic: str, start: dict[int, int]) -> AsyncIterator[SimpleNamespace]:
            asked.append((topic, start))
            for owner, ident in ((NOBODY, "x"), (0, "late")):
                headers, value = codec.encode(Decision("m", ident, 5, "baseline", {}))
                yield SimpleNamespace(partition=1, offset=0, headers=[*headers, (OWNER, b"%d" % owner)], value=value)
                claim = claim_out("decision", Claim(1, "w", 1, 0, epoch=9))
                yield SimpleNamespace(partition=1, offset=9, headers=claim.headers, value=claim.value)
            if not ends:
                await asyncio.sleep(60)

        async def close(self) -> None:
            """As `LogReader`."""

    monkeypatch.setattr(export, "LogReader", Reader)
    monkeypatch.setattr(export, "STUCK_S", 0.05)
    if ends:
        found = asyncio.run(export._decisions(Client(Kafka(partitions=2))))
        assert [decision.id for decision in found] == ["x"]
    else:
        with pytest.raises(BrokerError, match="decisions could not be read to their end"):
            asyncio.run(export._decisions(Client(Kafka(partitions=2))))
    assert asked == [(Client(Kafka()).topic("decision"), {0: 0, 1: 0})]


def test_what_a_recording_has_no_room_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of facts without end: the recording goes on."""
    log: list[Input] = [Context("m", f"job-{n % 8}", T0 + n, 1.0) for n in range(16)]
    monkeypatch.setattr("pipeline.recording.recorder._NO_CHANNELS", 5)
    with Recorder(tmp_path / "out.mcap", Start(), 0) as recorder:
        assert exported(monkeypatch, recorder.write, log) == {"messages": 10, "unreadable.channels": 6}


def test_baselines_that_decisions_name_are_taken_along(tmp_path: Path) -> None:
    """A replay judges under them; one that is gone is named, and no reason to record nothing."""
    made = baseline_of(ACC)
    lane = LaneSettings(machine(ACC), load=load)
    plan = Plan(Settings(schema_version=1, machine=[lane.machine]), (lane,), tmp_path)
    body = {"sensor": "acc", "baseline": made.settings, "path": str(save(made, tmp_path))}
    other = {"sensor": "acc", "baseline": "0" * 64, "path": str(tmp_path / "gone")}
    decided = [Decision("m", f"m|{n}", T0 + n, "baseline", said) for n, said in enumerate((other, body))]
    start, missing = export._start(plan, decided)
    assert [one.id for one in start.preroll] == ["m|0", "m|1"]
    assert {name.split("/")[1] for name in start.attachments if name.startswith("baseline/")} == {made.settings}
    ((reason, count),) = missing.items()
    assert "machine 'm'" in reason and "gone" in reason and count == 1
