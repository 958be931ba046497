"""The shipped test kit does what its scripts say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Resume
from pipeline.errors import SinkBusy, SourceError
from pipeline.messages import Anchor, Chunk, Context, Image, Mark, Rate, Record, Stream
from tests.memory import ABORT, END, PAUSE, Aborted, ListSink, ScriptedDevice, ScriptedSource

STREAM = Stream("lathe", "mic", 0, "acoustic", Rate(1000), 1, "<i2", "FS", 2.0**-15)
ANCHOR = Anchor(0, 5_000_000_000)


def chunk(n0: int, n1: int, stream: Stream = STREAM) -> Chunk:
    return Chunk(stream, ANCHOR, n0, n0 // 100, np.arange(n0, n1, dtype="<i2")[:, None])


def record(seq: int, name: str, value: float) -> Record:
    return Record(seq, "score", "lathe", 10 * seq, name, {"value": value})


def test_polls_follow_the_cues() -> None:
    first, second, third, context = (
        chunk(0, 100),
        chunk(100, 200),
        chunk(200, 300),
        Context("lathe", "spindle_rpm", 0, 900.0),
    )
    source = ScriptedSource([STREAM], [context, first, PAUSE, second, ABORT, third, END])
    assert source.open({}, 0) == [STREAM]
    assert source.poll(0) == [context, first]
    assert source.wake_ns(7) == 7
    assert source.poll(0) == [second]
    with pytest.raises(Aborted):
        source.poll(0)
    with pytest.raises(SourceError):
        source.poll(0)
    assert not source.exhausted


def test_opened_again_it_resumes_at_the_sample_and_passes_the_abort() -> None:
    source = ScriptedSource([STREAM], [chunk(0, 100), chunk(100, 200), ABORT, chunk(200, 300)])
    source.open({}, 0)
    source.poll(0)
    with pytest.raises(Aborted):
        source.poll(0)
    source.open({("lathe", "mic"): Resume(0, ANCHOR, 150)}, 0)
    rest, last = source.poll(0)
    assert isinstance(rest, Chunk)
    assert isinstance(last, Chunk)
    assert (rest.n0, rest.n1, last.n0) == (150, 200, 200)
    np.testing.assert_array_equal(rest.samples[:, 0], np.arange(150, 200))
    assert source.exhausted
    assert [sorted(given) for given in source.opened] == [[], [("lathe", "mic")]]


@given(n=st.integers(0, 400), size=st.integers(1, 120))
def test_from_any_sample_everything_behind_it_comes_once(n: int, size: int) -> None:
    script = [chunk(k, min(k + size, 400)) for k in range(0, 400, size)]
    source = ScriptedSource([STREAM], [*script, END])
    source.open({("lathe", "mic"): Resume(0, ANCHOR, n)}, 0)
    out = []
    while not source.exhausted:
        out += [message.samples[:, 0] for message in source.poll(0) if isinstance(message, Chunk)]
    np.testing.assert_array_equal(np.concatenate([*out, np.empty(0, "<i2")]), np.arange(n, 400))


def test_marks_and_pictures_are_resumed_too_and_older_epochs_left_out() -> None:
    later = Stream("lathe", "mic", 1, "acoustic", Rate(1000), 1, "<i2", "FS")
    silent, end = Mark(later, ANCHOR, 100, 300, "silent"), Mark(later, ANCHOR, 300, 300, "end")
    picture = Image(later, ANCHOR, 150, 0, b"png")
    source = ScriptedSource([later], [chunk(0, 100), chunk(0, 100, later), silent, picture, end])
    source.open({("lathe", "mic"): Resume(1, ANCHOR, 200)}, 0)
    assert source.poll(0) == [Mark(later, ANCHOR, 200, 300, "silent"), end]


def test_end_stops_and_a_second_open_goes_on_behind_it() -> None:
    source = ScriptedSource([STREAM], [chunk(0, 100), END, chunk(100, 200)])
    source.open({}, 0)
    source.poll(0)
    assert source.poll(0) == []
    assert source.exhausted
    source.close()
    source.open({("lathe", "mic"): Resume(0, ANCHOR, 100)}, 0)
    (rest,) = source.poll(0)
    assert isinstance(rest, Chunk)
    assert rest.n0 == 100


def test_a_device_does_not_repeat() -> None:
    source = ScriptedDevice([STREAM], [chunk(0, 100), ABORT, chunk(300, 400)])
    assert not source.rereadable
    source.open({}, 0)
    source.poll(0)
    with pytest.raises(Aborted):
        source.poll(0)
    source.open({("lathe", "mic"): Resume(0, ANCHOR, 0)}, 0)
    (rest,) = source.poll(0)
    assert isinstance(rest, Chunk)
    assert rest.n0 == 300


def test_a_sink_keeps_the_newest_of_each_id() -> None:
    sink = ListSink()
    sink.write([record(0, "a", 1.0), record(1, "b", 2.0)])
    sink.write([record(2, "a", 3.0)])
    assert [(r.id, r.body["value"]) for r in sink.records] == [("a", 3.0), ("b", 2.0)]
    assert len(sink.of("score")) == 2
    assert sink.of("alarm") == []
    assert len(sink.batches) == 2


def test_a_sink_fails_as_told_and_takes_the_repeat() -> None:
    sink = ListSink([None, SinkBusy("full", 0.5)])
    sink.write([record(0, "a", 1.0)])
    with pytest.raises(SinkBusy):
        sink.write([record(1, "b", 2.0)])
    sink.write([record(1, "b", 2.0)])
    assert [r.id for r in sink.records] == ["a", "b"]
    sink.close()
    sink.close()
    assert sink.closed == 2
