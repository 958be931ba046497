"""What a worker's records wait for, and what brokers refuse of them: passed over alone, told, nothing built upon it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    for_code,
)
from prometheus_client import CollectorRegistry, generate_latest

from config.schema import Kafka
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.kafka.client import MAX_REQUEST_BYTES, Client
from pipeline.kafka.commands import Commands
from pipeline.kafka.health import Families
from pipeline.kafka.outbox import EVERY_NS, REFUSED, ROOM, Outbox
from pipeline.kafka.ownership import Ownership
from pipeline.kafka.part import Part
from pipeline.kafka.records import Claim, Out
from pipeline.kafka.worker import Worker
from pipeline.messages import Alarm, DeadLetter, Decision

BAD = b"bad"
ALARM = Alarm("m", ("acc",), "x", 1, "raised", 0, 1, "critical", "", 2.0, 1.0, "s")


class Broker:
    """Takes batches, one per topic of what is sent at once; refuses a batch for one record, and what follows it."""

    logs: ClassVar[dict[str, list[bytes]]] = {}
    error: ClassVar[type[KafkaError]] = MessageSizeTooLargeError
    producers: ClassVar[int] = 0

    def __init__(self, **_: object) -> None:
        self._batches: dict[str, list[tuple[bytes, asyncio.Future[Any]]]] = {}
        self._broken: set[str] = set()
        Broker.producers += 1

    async def start(self) -> None:
        """As aiokafka's."""

    async def stop(self) -> None:
        """As aiokafka's."""

    async def send(self, topic: str, value: bytes, **_: object) -> asyncio.Future[Any]:
        """As aiokafka's: the answer comes with the batch's."""
        loop = asyncio.get_running_loop()
        batch = self._batches.setdefault(topic, [])
        if not batch:
            loop.call_soon(self._answer, topic)
        future = loop.create_future()
        batch.append((value, future))
        return future

    def _answer(self, topic: str) -> None:
        batch = self._batches.pop(topic)
        bad = any(value.startswith(BAD) for value, _ in batch)
        for value, future in batch:
            if bad or topic in self._broken:
                future.set_exception(Broker.error() if bad else OutOfOrderSequenceNumber())
            else:
                log = Broker.logs.setdefault(topic, [])
                log.append(value)
                future.set_result(SimpleNamespace(offset=len(log) - 1))
        self._broken |= {topic} if bad else set()


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """One whose brokers are `Broker`; a record that is sent again and again ends the test."""
    Broker.logs, Broker.error, Broker.producers = {}, MessageSizeTooLargeError, 0
    monkeypatch.setattr("pipeline.kafka.outbox.AIOKafkaProducer", Broker)
    monkeypatch.setattr("pipeline.kafka.outbox.RETRY_S", 0.0)
    return Outbox(Client(Kafka()), lambda: Broker.producers > 100)


def outs(topic: str, values: Sequence[bytes]) -> list[Out]:
    """Records of partition 0."""
    return [Out(topic, 0, b"m", value, []) for value in values]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MessageSizeTooLargeError, "too_large"), (RecordListTooLargeError, "too_large"), (for_code(87), "invalid")],
)
def test_a_refused_record_is_passed_over_alone(outbox: Outbox, error: type[KafkaError], reason: str) -> None:
    """Of two topics; everything else is durable once or twice, in order, and the refused ones say so."""
    Broker.error = error
    values = [b"%d" % n for n in range(40)]
    values[7], values[30] = BAD, BAD + b"2"
    mixed = [out for pair in zip(outs("dlq", values), outs("score", values[:7] * 5), strict=False) for out in pair]
    offsets = asyncio.run(outbox.write(mixed))
    assert [out.value for out, at in zip(mixed, offsets, strict=True) if at == REFUSED] == [BAD, BAD + b"2"]
    assert all(Broker.logs[out.topic][at] == out.value for out, at in zip(mixed, offsets, strict=True) if at >= 0)
    assert list(dict.fromkeys(Broker.logs["dlq"])) == [v for v in values[: len(mixed) // 2] if v[:3] != BAD]
    assert Broker.logs["score"] == (values[:7] * 5) * 2
    assert outbox.counts == {"refused." + reason: 2, "written": len(mixed) - 2}


def test_a_clock_far_ahead_ends_the_worker_with_its_reason(outbox: Outbox) -> None:
    """Every record of the host would be refused; results wait for whoever takes the partition over."""
    Broker.error = InvalidTimestampError
    with pytest.raises(ConfigError, match=r"this host's clock \(20.* UTC\) is too far ahead of the brokers'"):
        asyncio.run(outbox.write(outs("decision", [BAD])))
    assert not outbox.counts


def test_what_brokers_refuse_is_counted_for_prometheus(outbox: Outbox) -> None:
    """By reason; beside it, what no lane could take."""
    asyncio.run(outbox.write(outs("dlq", [b"1", BAD])))
    worker = SimpleNamespace(
        name="w", counts=Counter({"dead.key": 3}), parts={}, outbox=outbox, checkpoint_s=0.0, commit_s=0.0,
        app=SimpleNamespace(consumer=None), client=Client(Kafka()), clock=HostClock(),
    )  # fmt: skip
    registry = CollectorRegistry()
    registry.register(Families(worker))  # type: ignore[arg-type]
    page = generate_latest(registry)
    assert b'stethos_kafka_refused_total{reason="too_large",worker="w"} 1.0\n' in page
    assert b'stethos_kafka_dead_letters_total{reason="key",worker="w"} 3.0\n' in page


def test_no_offset_is_committed_behind_a_snapshot_that_is_refused(outbox: Outbox) -> None:
    """Of its partition; the others' are."""
    lanes = {
        number: SimpleNamespace(snapshot=lambda body=body: body, needs_from=dict)
        for number, body in enumerate((BAD, b"good"))
    }
    parts = {n: Part(n, 1, 5, {f"m{n}": lane}) for n, lane in lanes.items()}  # type: ignore[dict-item]
    for part in parts.values():
        part.hold("raw.vibration", 10, 1, None, f"m{part.number}")
        part.next["raw.vibration"] = 11
    done: list[int] = []

    async def commit(offsets: dict[Any, Any]) -> bool:
        done.extend(tp.partition for tp in offsets)
        return True

    async def checkpoint() -> None:
        worker = SimpleNamespace(
            _checkpointing=asyncio.Lock(), _batches=SimpleNamespace(collect=lambda *_, **__: None), parts=parts,
            generation=1, _serial=1, outbox=outbox, client=Client(Kafka()), _commit=commit,
        )  # fmt: skip
        await Worker.checkpoint(worker)  # type: ignore[arg-type]

    asyncio.run(checkpoint())
    assert done == [1] and parts[1].saved == {"m1": b"good"} and not parts[0].saved
    assert Broker.logs["state"][-1] == b"good"


def test_a_takeover_keeps_the_older_snapshots_of_one_that_is_refused(outbox: Outbox) -> None:
    """They are all that is left of the lane's memory."""
    own = Ownership(Client(Kafka()), SimpleNamespace(), outbox, "w")  # type: ignore[arg-type]
    claim = Claim(0, "w", 1, 0, epoch=9)
    assert asyncio.run(own.announce(claim, {"m": BAD, "n": b"n"}, [b"snapshot|3|m"])) == {"m"}
    assert Broker.logs["state"][-1] == b"n" and None not in Broker.logs["state"]


def test_a_decision_that_is_refused_does_not_take_hold(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not in the log: no later owner would know of it."""
    monkeypatch.setattr("pipeline.kafka.commands.codec.encode", lambda _: ([], BAD))
    commands = Commands(Client(Kafka()), outbox, SimpleNamespace())  # type: ignore[arg-type]
    part, lane = SimpleNamespace(number=0, epoch=3), SimpleNamespace()
    decision = Decision("m", "m|model|3.4", 1, "model", {})
    assert asyncio.run(commands.decide(part, lane, decision, None, None)) == []  # type: ignore[arg-type]
    assert outbox.counts["refused.too_large"] == 1


def test_an_alarm_waits_for_nothing(outbox: Outbox) -> None:
    """Other results may come together for 50 ms."""
    outbox.add(Part(0, 1, 0, {}), [DeadLetter("raw.acoustic", "m", "range", "", (), b"")], 0)
    assert not outbox.due(EVERY_NS - 1) and outbox.due(EVERY_NS)
    outbox.add(Part(0, 1, 0, {}), [ALARM], 0)
    assert outbox.due(0)


def test_a_flush_that_is_cancelled_loses_nothing_and_counts_as_waiting(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what another worker has by now: it computes that again."""
    mine, lost = Part(0, 1, 0, {}), Part(0, 1, 0, {})

    async def run() -> None:
        sending = asyncio.Event()

        async def never(_: object) -> list[int]:
            sending.set()
            return await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(outbox, "_send", never)
        outbox.add(mine, [ALARM], 0)
        outbox.add(lost, [replace(ALARM, detector="y")], 0)
        flush = asyncio.create_task(outbox.flush())
        await sending.wait()
        assert outbox.waiting == 2
        outbox.drop(lost)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush

    asyncio.run(run())
    assert outbox.waiting == 1 and [waiting.part for waiting in outbox._results] == [mine]


def test_what_is_too_large_with_what_a_batch_adds_is_not_sent(outbox: Outbox) -> None:
    """It would be refused for ever."""
    room = MAX_REQUEST_BYTES - ROOM - len(b"m")
    assert outbox.fits(Out("score", 0, b"m", b"x" * room, []))
    assert not outbox.fits(Out("score", 0, b"m", b"x" * (room + 1), []))
    assert outbox.counts["refused.too_large"] == 1
