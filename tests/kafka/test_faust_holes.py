"""Where in Faust 0.15.3 messages get lost, shown on its own consumer; test_faust_live.py shows it on a real broker.

Ours passes the same situations there, in test_faults.py and test_parity.py, because it commits offsets itself, checks
that nothing was left out, and lets no exception out of its agent. A release that mends one of these makes a test fail.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer
from faust.transport.consumer import Consumer
from faust.types import TP
from intervaltree import IntervalTree

from pipeline.kafka.faust_app import highwater
from pipeline.kafka.pacing import Pacing
from pipeline.kafka.part import Part
from pipeline.messages import NS, Anchor, Late, Rate, Stream

T = TP("raw.vibration", 0)


def consumer(acked: list[int], committed: int | None) -> Any:
    """Faust's bookkeeping of acknowledgements, without a broker."""
    return SimpleNamespace(
        _acked=defaultdict(list, {T: list(acked)}),
        _acked_index=defaultdict(set, {T: set(acked)}),
        _gap=defaultdict(IntervalTree),
        _committed_offset=defaultdict(lambda: None, {T: committed}),
        _read_offset=defaultdict(lambda: None),
        _paused_partitions=set(),
        _active_partitions={T},
        _buffered_partitions=set(),
        _get_active_partitions=lambda: active,
    )


active: set[TP] = {T}


@pytest.mark.parametrize(
    ("acked", "committed", "commits"),
    [
        ([4, 5, 6], 3, 7),  # 3 is still open: a gap of one passes for none
        ([1, 2, 3], None, 4),  # 0 is open, nothing was committed yet: no test at all
        ([5, 6], 3, None),  # 3 and 4 are open: seen
    ],
)
def test_hole_1_offsets_are_committed_over_an_open_message(
    acked: list[int], committed: int | None, commits: int | None
) -> None:
    """The gap test is off by one, and missing before the first commit."""
    assert Consumer._new_offset(consumer(acked, committed), T) == commits


def test_hole_3_a_rebalance_forgets_acknowledgements() -> None:
    """They are dropped before anybody may commit them."""
    made = consumer([3, 4, 5], 3)
    made.app = SimpleNamespace(_start_span_from_rebalancing=lambda _name: _Span())

    async def revoked(_tps: set[TP]) -> None:
        assert T not in made._acked

    made._on_partitions_revoked = revoked
    method = Consumer.on_partitions_revoked
    asyncio.run(getattr(method, "__wrapped__", method)(_Flags(made), {T}))
    assert made._acked == {}


def test_hole_4_waiting_for_held_messages_never_ends() -> None:
    """With `stream_wait_empty`, a rebalance waits for messages that a half window holds while nothing can fill it."""
    made = consumer([], None)
    rounds: list[int] = []

    async def nothing(*_: object, **__: object) -> None:
        rounds.append(1)
        await asyncio.sleep(0)

    made.should_stop = False
    made.commit = made._wait_for_ack = made.commit_and_end_transactions = nothing
    made._clean_unacked_messages = lambda: None
    made.log = SimpleNamespace(dev=lambda *_: None, warning=lambda *_: None, info=lambda *_: None)
    made.app = SimpleNamespace(agents=SimpleNamespace(human_tracebacks=lambda: ""))
    method = Consumer.wait_empty

    async def wait() -> None:
        await asyncio.wait_for(getattr(method, "__wrapped__", method)(_Flags(made)), 0.3)

    made._unacked_messages = {_Held()}
    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    assert len(rounds) > 1
    assert make_settings().stream_wait_empty is False  # ours


def make_settings() -> Any:
    """The settings of our own app."""
    from config.schema import Kafka
    from pipeline.kafka.client import Client
    from pipeline.kafka.faust_app import make_app

    async def made() -> Any:
        async def put(_event: object) -> None:
            return None

        return make_app(Client(Kafka()), "w", ["raw.vibration"], put, lambda _tps: None, lambda: None)[0].conf

    return asyncio.run(made())


class _Held:
    acked = False
    refcount = 1


def test_hole_6_needs_the_compiled_iterator() -> None:
    """Ours refuses to start without it (`pipeline.kafka.checks`)."""
    import faust.streams

    from pipeline.kafka import checks

    streams: Any = faust.streams
    assert streams._CStreamIterator is not None
    compiled, streams._CStreamIterator = streams._CStreamIterator, None
    try:
        with pytest.raises(Exception, match="compiled stream iterator"):
            checks.libraries()
    finally:
        streams._CStreamIterator = compiled
    checks.libraries()


def test_hole_7_what_the_consumer_left_out_counts_as_acknowledged() -> None:
    """Messages that were polled and dropped become a gap, and gaps are committed over."""
    made = consumer([3, 7], 3)
    asyncio.run(Consumer._add_gap(made, T, 4, 6))
    assert Consumer._new_offset(made, T) == 8


def test_hole_8_pausing_a_partition_drops_what_was_polled() -> None:
    """`getmany` passes over records of paused partitions; a full buffer's way of pausing delivers them."""
    records = {T: [1, 2, 3]}
    made = consumer([], None)
    made.flow_active, made.should_stop = True, False
    made.app = SimpleNamespace(consumer_generation_id=1, monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None))
    made.scheduler = SimpleNamespace(iterate=lambda found: ((tp, r) for tp, rs in found.items() for r in rs))
    made.highwater = lambda _tp: 9
    made._to_message = lambda _tp, offset: offset

    async def got(pause: Any) -> list[Any]:
        polled = {T}
        made._get_active_partitions = lambda: polled
        made._buffered_partitions.clear()

        async def wait(_timeout: float) -> tuple[Any, set[TP]]:
            return records, polled

        made._wait_next_records = wait
        offset: Any
        out = []
        async for _tp, offset in Consumer.getmany(made, 1.0):
            out.append(offset)
            if offset == 1:
                pause(made)
        return out

    assert asyncio.run(got(lambda c: Consumer.pause_partitions(c, [T]))) == [1]
    made.app.in_recovery = False
    assert asyncio.run(got(lambda c: Consumer.on_buffer_full(c, T))) == [1, 2, 3]


def test_ours_pauses_what_is_ahead_without_dropping() -> None:
    """The topic that is ten seconds ahead of one with unread messages waits, and goes on afterwards."""
    calls: list[tuple[str, TP]] = []
    fake = SimpleNamespace(
        highwater=lambda _tp: 10,
        on_buffer_full=lambda tp: calls.append(("full", tp)),
        on_buffer_drop=lambda tp: calls.append(("drop", tp)),
    )
    part, pacing = Part(0, 1, 0, {}), Pacing()
    part.newest_ns = {"raw.acoustic": 50_000_000_000, "raw.vibration": 20_000_000_000}
    part.expect = {"raw.acoustic": 5, "raw.vibration": 5}
    pacing.pace(fake, [part], lambda row: row)
    assert not calls  # what came within the last second is no backlog
    pacing.pace(fake, [part], lambda row: row)
    assert calls == [("full", TP("raw.acoustic", 0))]
    part.newest_ns["raw.vibration"] = 45_000_000_000
    pacing.pace(fake, [part], lambda row: row)
    assert calls[1:] == [("drop", TP("raw.acoustic", 0))]


def test_a_clock_that_is_behind_pauses_no_topic_while_it_is_read() -> None:
    """An hour behind, ten messages a second, three of them unread at every look."""
    calls: list[TP] = []
    part, pacing = Part(0, 1, 0, {}), Pacing()
    for second in range(5):
        now_ns, read = (3600 + second) * NS, 10 * second
        part.newest_ns = {"raw.acoustic": now_ns, "raw.vibration": now_ns - 3600 * NS}
        part.expect = {"raw.acoustic": read, "raw.vibration": read}
        fake = SimpleNamespace(highwater=lambda _tp, end=read + 3: end, on_buffer_full=calls.append)
        pacing.pace(fake, [part], lambda row: row)
    assert not calls
    pacing.pace(fake, [part], lambda row: row)  # and when it is not read any more
    assert calls == [TP("raw.acoustic", 0)]


def test_a_clock_that_is_ahead_pauses_no_topic() -> None:
    """What was refused does not count as read, and no device is further than the host's clock."""
    part, now_ns = Part(0, 1, 0, {}), 100 * NS
    stream = Stream("m", "mic", 0, "acoustic", Rate(8000), 1, "<i2", "FS")
    late = Late(stream, Anchor(0, 3700 * NS), 0, 800, "clock_jump")
    part.heard("raw.acoustic", 99 * NS, [], now_ns)
    part.heard("raw.acoustic", 3700 * NS, [late], now_ns)
    assert part.newest_ns == {"raw.acoustic": 99 * NS}
    part.heard("raw.acoustic", 3700 * NS, [], now_ns)
    part.heard("raw.acoustic", 98 * NS, [], now_ns)
    assert part.newest_ns == {"raw.acoustic": now_ns}


def test_a_partition_that_a_rebalance_has_taken_away_has_no_end() -> None:
    """aiokafka asserts that it is assigned: between revocation and assignment that ended a worker that had slept."""

    async def ends() -> list[int | None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            real = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
        quiet = SimpleNamespace(highwater=lambda _tp: None)
        return [highwater(real, T), highwater(quiet, T), highwater(SimpleNamespace(highwater=lambda _tp: 7), T)]

    assert asyncio.run(ends()) == [None, 0, 7]


class _Span:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _Flags:
    """The consumer with the diagnostics that a decorated method wants."""

    def __init__(self, made: Any) -> None:
        self.__dict__["_made"] = made
        self.__dict__["diag"] = SimpleNamespace(set_flag=lambda _f: None, unset_flag=lambda _f: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)
