"""What a restored lane reads again is cut to what its snapshot still needs, and no further."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from pipeline.messages import NS, Anchor, Chunk, Context, Input, Mark, Stream
from pipeline.reread import Reread
from pipeline.results import record_of
from pipeline.runner import Lane
from pipeline.stages import LaneSettings
from tests.engines.scenarios import T0, chunks, end, machine, normal_noise, stream

OLD, NEW = stream("acc", "vibration", 2000), stream("acc", "vibration", 2000, epoch=1)
LATER = Anchor(0, T0 + 20 * NS)


def chunk(s: Stream, n0: int, n1: int, anchor: Anchor | None = None) -> Chunk:
    return Chunk(s, anchor or Anchor(0, T0), n0, 0, np.arange(n0, n1, dtype="<i2")[:, None])


def restored(*messages: Input) -> Reread:
    """What a lane knows that was restored behind these messages."""
    lane = Lane(LaneSettings(machine(OLD)))
    for message in messages:
        lane.process(message)
    again = Lane(LaneSettings(machine(OLD)))
    again.restore(lane.snapshot())
    return again._reread


def data(s: Stream, seconds: float, anchor: Anchor | None = None) -> list[Input]:
    return chunks(s, normal_noise(s, seconds, 1), anchor=anchor)


def test_whole_messages_are_cut_at_the_first_sample_needed() -> None:
    """A window of 2,048 samples begins at every 1,024th; the last second begins at 4,000."""
    known = restored(*data(OLD, 2.45))
    needed = known.saved([], {})[0]["n"]
    assert 0 < needed <= 4000
    assert known.cut(chunk(OLD, 0, needed)) == []
    (part,) = known.cut(chunk(OLD, needed - 200, needed + 300))
    assert isinstance(part, Chunk)
    assert (part.n0, part.n1) == (needed, needed + 300)
    assert part.samples[0, 0] == np.int16(needed)
    assert known.cut(late := chunk(OLD, 0, 100)) == [late]  # the lane has come to its place: `Sequence` judges it


def test_what_does_not_come_again_is_told() -> None:
    """A device goes on, or retention has removed what the snapshot needs: that is a gap, not silence."""
    known = restored(*data(OLD, 2.45))
    needed = known.saved([], {})[0]["n"]
    gap, part = known.cut(fresh := chunk(OLD, 9000, 9200))
    assert gap == Mark(OLD, Anchor(0, T0), needed, 9000, "gap")
    assert part is fresh
    known = restored(*data(OLD, 2.45))
    wrong = Chunk(OLD, Anchor(0, T0), 2**50, 0, fresh.samples)
    assert known.cut(wrong) == [wrong]  # no gap of thousands of years


def test_a_connector_that_lost_its_state_is_heard_again() -> None:
    """The same epoch and small indices, but later than anything that was known."""
    known = restored(*data(OLD, 8.0))
    assert known.cut(fresh := chunk(OLD, 0, 200, LATER)) == [fresh]
    known = restored(*data(OLD, 2.0), *data(NEW, 4.0, Anchor(0, T0 + 5 * NS)))
    assert known.cut(fresh) == [fresh]
    assert known.saved([], {}) == []


def test_what_comes_again_under_an_anchor_that_has_moved_is_cut_all_the_same() -> None:
    """A clock that was put right by less than a second meanwhile makes nothing new of old samples."""
    for moved_s, again in ((0.99, True), (20.0, False)):
        known = restored(*data(OLD, 2.45))
        needed = known.saved([], {})[0]["n"]
        old = chunk(OLD, 0, needed, Anchor(0, T0 + round(moved_s * NS)))
        assert old.t1_ns > T0 + round(2.45 * NS)  # all that was known
        assert known.cut(old) == ([] if again else [old])


def test_a_new_stream_of_earlier_times_is_heard() -> None:
    """The box booted without its clock: an epoch that no snapshot knows, and times that it has been through."""
    known = restored(*data(OLD, 8.0))
    assert known.cut(fresh := chunk(NEW, 0, 200)) == [fresh]


def test_a_stream_that_has_ended_is_read_again_while_another_lags_behind_it() -> None:
    """What is joined with it is still to come: until then it is not over, or joins would not wait for it."""
    bee = replace(OLD, sensor="bee")
    lane = Lane(LaneSettings(machine(OLD, bee, align=True)))

    def acc() -> dict[str, object]:
        return next(place for place in orjson.loads(lane.snapshot())["streams"] if place["sensor"] == "acc")

    for message in (*data(OLD, 12.0), end(OLD, 24_000), *data(bee, 3.0)):
        lane.process(message)
    assert acc()["n"] < 24_000 and acc()["end"] is None  # type: ignore[operator]
    for message in (*chunks(bee, normal_noise(bee, 9.0, 1), n0=6000), end(bee, 24_000)):
        lane.process(message)
    assert acc()["n"] == 24_000 and acc()["end"] is not None


def test_an_older_stream_that_is_done_stays_done() -> None:
    """What a log still holds of it was said before the snapshot."""
    known = restored(*data(OLD, 2.0), *data(NEW, 4.0, Anchor(0, T0 + 5 * NS)))
    assert [entry["epoch"] for entry in known.saved([], {})] == [1]
    assert known.cut(chunk(OLD, 3000, 4000)) == []
    assert known.cut(Mark(OLD, Anchor(0, T0), 4000, 4000, "end")) == []


def test_a_stream_that_is_over_is_told_to_joins() -> None:
    """Its end needs not be read again, and does not matter if it is."""
    known = restored(*data(OLD, 2.0), end(OLD, 4000))
    saved = known.saved([], {})
    assert saved[0]["n"] == 4000
    (mark,) = Reread().restore(saved, {"acc"})
    assert mark == end(OLD, 4000)
    assert known.cut(mark) == []
    saved[0]["end"]["ce_type"] = "of.another.version"
    assert Reread().restore(saved, {"acc"}) == []
    assert known.oldest_ns == []


def test_what_was_not_come_to_is_saved_as_it_was() -> None:
    """A lane that dies again before everything was read again."""
    known = restored(*data(OLD, 2.45))
    again = Reread()
    assert again.restore(known.saved([], {}), {"acc"}) == []
    assert again.saved([], {}) == known.saved([], {})
    assert again.oldest_ns == known.oldest_ns != []


def test_a_sensor_that_was_taken_out_holds_nothing() -> None:
    """Its place would keep all facts since its last sample, and itself, in every snapshot."""
    both = LaneSettings(machine(OLD, replace(OLD, sensor="out"), state_context="state"))
    lane, left = Lane(both), Lane(LaneSettings(machine(OLD, state_context="state")))
    for message in (*data(OLD, 3.0), *data(replace(OLD, sensor="out"), 3.0)):
        lane.process(message)
    left.restore(lane.snapshot())
    kept = []
    for second in range(3, 63, 3):
        for message in chunks(OLD, normal_noise(OLD, 3.0, 1), n0=2000 * second):
            left.process(message)
        for n in range(15):
            left.process(Context("m", "state", T0 + second * NS + n * NS // 5, str(n)))
        body = orjson.loads(left.snapshot())
        assert [place["sensor"] for place in body["streams"]] == ["acc"]
        kept.append(len(body["contexts"]["state"]))
    assert max(kept) == kept[-1] <= 5 * 20


def test_a_stream_that_was_ahead_is_cut_like_any_other() -> None:
    """Its times lie behind all that its sensor's newest stream has come to, and both are still needed."""
    ahead = Anchor(0, T0 + 86_400 * NS)
    known, newest = Reread(), {"sensor": "acc", "epoch": 1, "n": 3000, "t_ns": T0, "reached_ns": T0 + 2 * NS}
    earlier = {**newest, "epoch": 0, "n": 4000, "t_ns": ahead.t_ns + 2 * NS, "reached_ns": ahead.t_ns + 3 * NS}
    known.restore([{**earlier, "end": None}, {**newest, "end": None}], {"acc"})
    assert known.cut(chunk(OLD, 3000, 4000, ahead)) == []
    (part,) = known.cut(chunk(OLD, 3900, 4500, ahead))
    assert (part.n0, part.n1) == (4000, 4500)
    assert known.cut(rest := chunk(OLD, 4500, 6000, ahead)) == [rest]
    assert known.cut(chunk(NEW, 0, 3000)) == []
    (part,) = known.cut(chunk(NEW, 2900, 3500))
    assert (part.n0, part.n1) == (3000, 3500)
    assert known.oldest_ns == []


@pytest.mark.parametrize("back", [0, 3, 12])
def test_a_lane_says_the_same_whatever_comes_again(back: int) -> None:
    """Acknowledgements that came late let whole messages come again from before what the snapshot needs."""
    messages = data(OLD, 9.0)
    lane, said = Lane(LaneSettings(machine(OLD))), dict[str, Any]()
    for message in messages:
        said |= {record_of(r).id: record_of(r).body for r in lane.process(message)}
    first, repeated = Lane(LaneSettings(machine(OLD))), dict[str, Any]()
    for message in messages[:40]:
        first.process(message)
    second = Lane(LaneSettings(machine(OLD)))
    second.restore(first.snapshot())
    for message in messages[20 - back :]:
        repeated |= {record_of(r).id: record_of(r).body for r in second.process(message)}
    assert repeated
    assert repeated.items() <= said.items()
    assert max(said) in repeated
    assert second.counts["again"] >= back
