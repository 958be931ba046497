"""Claims and prefixes without a broker: what a late worker writes, and what may be acknowledged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.schema import Kafka
from pipeline import codec
from pipeline.kafka.admin import Lag, taken_of
from pipeline.kafka.client import MAX_REQUEST_BYTES, Client
from pipeline.kafka.commands import Commands
from pipeline.kafka.faust_app import committed
from pipeline.kafka.intake import Wish
from pipeline.kafka.outbox import Outbox
from pipeline.kafka.ownership import Found, Ownership, take_decision
from pipeline.kafka.part import Part
from pipeline.kafka.records import NOBODY, OWNER, Claim, Fence, Out, claim_out, read_claim
from pipeline.kafka.worker import Worker
from pipeline.messages import NS, Anchor, Chunk, Decision, Rate, Stream
from pipeline.reach import Reach
from pipeline.results import canonical

STREAM = Stream("m", "acc", 0, "vibration", Rate(100), 1, "<i2", "m/s2")


def record(offset: int, out: object) -> SimpleNamespace:
    """As a consumer gives it."""
    return SimpleNamespace(offset=offset, headers=out.headers, value=out.value)  # type: ignore[attr-defined]


def decision(offset: int, owner: int, ident: str) -> SimpleNamespace:
    """A decision in the log."""
    headers, value = codec.encode(Decision("m", ident, 5, "baseline", {}))
    return SimpleNamespace(offset=offset, headers=[*headers, (OWNER, b"%d" % owner)], value=value)


def test_decisions_of_a_lower_epoch_behind_a_claim_are_void() -> None:
    """A worker that lost the partition decides nothing more; what it decided before stays."""
    found = Found()
    log = [
        record(0, claim_out("decision", Claim(0, "a", 1, 0))),
        decision(1, 0, "a-in-time"),
        record(2, claim_out("decision", Claim(0, "b", 2, 0))),
        decision(3, 0, "a-too-late"),
        decision(4, 2, "b"),
        decision(5, NOBODY, "from-outside"),
        record(6, claim_out("decision", Claim(0, "a", 1, 0))),  # a claim of the generation before
        decision(7, 6, "a-again"),
        decision(8, 2, "b-again"),
    ]
    for entry in log:
        take_decision(found, entry)
    kept = [d.id for d in found.decisions]
    assert kept == ["a-in-time", "b", "from-outside", "a-again", "b-again"]
    # "a-again" can only stand there if "a" believed in its claim; it does not: the claim is void, as "a" reads itself
    assert found.fence.epoch == 2


def test_a_group_that_was_forgotten_goes_on_with_a_higher_base() -> None:
    """Generations that begin anew do not leave the partition without an owner."""
    fence = Fence()
    assert fence.take(Claim(0, "a", 57, 0, epoch=3))
    assert not fence.take(Claim(0, "b", 1, 0, epoch=8))
    assert fence.take(Claim(0, "b", 1, 57, epoch=9))
    assert fence.void(3) and not fence.void(9) and not fence.void(NOBODY)


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_forgotten_group_costs_two_sessions_in_all(forgotten: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not two for each partition; nor any where the generations go on."""
    count, rank = 24, 40
    old = [claim_out("decision", Claim(n, "old", rank, 0)) for n in range(count)]
    logs: dict[str, list[list[object]]] = {"decision": [[out] for out in old], "state": [[] for _ in range(count)]}

    async def read(topic: str, start: dict[int, int]) -> AsyncIterator[SimpleNamespace]:
        for n, at in start.items():
            for offset, out in enumerate(logs[topic][n][at:], at):
                yield SimpleNamespace(partition=n, key=b"x", **vars(record(offset, out)))

    async def write(outs: list[object]) -> list[int]:
        for out in outs:
            logs[out.topic][out.partition].append(out)  # type: ignore[attr-defined]
        return [len(logs[out.topic][out.partition]) - 1 for out in outs]  # type: ignore[attr-defined]

    pause, asleep, slept = asyncio.sleep, 0, []

    async def sleep(seconds: float) -> None:
        nonlocal asleep
        asleep += 1
        await pause(0)  # until all who will are asleep
        await pause(0)
        slept.append((seconds, asleep))

    monkeypatch.setattr("pipeline.kafka.ownership.asyncio.sleep", sleep)
    kafka = SimpleNamespace(session_timeout_s=10.0)
    client = SimpleNamespace(topic=lambda name: name, kafka=kafka, spread=lambda _: {})
    own = Ownership(client, SimpleNamespace(read=read), SimpleNamespace(write=write), "new")  # type: ignore[arg-type]
    taken = asyncio.run(own.take(1 if forgotten else rank + 1, list(range(count)), lambda: True))
    assert slept == ([(20.0, count)] * count if forgotten else [])
    assert sorted(taken) == list(range(count))
    assert all(claim.partition == n and claim.rank == rank + 1 and claim.epoch == 1 for n, (claim, _) in taken.items())
    assert all(found.previous is not None and found.previous.worker == "old" for _, found in taken.values())


def test_a_claim_keeps_its_epoch_on_other_logs() -> None:
    """On `decision` the offset is the epoch, elsewhere the value says it."""
    claim = Claim(4, "w", 7, 1)
    assert read_claim(claim_out("decision", claim).value, 33) == claim._replace(epoch=33)
    marker = claim_out("score", claim._replace(epoch=33))
    assert read_claim(marker.value, 99).epoch == 33
    assert marker.value == canonical(claim._replace(epoch=33)._asdict())


@given(
    ends=st.lists(st.integers(1, 50), min_size=1, max_size=30).map(sorted),
    needed=st.integers(0, 60),
    upto=st.integers(0, 40),
)
def test_only_a_contiguous_prefix_is_released(ends: list[int], needed: int, upto: int) -> None:
    """No message behind one that a window or a snapshot still needs; none that they need."""
    part = Part(0, 1, 0, {})
    for number, n1 in enumerate(ends):
        chunk = Chunk(STREAM, Anchor(0, NS), 0, number, _samples(n1))
        part.hold("raw.vibration", 100 + number, number + 1, chunk, "m")
    needs = {"m": {STREAM.key: needed}}
    behind = part.release(needs, upto).get("raw.vibration", 100) - 100
    free = [number + 1 <= upto and n1 <= needed for number, n1 in enumerate(ends)]
    assert behind == (free.index(False) if False in free else len(free))
    assert part.waiting == len(ends) - behind


def test_after_a_rebalance_nothing_is_committed_before_it_comes_again() -> None:
    """What was released under the old generation is no offset of the new one."""
    part = Part(0, 1, 0, {})
    part.hold("command", 7, 1, None, "m")
    assert part.release({}, 1) == part.release({}, 1) == {"command": 8}
    part.renew(5)
    assert part.release({}, 1) == {}
    part.hold("command", 8, 2, None, "m")
    assert part.release({}, 1) == {"command": 8}


@pytest.mark.parametrize(("metadata", "unread"), [("taken=60", 40), ("", 90), (None, 90), ("of=9", 90), ("taken=", 90)])
def test_what_stands_beside_an_offset_tells_what_is_not_taken_in(metadata: str | None, unread: int) -> None:
    """Committed up to 10 of 100; retention has removed the first five."""
    lag = Lag("score", 0, 10, 100, 5, taken_of(metadata))
    assert (lag.lag, lag.unread) == (90, unread)
    assert committed(10, 60).metadata == "taken=60"


def _samples(n: int) -> Any:
    import numpy as np

    return np.zeros((n, 1), "<i2")


def test_a_refused_command_stays_refused_behind_a_later_decision() -> None:
    """A new owner reads the log of commands again: what came before one that was decided was answered before it."""
    written: list[object] = []

    async def write(outs: list[object]) -> list[int]:
        written.extend(outs)
        return [0]

    async def holds(*_: object) -> bool:
        return True

    client = SimpleNamespace(topic=lambda name: name)
    commands = Commands(client, SimpleNamespace(write=write), SimpleNamespace(holds=holds))  # type: ignore[arg-type]
    settings = SimpleNamespace(verify=lambda _, body: body)
    lane = SimpleNamespace(settings=settings, reach=Reach(), process=lambda decision: [decision])
    part = SimpleNamespace(lanes={"m": lane, "n": lane}, epoch=7, number=3)
    known = [Decision("m", "m|model|3.4", 1, "model", {}), Decision("m", "m|abandon|speed", 2, "abandon", {})]
    found = SimpleNamespace(decisions=known)

    def obeyed(machine: str, ident: str) -> list[str]:
        wish = Wish(machine, ident, "model", {})
        results = asyncio.run(commands.obey(part, wish, None, found))  # type: ignore[arg-type]
        return [result.id for result in results]

    assert obeyed("m", "3.2") == obeyed("m", "3.4") == [] and not written
    assert obeyed("m", "3.5") == ["m|model|3.5"]
    assert obeyed("n", "3.2") == ["n|model|3.2"] and len(written) == 2


def test_a_message_that_no_window_can_ever_need_is_released() -> None:
    """One wrong index, days ahead: the sequence has refused it, and no sample will ever come so far."""
    part = Part(0, 1, 0, {})
    far = Chunk(STREAM, Anchor(0, NS), 2**43, 1, _samples(10))
    near = Chunk(STREAM, Anchor(0, NS), 20, 2, _samples(10))
    for number, chunk in enumerate((far, near)):
        part.hold("raw.vibration", 7 + number, number + 1, chunk, "m")
    assert part.release({"m": {STREAM.key: 25}}, 2) == {"raw.vibration": 8}
    assert part.release({"m": {STREAM.key: 30}}, 2) == {"raw.vibration": 9}


def test_a_lane_that_was_kept_hears_what_was_decided_meanwhile() -> None:
    """A decision stands in the log before the claim: it counts, also in the hands of whoever wrote both."""
    heard: list[tuple[str, str]] = []

    def lane(name: str) -> SimpleNamespace:
        return SimpleNamespace(process=lambda d: heard.append((name, d.id)) or [d.id])

    part = Part(0, 1, 0, {name: lane(name) for name in "mn"})  # type: ignore[misc]
    decisions = [Decision("m", "1", 5, "baseline", {}), Decision("*", "2", 6, "abandon", {})]
    assert part.catch_up(decisions) == ["1", "2", "2"]
    assert heard == [("m", "1"), ("m", "2"), ("n", "2")]


def test_a_takeover_keeps_snapshots_of_machines_that_are_not_configured() -> None:
    """Their alarms stand in the sinks' log: a lane that is configured again must know what it has raised."""
    announced: dict[str, bytes] = {}

    async def announce(claim: Claim, snapshots: dict[str, bytes], outdated: list[bytes]) -> set[str]:
        announced.update(snapshots)
        return set()

    async def committed(topics: list[str], number: int) -> dict[str, int]:
        return {}

    lane = SimpleNamespace(snapshot=lambda: b"newer", process=lambda decision: [])
    worker = SimpleNamespace(
        name="w", parts={}, counts=Counter(), _rows={},
        _machines=SimpleNamespace(lanes=lambda number, found: {"m": lane}),
        _ownership=SimpleNamespace(announce=announce), _reader=SimpleNamespace(committed=committed),
    )  # fmt: skip
    found = Found(snapshots={"m": b"old", "disabled": b"as it was"})
    part = asyncio.run(Worker._take_over(worker, 0, 1, Claim(0, "w", 1, 0, epoch=3), found))  # type: ignore[arg-type]
    assert announced == {"m": b"newer", "disabled": b"as it was"}
    assert part.saved == {"m": b"newer"}


def test_what_kafka_would_refuse_for_ever_is_counted() -> None:
    """A record above the largest size; the results behind it must not wait for it."""
    outbox = Outbox(Client(Kafka()), lambda: False)
    assert outbox.fits(Out("state", 0, b"k", bytes(MAX_REQUEST_BYTES - 2000), []))
    assert not outbox.fits(Out("state", 0, b"k", bytes(MAX_REQUEST_BYTES), []))
    assert outbox.counts == {"refused.too_large": 1}
