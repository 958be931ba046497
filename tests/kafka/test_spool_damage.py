"""A spool whose disk has damaged it: what can be read is sent, the rest is counted, and nothing stands still for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from connectors.kafka import KafkaPublisher
from connectors.spool import Segment, Spool, load
from tests.kafka.producers import FakeProducer, left_on_disk, send, wait_for
from tests.kafka.test_publisher import kept


def filled(folder: Path, numbers: range) -> Path:
    """A finished segment of some records."""
    spool = Spool(folder, 10_000_000)
    for seq in numbers:
        spool.append(kept(seq))
    spool.close()
    return spool.segments()[-1]


def flipped(path: Path, at: int, bit: int = 4) -> None:
    """One bit of a file is another one."""
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def damaged(data: bytes, kind: str, draw: random.Random) -> bytes:
    """What crashes and old disks do to files."""
    at = draw.randrange(len(data))
    if kind == "cut":
        return data[:at]
    if kind == "zeros":
        return data[:at] + bytes(len(data) - at)
    if kind == "garbage":
        return data[:at] + draw.randbytes(4096)
    turned = bytearray(data)
    turned[at] ^= 1 << draw.randrange(8)
    return bytes(turned)


@pytest.mark.parametrize("kind", ["cut", "zeros", "garbage", "flip"])
def test_a_damaged_segment_reads_as_its_beginning(kind: str, tmp_path: Path) -> None:
    """Never a record that was not written, never an error; where its end is whole, the rest is counted."""
    path, draw = filled(tmp_path, range(600)), random.Random(1)
    whole = load(path)
    assert (len(whole.records), whole.damage, whole.lost) == (600, "", 0)
    data = path.read_bytes()
    for _ in range(40):
        path.write_bytes(damaged(data, kind, draw))
        found = load(path)
        assert found.records == whole.records[: len(found.records)]
        assert found.damage or found.records == whole.records
        assert found.lost in {0, 600 - len(found.records)}
        assert Spool(tmp_path, 10_000_000).next_seq <= 600


def test_a_damaged_segment_is_counted_and_those_behind_it_are_sent(fakes: list[FakeProducer], tmp_path: Path) -> None:
    """The publisher starts on it, and goes on over it."""
    first = filled(tmp_path, range(600))
    filled(tmp_path, range(600, 610))
    flipped(first, first.stat().st_size // 2)
    readable = len(load(first).records)
    assert 0 < readable < 600
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or publisher.waiting == 0)
    assert got == [*range(readable), *range(600, 610)]
    told = publisher.metrics()
    assert told["dropped.spool_damaged"] == 600 - readable and told["damaged.segment"] == 1
    publisher.close()
    assert not left_on_disk(tmp_path)


def test_it_starts_where_the_last_segment_is_damaged(fakes: list[FakeProducer], tmp_path: Path) -> None:
    """Whatever the bit."""
    path = filled(tmp_path, range(20))
    for at in range(0, 300, 7):
        flipped(path, at)
        KafkaPublisher({}, tmp_path, 10_000_000).close(0.0)
        if not path.exists():
            path = filled(tmp_path, range(20))


def test_a_fault_of_its_thread_is_said_and_does_not_end_it(
    fakes: list[FakeProducer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is tried again."""
    filled(tmp_path, range(20))
    broken = True

    def first(spool: Spool) -> tuple[Path, Segment] | None:
        if broken:
            raise KeyError(8)
        return original(spool)

    original = Spool.first
    monkeypatch.setattr(Spool, "first", first)
    publisher = KafkaPublisher({}, tmp_path, 10_000_000)
    wait_for(lambda: publisher.error == "KeyError(8)")
    broken = False
    got: list[int] = []
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or publisher.waiting == 0)
    assert got == list(range(20)) and publisher.error == ""
    send(publisher, range(20, 25))
    wait_for(lambda: got.extend(n for fake in fakes for n in fake.acknowledge()) or len(got) == 25)
    publisher.close()


def test_a_full_ring_leaves_what_is_being_sent(tmp_path: Path) -> None:
    """Its records are in memory: to drop the file would count them as lost beside being sent."""
    spool = Spool(tmp_path, 60_000, segment_bytes=20_000)
    for seq in range(60):
        spool.append(kept(seq))
    found = spool.first()
    assert found is not None
    sending, second = found[0], spool.segments()[1]
    lost = len(load(second).records)
    for seq in range(60, 400):
        if not spool.dropped:
            spool.append(kept(seq))
    spool.close()
    assert sending.exists() and not second.exists() and spool.dropped == lost
