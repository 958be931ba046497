"""The wire form: CloudEvents headers by hand, exact round trips, and nothing but messages or DecodeError."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec import MAX_BYTES, Wire, decode, encode, key_of, topic_of
from pipeline.errors import BadInput, DecodeError
from pipeline.headers import rfc3339
from pipeline.messages import (
    Alarm,
    Anchor,
    Chunk,
    Context,
    DeadLetter,
    Decision,
    Feature,
    Health,
    Image,
    Late,
    MachineState,
    Mark,
    Rate,
    Score,
    Stream,
)

MIC = Stream("mill 1", "mic", 3, "acoustic", Rate(48000), 2, "<i2", "FS", 1 / 32768)
CAMERA = Stream("mill 1", "cam", 0, "frames", Rate(30000, 1001), 3, "image/jpeg", "image")
ANCHOR = Anchor(100, 1_700_000_000_000_000_123)
SAMPLES = np.arange(-6, 6, dtype="<i2").reshape(-1, 2)
REASONS = frozenset(
    {
        "content_type",
        "dtype",
        "json",
        "length",
        "mark",
        "missing",
        "modality",
        "negative",
        "not_utf8",
        "number",
        "range",
        "rate",
        "scale",
        "schema",
        "shape",
        "source",
        "too_large",
        "type",
        "unit",
        "version",
    }
)


def chunk(stream: Stream = MIC, samples: np.ndarray = SAMPLES, n0: int = 4800, seq: int = 7) -> Chunk:
    return Chunk(stream, ANCHOR, n0, seq, samples)


EXAMPLES: list[Any] = [
    chunk(),
    Image(CAMERA, ANCHOR, 5, 5, b"\xff\xd8jpeg"),
    Mark(MIC, ANCHOR, 4800, 9600, "silent"),
    Mark(CAMERA, ANCHOR, 7, 7, "end"),
    Context("mill 1", "spindle_rpm", 1_700_000_000_000_000_000, 8000.5),
    Decision("mill 1", "d-1", 1_700_000_000_000_000_000, "baseline", {"sha256": "ab", "nested": [1, 2.5, None]}),
    Feature("mill 1", ("mic",), "level", 5, {"rms_pa": 0.1}),
    Score("mill 1", ("mic", "acc"), "chatter", 5, 0.1, 0.5, "h"),
    MachineState("mill 1", ("mic",), "chatter", 5, "cutting", "h", (), 0.75),
    Alarm("mill 1", ("mic",), "chatter", 5, "raised", 0, 5, "warning", "text", 1.0, 0.5, "h"),
    Health("mill 1", "mic", 3, 5, "failure", ("silent",)),
    Late(MIC, ANCHOR, 0, 10, "duplicate"),
    DeadLetter("raw.acoustic", "mill 1", "rate", "no rate", (("ce_rate", b"\xff"),), b"\x00\xff"),
]


def header(wire: Wire, name: str, value: bytes | None) -> Wire:
    """The same record with one header replaced, added, or (None) removed."""
    rest = [(n, v) for n, v in wire.headers if n != name]
    return Wire(rest if value is None else [*rest, (name, value)], wire.value)


def test_a_chunk_travels_as_the_binding_says() -> None:
    headers, value = encode(chunk())
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"3.7",
        "ce_source": b"/mill%201/mic",
        "ce_type": b"stethos.chunk.acoustic.v1",
        "ce_time": b"2023-11-14T22:13:20.097916Z",  # 4,700 samples after the anchor
        "content-type": b"application/vnd.stethos.samples",
        "ce_epoch": b"3",
        "ce_seq": b"7",
        "ce_n0": b"4800",
        "ce_an": b"100",
        "ce_ans": b"1700000000000000123",
        "ce_rate": b"48000/1",
        "ce_dtype": b"<i2",
        "ce_shape": b"6,2",
        "ce_unit": b"FS",
        "ce_scale": b"3.0517578125e-05",
    }
    assert value == b"".join(int(x).to_bytes(2, "little", signed=True) for x in range(-6, 6))
    assert key_of(chunk()) == b"mill 1"


def test_a_mark_has_no_value_and_says_from_and_to() -> None:
    headers, value = encode(EXAMPLES[2])
    assert value == b""
    fields = dict(headers)
    assert (fields["ce_n0"], fields["ce_n1"], fields["ce_reason"]) == (b"4800", b"9600", b"silent")
    assert decode(headers, None) == EXAMPLES[2]


def test_chunks_come_back_identical_without_a_copy() -> None:
    wire = encode(chunk())
    back = decode(*wire)
    assert isinstance(back, Chunk)
    assert (back.stream, back.anchor, back.n0, back.seq) == (MIC, ANCHOR, 4800, 7)
    assert back.samples.dtype == SAMPLES.dtype and np.array_equal(back.samples, SAMPLES)
    assert not back.samples.flags.writeable
    assert np.shares_memory(back.samples, np.frombuffer(wire.value, np.uint8))
    assert decode(*encode(replace(back, n0=5000))).stream is back.stream
    assert decode(*encode(EXAMPLES[2])).stream is back.stream


@pytest.mark.parametrize("message", EXAMPLES[1:6] + EXAMPLES[10:11], ids=lambda m: type(m).__name__)
def test_other_messages_come_back_equal(message: Any) -> None:
    back = decode(*encode(message))
    for name in type(message).__dataclass_fields__:
        assert getattr(back, name) == getattr(message, name)


def test_topics() -> None:
    assert [topic_of(m) for m in EXAMPLES] == [
        "raw.acoustic", "raw.frames", "raw.acoustic", "raw.frames", "context", "decision", "feature", "score",
        "machine_state", "alarm", "health", "late", "dlq",
    ]  # fmt: skip


@given(
    names=st.tuples(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20)),
    dtype=st.sampled_from(["<i2", "<i4", "<f4"]),
    shape=st.tuples(st.integers(0, 20), st.integers(1, 5)),
    numbers=st.tuples(*[st.integers(0, 2**40)] * 3),
    anchor=st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**60), 2**60)),
    rate=st.tuples(st.integers(1000, 10**9), st.integers(1, 1001)),
    scale=st.floats(allow_nan=False, allow_infinity=False).filter(bool),
    data=st.data(),
)
def test_any_chunk_comes_back_to_the_bit(
    names: tuple[str, str],
    dtype: str,
    shape: tuple[int, int],
    numbers: tuple[int, int, int],
    anchor: tuple[int, int],
    rate: tuple[int, int],
    scale: float,
    data: st.DataObject,
) -> None:
    raw = data.draw(st.binary(min_size=shape[0] * shape[1] * 4, max_size=shape[0] * shape[1] * 4))
    samples = np.frombuffer(raw, dtype)[: shape[0] * shape[1]].reshape(shape)
    epoch, n0, seq = numbers
    stream = Stream(*names, epoch, "vibration", Rate(*rate), shape[1], dtype, "m/s2", scale)
    sent = Chunk(stream, Anchor(*anchor), n0, seq, samples)
    if not all(-(2**63) <= t < 2**63 for t in (sent.t0_ns, sent.t1_ns)):
        with pytest.raises(DecodeError, match="end at"):
            decode(*encode(sent))
        return
    back = decode(*encode(sent))
    assert (back.stream, back.anchor, back.n0, back.seq) == (stream, sent.anchor, n0, seq)
    assert back.samples.shape == shape and back.samples.tobytes() == samples.tobytes()


def test_column_ordered_samples_travel_in_row_order() -> None:
    back = decode(*encode(chunk(samples=np.asfortranarray(SAMPLES))))
    assert np.array_equal(back.samples, SAMPLES)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ce_specversion", b"2.0", "version"),
        ("ce_specversion", None, "missing"),
        ("ce_type", b"stethos.chunk.acoustic.v2", "version"),
        ("ce_type", b"stethos.chunk.radar.v1", "modality"),
        ("ce_type", b"stethos.chunk.frames.v1", "modality"),
        ("ce_type", b"com.other.thing", "type"),
        ("ce_type", b"stethos.score.v1", "type"),
        ("ce_type", None, "missing"),
        ("ce_type", b"\xff\xfe", "not_utf8"),
        ("ce_source", b"/only", "source"),
        ("ce_source", b"/m/%ff", "not_utf8"),
        ("content-type", b"text/plain", "content_type"),
        ("content-type", b"application/json", "type"),
        ("ce_epoch", b"-1", "negative"),
        ("ce_seq", None, "missing"),
        ("ce_n0", b"-4800", "negative"),
        ("ce_n0", b"1_000", "number"),
        ("ce_n0", b"9223372036854775808", "number"),
        ("ce_n0", b"9223372036854775807", "range"),
        ("ce_an", b"", "number"),
        ("ce_ans", b"9223372036854775807", "range"),
        ("ce_ans", b"now", "number"),
        ("ce_rate", b"0/1", "rate"),
        ("ce_rate", b"48000/0", "rate"),
        ("ce_rate", b"48000", "rate"),
        ("ce_dtype", b"<f8", "dtype"),
        ("ce_dtype", b">i2", "dtype"),
        ("ce_dtype", b"image/png", "dtype"),
        ("ce_shape", b"5,2", "length"),
        ("ce_shape", b"12,1", None),
        ("ce_shape", b"6,0", "shape"),
        ("ce_shape", b"6", "number"),
        ("ce_shape", b"-6,2", "negative"),
        ("ce_shape", None, "missing"),
        ("ce_unit", b"", "unit"),
        ("ce_unit", None, "missing"),
        ("ce_unit", b"x" * 2000, "too_large"),
        ("ce_scale", b"nan", "scale"),
        ("ce_scale", b"1e999", "scale"),
        ("ce_scale", b"0.0", "scale"),
        ("ce_future", b"anything", None),
        ("traceparent", b"\xff", None),
    ],
)
def test_wrong_headers_have_their_reason(name: str, value: bytes | None, reason: str | None) -> None:
    wire = header(encode(chunk()), name, value)
    if reason is None:
        assert isinstance(decode(*wire), Chunk)
        return
    with pytest.raises(DecodeError) as caught:
        decode(*wire)
    assert caught.value.reason == reason
    assert str(caught.value)


@pytest.mark.parametrize(
    ("example", "value", "reason"),
    [
        (0, SAMPLES.tobytes()[:-1], "length"),
        (0, None, "length"),
        (0, bytes(MAX_BYTES + 1), "too_large"),
        (1, b"", "length"),
        (2, b"x", "length"),
        (4, b"{", "json"),
        (4, b"\xff", "json"),
        (4, b"[]", "schema"),
        (4, b'{"machine":"m","name":"n","t_ns":1.5,"value":1,"id":"x"}', "schema"),
        (7, b'{"machine":"m"}', "schema"),
    ],
)
def test_wrong_values_have_their_reason(example: int, value: Any, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(encode(EXAMPLES[example]).headers, value)
    assert caught.value.reason == reason


def test_wrong_marks_and_versions_of_json_are_refused() -> None:
    for wire, reason in [
        (header(encode(EXAMPLES[2]), "ce_reason", b"bored"), "mark"),
        (header(encode(EXAMPLES[2]), "ce_n1", b"1"), "range"),
        (header(encode(EXAMPLES[4]), "ce_type", b"stethos.context.v9"), "version"),
        (header(encode(EXAMPLES[4]), "content-type", None), "content_type"),
        (Wire([], b""), "missing"),
    ]:
        with pytest.raises(DecodeError) as caught:
            decode(*wire)
        assert caught.value.reason == reason


def test_what_cannot_travel_is_refused_before_it_leaves() -> None:
    bad: list[tuple[Any, str]] = [
        (chunk(samples=SAMPLES.astype("<f4")), "shape"),
        (chunk(samples=SAMPLES[:, :1]), "shape"),
        (chunk(samples=np.zeros((MAX_BYTES // 4 + 1, 2), "<i2")), "too_large"),
        (chunk(stream=replace(MIC, unit="")), "unit"),
        (chunk(stream=replace(MIC, rate=Rate(0))), "rate"),
        (Image(CAMERA, ANCHOR, 0, 0, bytes(MAX_BYTES + 1)), "too_large"),
    ]
    for message, reason in bad:
        with pytest.raises(BadInput) as caught:
            encode(message)
        assert caught.value.reason == reason


def test_a_large_dead_letter_is_cut_and_says_so() -> None:
    letter = DeadLetter("raw.acoustic", "m", "length", "wrong", (), bytes(MAX_BYTES))
    back = decode(*encode(letter))
    assert isinstance(back, DeadLetter)
    assert len(back.value) == 600_000 and "600000 of 900000" in back.error


@given(st.integers(0, 4 * 10**18))
def test_times_are_utc_to_the_microsecond(t_ns: int) -> None:
    seconds, ns = divmod(t_ns, 10**9)
    parsed = datetime.fromisoformat(rfc3339(t_ns).decode())
    assert parsed.utcoffset().total_seconds() == 0
    assert (int(parsed.replace(microsecond=0).timestamp()), parsed.microsecond) == (seconds, ns // 1000)


# mutations -----------------------------------------------------------------------------------------------------------


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    if not raw or rng.random() < 0.2:
        return rng.randbytes(rng.randrange(40))
    at = rng.randrange(len(raw))
    how = rng.randrange(5)
    if how == 0:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if how == 1:
        return raw[:at]
    if how == 2:
        return raw[:at] + rng.choice([b"-", b"0", b".", b"/", b",", b"\xff", b"9" * 25, b'"', b"{"]) + raw[at:]
    if how == 3:
        return raw + raw[at:]
    return raw[::-1]


def _change(rng: random.Random, wires: list[Wire], headers: list[Any]) -> None:
    i = rng.randrange(len(headers))
    name, raw = headers[i]
    how: Callable[[], object] = rng.choice(
        [
            lambda: headers.__setitem__(i, (name, _bytes(rng, raw))),
            lambda: headers.pop(i) if len(headers) > 1 else None,
            lambda: headers.__setitem__(i, (name, rng.choice(rng.choice(wires).headers)[1])),
            lambda: headers.append(rng.choice(rng.choice(wires).headers)),
            lambda: headers.__setitem__(i, (name, None)),
        ]
    )
    how()


def _mutate(rng: random.Random, wires: list[Wire]) -> tuple[list[tuple[str, bytes]], bytes | None]:
    wire = rng.choice(wires)
    headers = list(wire.headers)
    for _ in range(rng.randrange(1, 4)):
        _change(rng, wires, headers)
    if rng.random() < 0.4:
        return headers, rng.choice([None, _bytes(rng, wire.value), rng.choice(wires).value])
    return headers, wire.value


def fuzz(n: int, seed: int) -> set[str]:
    """Decode `n` mutated records; returns the types and reasons seen. Any other exception leaves."""
    rng = random.Random(seed)
    wires = [encode(m) for m in EXAMPLES]
    seen = set()
    for _ in range(n):
        headers, value = _mutate(rng, wires)
        try:
            message = decode(headers, value)
        except DecodeError as error:
            seen.add(error.reason)
            continue
        seen.add(type(message).__name__)
        again = encode(message)  # what was understood can be said again, and means the same
        assert encode(decode(*again)) == again
    return seen


def test_mutated_records_are_messages_or_decode_errors() -> None:
    seen = fuzz(1000, seed=1)
    assert {"Chunk", "Mark", "Score", "missing", "number", "json", "schema", "type"} <= seen
    assert seen <= REASONS | {type(m).__name__ for m in EXAMPLES}


def _outcome(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> object:
    try:
        message = decode(headers, value)
    except DecodeError as error:
        return error.reason, str(error)
    return encode(message)


def test_a_chunk_is_read_alike_whether_its_like_was_seen_before_or_not() -> None:
    rng = random.Random(3)
    wires = [encode(chunk()), encode(chunk(n0=4806, seq=8)), encode(chunk(n0=10**14, seq=2**63 - 1))]
    for wire in wires:
        decode(*wire)
    for _ in range(3000):
        headers, value = _mutate(rng, wires)
        assert _outcome(headers, value) == _outcome(iter(headers), value)  # only lists are compared with what was seen


@pytest.mark.slow
def test_a_million_mutated_records_are_messages_or_decode_errors() -> None:
    seen = fuzz(1_000_000, seed=2)
    assert seen - {type(m).__name__ for m in EXAMPLES} == REASONS - {"too_large"}
