"""A record that the libraries cannot read stops nobody: what stands in its place, and what stands around it."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections import Counter
from types import SimpleNamespace
from typing import Any

import aiokafka.codec
import aiokafka.consumer.fetcher as aio
import kafka.codec
import kafka.consumer.fetcher as python
import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from kafka import TopicPartition

from config.schema import Kafka
from pipeline import codec
from pipeline.errors import ConfigError, DecodeError
from pipeline.kafka import checks, export, fetched, unpacking, wishes
from pipeline.kafka.client import Client
from pipeline.kafka.collector import Collector
from pipeline.kafka.intake import take_in
from pipeline.kafka.ownership import Found, take_decision
from pipeline.kafka.part import Part
from pipeline.kafka.records import Fence
from pipeline.messages import Context, DeadLetter, Decision
from pipeline.results import record_of

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TP = TopicPartition("context", 5)
LIES, BAD_NAME = 0x05, b"\xff\xfe\xfd"
HEADERS, VALUE = codec.encode(Context("m", "state", 7, "cut"))


def batch(
    first: int,
    count: int = 1,
    codec_used: int = 0,
    bad: int | None = None,
    says: int | None = None,
    value: bytes = VALUE,
) -> bytes:
    """A batch as brokers keep it: record `bad` has a header of another encoding; `says` is a codec that is not used."""
    made = DefaultRecordBatchBuilder(2, codec_used, 0, -1, -1, -1, 1 << 20)
    for number in range(count):
        own = [("QQQ", b"x")] if number == bad else []
        made.append(number, timestamp=1, key=b"m", value=value, headers=[*own, *HEADERS])
    raw = bytes(made.build()).replace(b"QQQ", BAD_NAME)
    whole = bytearray(raw)
    struct.pack_into(">q", whole, 0, first)
    if says is not None:
        struct.pack_into(">h", whole, 21, says)
    struct.pack_into(">I", whole, 17, calc_crc32c(bytes(whole[21:])))
    return bytes(whole)


def by_aiokafka(data: bytes) -> list[Any]:
    return list(aio.PartitionRecords(TP, aio.MemoryRecords(data), [], 0, None, None, True, 0))


def by_kafka_python(data: bytes) -> list[Any]:
    records = python.Fetcher.PartitionRecords(0, TP, python.MemoryRecords(data))
    found: list[Any] = records.take()
    return found


READERS = pytest.mark.parametrize(
    "read", [pytest.param(by_aiokafka, id="aiokafka"), pytest.param(by_kafka_python, id="kafka-python")]
)


@READERS
@pytest.mark.parametrize("name", CODECS)
def test_every_compression_of_kafka_is_read(read: Any, name: str) -> None:
    """As producers of other languages use them by default."""
    found = read(batch(0, 3, CODECS[name]) + batch(3))
    assert [(r.offset, r.key, r.value, list(r.headers)) for r in found] == [
        (offset, b"m", VALUE, list(HEADERS)) for offset in range(4)
    ]


@READERS
def test_a_header_whose_name_is_no_utf8_spoils_its_own_record_alone(read: Any) -> None:
    """Those before and behind it in the same batch are whole, and so is its value."""
    found = read(batch(0) + batch(1, 3, bad=1) + batch(4))
    assert [r.offset for r in found] == [0, 1, 2, 3, 4]
    assert all(list(r.headers) == list(HEADERS) for r in found if r.offset != 2)
    spoilt = found[2]
    assert (spoilt.key, spoilt.value, list(spoilt.headers)[:-1]) == (b"m", VALUE, list(HEADERS))
    assert spoilt.headers[-1][0].endswith(r"\xff\xfe\xfd")


@READERS
@pytest.mark.parametrize("says", [*list(CODECS.values())[1:], LIES])
def test_a_batch_that_cannot_be_unpacked_has_a_record_for_every_offset(read: Any, says: int) -> None:
    """So that no offset seems to be left out."""
    found = read(batch(0) + batch(1, 3, says=says) + batch(4))
    assert [(r.offset, r.value) for r in found] == [(0, VALUE), (1, None), (2, None), (3, None), (4, VALUE)]


@READERS
@pytest.mark.parametrize("name", ["snappy", "lz4", "zstd"])
def test_a_codec_that_is_not_installed_is_an_error(read: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next installation can read must not be passed over."""
    for library in (aiokafka.codec, kafka.codec):
        monkeypatch.setattr(library, f"has_{name}", lambda: False)
    with pytest.raises(Exception, match=f"(?i){name}"):
        read(batch(0, 3, CODECS[name]))
    with pytest.raises(ConfigError, match=r"install stethos\[kafka\] again"):
        checks.libraries()


@READERS
@pytest.mark.parametrize("name", list(CODECS)[1:])
def test_a_batch_that_unpacks_to_far_too_much_takes_no_memory(
    read: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb becomes what a batch becomes that cannot be read; what stands around it is read, however well packed."""
    monkeypatch.setattr(unpacking, "MOST_BYTES", 2_000_000)
    monkeypatch.setattr(unpacking, "PIECE_BYTES", 100_000)
    fine, bomb = (batch(at, 1, CODECS[name], value=bytes(size)) for at, size in ((0, 1_900_000), (1, 40_000_000)))
    tracemalloc.start()
    try:
        found = read(bomb + batch(2))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(r.offset, r.value) for r in found] == [(1, None), (2, VALUE)]
    assert "unpacks to more than 2,000,000 bytes" in found[0].headers[0][0]
    assert most < 5 * len(bomb) + 10_000_000
    assert [len(r.value) for r in read(fine)] == [1_900_000]


def test_what_is_packed_in_several_pieces_is_read_whole() -> None:
    """Streams may follow each other, and Java's snappy comes in blocks; what is cut off is an error."""
    x = bytes(range(256)) * 2000
    packs = {"gzip": gzip.compress, "lz4": lz4.frame.compress, "zstd": zstandard.ZstdCompressor().compress}
    for name, pack in packs.items():
        decode = getattr(unpacking, f"{name}_decode")
        assert decode(memoryview(pack(x) + pack(x[:9]))) == x + x[:9]
        assert decode(pack(b"")) == b""
        if name != "zstd":  # it gives what is there, and the parser then lacks records
            with pytest.raises(EOFError):
                decode(pack(x)[:-9])
    for blocks in (True, False):
        packed = aiokafka.codec.snappy_encode(x, xerial_compatible=blocks)
        assert unpacking.snappy_decode(packed, kafka.codec.snappy_decode) == x


@pytest.mark.parametrize("name", ["gzip", "lz4"])
def test_a_batch_of_empty_streams_takes_no_time(name: str) -> None:
    """Some thousands in a megabyte, which unpack to nothing, each by a decompressor of its own."""
    pack: Any = {"gzip": gzip.compress, "lz4": lz4.frame.compress}[name]
    decode, empty = getattr(unpacking, f"{name}_decode"), pack(b"")
    with pytest.raises(unpacking.TooLong, match="more than 1,000 streams"):
        decode(empty * (1_000_000 // len(empty)))
    assert decode(empty * 998 + pack(b"two") * 2) == b"twotwo"


def test_an_answer_without_records_is_none() -> None:
    """The protocol allows it."""
    assert not aio.MemoryRecords(None).has_next()


@READERS
def test_what_was_damaged_on_its_way_is_an_error(read: Any) -> None:
    """It may be whole when it is fetched again."""
    damaged = bytearray(batch(0))
    damaged[-1] ^= 1
    with pytest.raises(Exception, match=r"(?i)crc"):
        read(bytes(damaged))


@pytest.mark.parametrize("data", [batch(0) + batch(1, bad=0), batch(0) + batch(1, says=LIES)])
def test_it_is_a_dead_letter_of_a_worker(data: bytes) -> None:
    """It says where the record is; nothing of it reaches a lane."""
    fine, spoilt = by_aiokafka(data)
    part = Part(5, 1, 0, {"m": None})  # type: ignore[dict-item]
    assert take_in("context", fine, part).message == Context("m", "state", 7, "cut")
    taken = take_in("context", spoilt, part)
    (letter,) = taken.results
    assert taken.message is None and isinstance(letter, DeadLetter) and letter.reason == "unreadable"
    assert "partition 5, offset 1" in letter.error
    codec.encode(letter)


def test_no_other_reader_takes_it_for_anything(tmp_path: Any) -> None:
    """Decisions, results, recordings and answers to commands: left out, and counted where there are counts."""
    headers, value = codec.encode(Decision("m", "m|k|i", 5, "k", {}))
    spoilt = [*headers, (f"{fetched.UNREADABLE}x", b"")]
    record = SimpleNamespace(partition=0, offset=3, key=b"m", headers=spoilt, value=value)
    with pytest.raises(DecodeError, match="partition 0, offset 3: x"):
        fetched.check(record)
    found = Found()
    take_decision(found, record)
    assert found.decisions == []
    collector = Collector(Client(Kafka()), tmp_path / "state.sqlite")
    collector._fences[TP] = Fence()
    assert collector._read("decision", TP, record) is None and collector.counts["unreadable"] == 1
    assert wishes._answer(record, wishes.Asked("m", "k", "i", "n")) is None
    counts: Any = Counter()
    assert export._read([record], counts) == [] and counts["unreadable.unreadable"] == 1


def test_letters_of_one_batch_are_several() -> None:
    """Each has an id of its own."""
    part = Part(5, 1, 0, {"m": None})  # type: ignore[dict-item]
    letters = [letter for r in by_aiokafka(batch(0, 3, says=LIES)) for letter in take_in("context", r, part).results]
    assert len({record_of(letter).id for letter in letters}) == 3
