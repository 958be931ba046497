"""Chunks between processes: what comes out is what went in, and what has no place in the short form stays out."""

from __future__ import annotations

import marshal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import codec
from pipeline.errors import BadInput
from pipeline.messages import Anchor, Chunk, Rate, Stream
from pipeline.packed import Packer, Unpacker

STREAM = Stream("mill/ä", "mic", 3, "acoustic", Rate(48_000), 2, "<i2", "FS", 1 / 32768)


ANCHOR = Anchor(0, 0)


def chunk(stream: Stream = STREAM, n0: int = 0, n: int = 5, seq: int = 0, anchor: Anchor = ANCHOR) -> Chunk:
    x = (np.arange(n * stream.channels) + n0 % 1000).reshape(n, stream.channels).astype(stream.dtype)
    return Chunk(stream, anchor, n0, seq, x)


def through(packer: Packer, unpacker: Unpacker, sent: Chunk) -> list[Chunk]:
    """By way of the bytes of the pipe."""
    packed: list[Any] = marshal.loads(marshal.dumps(packer.pack(sent)))
    return [got for item in packed if (got := unpacker.unpack(item)) is not None]


def same(a: Chunk, b: Chunk) -> bool:
    assert a.samples.dtype == b.samples.dtype
    assert not b.samples.flags.writeable
    return (a.stream, a.anchor, a.n0, a.seq) == (b.stream, b.anchor, b.n0, b.seq) and np.array_equal(
        a.samples, b.samples
    )


places = st.integers(0, 2**62)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), places, st.integers(0, 9), places, st.integers(0, 2**62)), max_size=20))
def test_chunks_of_several_streams_come_out_as_they_went_in(
    rows: list[tuple[int, int, int, int, int]],
) -> None:
    streams = [replace(STREAM, sensor=f"s{i}", epoch=i, dtype=("<i2", "<f4")[i % 2]) for i in range(4)]
    packer, unpacker = Packer(), Unpacker()
    for which, n0, n, seq, t_ns in rows:
        sent = chunk(streams[which], n0, n, seq, Anchor(n0, t_ns))
        (got,) = through(packer, unpacker, sent)
        assert same(sent, got)
        assert same(codec.decode(*codec.encode(sent)), got)  # type: ignore[arg-type]


def test_a_streams_headers_go_once_and_its_chunks_share_one_stream() -> None:
    packer, unpacker = Packer(), Unpacker()
    sent = [chunk(n0=5 * k, seq=k) for k in range(3)]
    assert [len(packer.pack(c)) for c in sent] == [2, 1, 1]
    packer = Packer()
    got = [c for one in sent for c in through(packer, unpacker, one)]
    assert got[0].stream is got[1].stream is got[2].stream


def test_more_streams_than_are_remembered_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.packed._MAX_STREAMS", 2)
    packer, unpacker = Packer(), Unpacker()
    streams = [replace(STREAM, epoch=k) for k in range(5)]
    for n0 in (0, 5):
        for stream in streams:
            sent = chunk(stream, n0)
            assert same(sent, *through(packer, unpacker, sent))


@pytest.mark.parametrize(
    "unfit",
    [chunk(n0=-1), chunk(seq=-1), chunk(n0=2**63 - 2), chunk(anchor=Anchor(0, 2**63 - 1)), chunk(seq=2**63)],
)
def test_what_does_not_fit_into_64_bits_goes_as_on_the_wire(unfit: Chunk) -> None:
    assert Packer().pack(unfit) == []


def test_samples_that_are_not_what_their_stream_says_are_refused() -> None:
    with pytest.raises(BadInput, match="is not"):
        Packer().pack(replace(chunk(), samples=np.zeros((5, 3), "<i2")))
