"""Trace context: the form of the recommendation, the same for a repeat, another one for every message."""

from __future__ import annotations

import re

import pytest

from pipeline import codec
from pipeline.kafka import trace
from pipeline.kafka.intake import take_in
from pipeline.kafka.part import Part
from pipeline.kafka.records import SENT
from tests.kafka.plant import plant

FORM = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01")


def test_every_message_begins_a_trace_of_its_own_and_a_repeat_the_same() -> None:
    """Two machines, three sensors each, chunks and marks."""
    traces = []
    for message in plant(2, 4.0).messages:
        headers, _ = codec.encode(message)
        traces.append(trace.begin(headers))
        assert FORM.fullmatch(traces[-1]) and trace.begin(list(headers)) == traces[-1]
        assert trace.of([*headers, (trace.TRACEPARENT, traces[-1])]) == traces[-1]
        result = trace.child(traces[-1], headers)
        assert FORM.fullmatch(result) and trace.trace_id(result) == trace.trace_id(traces[-1])
        assert result[36:52] != traces[-1][36:52]
    assert len({trace.trace_id(t) for t in traces}) == len(traces)


@pytest.mark.parametrize(
    "value",
    [b"", b"00-1-2-01", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", b"ff-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01"],
)
def test_what_is_no_trace_is_none(value: bytes) -> None:
    """Section 3.2.2: version ff and identifiers of zeros are invalid; a receiver then goes on without."""
    assert trace.of([("traceparent", value)]) is None
    assert trace.of(None) is None


def test_a_traced_record_is_read_as_the_same_message() -> None:
    """The header is no part of the message."""

    class Record:
        partition, offset = 0, 0

    made = plant(1, 4.0, False)
    part = Part(0, 1, 0, {"machine-0": None})  # type: ignore[dict-item]
    for message in made.messages[:5]:
        headers, value = codec.encode(message)
        record = Record()
        record.key, record.value = codec.key_of(message), bytes(value)  # type: ignore[attr-defined]
        begun = (trace.TRACEPARENT, trace.begin(headers))
        for more, sent_ns in (([], None), ([(SENT, b"17")], 17), ([(SENT, b"1" * 30)], None), ([(SENT, b"x")], None)):
            record.headers = [*headers, *more, begun]  # type: ignore[attr-defined]
            taken = take_in(codec.topic_of(message), record, part)
            assert taken.message is not None and codec.encode(taken.message).headers == list(headers)
            assert taken.sent_ns == sent_ns


@pytest.mark.parametrize("headers", [[], None, [("traceparent", b"")], [("", b"")], [("ce_type", None)]])
def test_garbage_is_a_dead_letter_and_nothing_else(headers: object) -> None:
    """Whatever stands in a record, the worker goes on."""

    class Record:
        key, value, partition, offset = b"m", b"\xff" * 100, 0, 0

    record = Record()
    record.headers = headers  # type: ignore[attr-defined]
    taken = take_in("raw.acoustic", record, Part(0, 1, 0, {}))
    assert taken.message is None and len(taken.results) == 1


def test_a_fault_of_the_decoder_is_a_dead_letter_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the worker would end at this message over and over."""

    class Record:
        key, value, headers, partition, offset = b"m", b"1", [("a", b"b")], 0, 0

    def broken(*_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("pipeline.kafka.intake.codec.decode", broken)
    (letter,) = take_in("raw.acoustic", Record(), Part(0, 1, 0, {})).results
    assert letter.reason == "unreadable" and letter.value == b"1"
