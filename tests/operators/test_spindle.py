"""The spindle's speed as an input: given for ever, or told later than the samples that it is of."""

from __future__ import annotations

import numpy as np
import pytest

from operators.chatter import ChatterFeatures
from operators.spindle import GivenSpeed, Reading
from pipeline.messages import NS, Feature, Message
from tests.operators.pieces import ANCHOR, run, segments, stream
from tests.operators.told import ToldSpeed


def test_a_given_speed_holds_for_ever() -> None:
    """And nothing waits for it."""
    speed = GivenSpeed(9000)
    assert speed.at(10**18) == Reading(9000)
    assert not speed.waits(0)
    with pytest.raises(ValueError, match="positive"):
        GivenSpeed(0)


def test_samples_wait_for_their_speed_and_the_answer_is_the_same() -> None:
    """Facts that come late change when the features leave, not what they say."""
    source = stream(8000)
    x = np.random.default_rng(0).standard_normal((40_000, 1)).astype(np.float32)
    pieces = segments(source, x, range(400, 40_000, 400))
    facts = [(0.0, Reading(6000.0)), (2.0, Reading(8000.0, "changing")), (3.5, Reading(8000.0))]
    told = ToldSpeed([(ANCHOR.t_ns + round(t * NS), reading) for t, reading in facts])

    def said(found: list[Message]) -> list[tuple[int, bool, dict[str, float]]]:
        return [(f.t_end_ns, f.complete, dict(f.values)) for f in found if isinstance(f, Feature)]

    first = said(run(ChatterFeatures(source, told, 2, 5000), pieces))
    late = ChatterFeatures(source, told, 2, 5000)
    told.known_ns = ANCHOR.t_ns + NS
    waiting = run(late, pieces)
    assert late.waits_until_ns is not None
    assert max(m.t_end_ns for m in waiting if isinstance(m, Feature)) <= told.known_ns
    told.known_ns = ANCHOR.t_ns + 5 * NS
    assert said([*waiting, *late.release()]) == first
    assert {v.get("doubt") for _, complete, v in first if not complete} == {4.0}  # while the speed changes
    assert {v["rpm"] for _, complete, v in first if complete} == {6000.0, 8000.0}
