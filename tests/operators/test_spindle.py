"""The spindle's speed as an input: as of when, how long it holds, who waits, and when the sound contradicts."""

from __future__ import annotations

import numpy as np
import pytest

from operators.chatter import ChatterFeatures
from operators.spindle import GivenSpeed, Reading, ToldSpeed
from pipeline.messages import NS, Context, Feature, Message
from tests.operators.pieces import ANCHOR, run, segments, stream


def told(t_s: float, value: float | str, name: str = "spindle_rpm") -> Context:
    """A fact of machine m."""
    return Context("m", name, round(t_s * NS), value)


def test_a_given_speed_holds_for_ever() -> None:
    """And nothing waits for it."""
    speed = GivenSpeed(9000)
    speed.tell(told(1, 5000.0))
    assert speed.at(10**18) == Reading(9000)
    assert not speed.waits(0)
    with pytest.raises(ValueError, match="positive"):
        GivenSpeed(0)


def test_a_told_speed_is_read_before_the_end() -> None:
    """As of t - lag; then it turns stale, missing, zero or changing."""
    speed = ToldSpeed(lag_s=1, stale_s=3)
    for t, rpm in ((10, 8000.0), (11, 8010.0), (12, 9000.0), (13, 9000.0), (14, 0.0)):
        speed.tell(told(t, rpm))
    assert speed.at(round(10.9 * NS)).doubt == "missing"
    assert speed.at(12 * NS) == Reading(8010.0)
    assert speed.at(13 * NS).doubt == "changing"
    assert speed.at(14 * NS) == Reading(9000.0)
    assert speed.at(15 * NS).doubt == "zero"
    assert speed.at(19 * NS).doubt == "stale"


def test_who_waits() -> None:
    """A window whose fact is on its way, but not for ever."""
    speed = ToldSpeed(lag_s=1, stale_s=3)
    assert not speed.waits(5 * NS)  # nothing was ever told
    speed.tell(told(10, 8000.0))
    assert not speed.waits(11 * NS)
    assert speed.waits(12 * NS)
    assert not speed.waits(15 * NS)


def test_the_operating_state() -> None:
    """Cutting, not cutting, or not said."""
    speed = ToldSpeed(lag_s=0)
    speed.tell(told(1, 8000.0))
    assert speed.at(1 * NS).cutting is None
    speed.tell(told(2, "cut", "state"))
    speed.tell(told(3, "idle", "state"))
    assert [speed.at(round(t * NS)).cutting for t in (2, 3.5)] == [True, False]


def test_samples_wait_for_their_speed_and_the_answer_is_the_same() -> None:
    """Facts that come late change when the features leave, not what they say."""
    source = stream(8000)
    x = np.random.default_rng(0).standard_normal((40_000, 1)).astype(np.float32)
    start = ANCHOR.t_ns / NS
    facts = [told(start + t, 6000.0 + 2000.0 * (t >= 2)) for t in range(-2, 6)]
    pieces = segments(source, x, range(400, 40_000, 400))

    def features() -> ChatterFeatures:
        return ChatterFeatures(source, ToldSpeed(1.5, 10.0), 2, 5000)

    def said(found: list[Message]) -> list[tuple[int, bool, dict[str, float]]]:
        return [(f.t_end_ns, f.complete, dict(f.values)) for f in found if isinstance(f, Feature)]

    early = features()
    first = said(run(early, [*facts, *pieces]))
    late = features()
    waiting = run(late, [facts[0], *pieces])
    assert late.waits_until_ns is not None
    assert said([*waiting, *run(late, facts[1:])]) == first
    assert {v.get("doubt") for _, complete, v in first if not complete} == {4.0}  # while the speed changes
    assert {v["rpm"] for _, complete, v in first if complete} == {6000.0, 8000.0}
