"""A box that boots without its clock begins a stream before the last one: alarms and health must not wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.messages import NS, Alarm, Anchor, Chunk, Context, Health, Score
from pipeline.runner import Lane
from tests.engines.scenarios import T0, chunks, machine, normal_noise, stream, with_baselines

ACC = stream("acc", "vibration", 2000)


@pytest.mark.parametrize("back_s", [0, 3600, 72 * 3600])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_stream_that_begins_in_the_past_is_judged(back_s: int, restarted: bool) -> None:
    """As many scores, the same alarms, and where the sensor had failed, health: with and without a restart."""
    settings = with_baselines(machine(ACC), ACC)
    lane = Lane(settings)
    for message in chunks(ACC, normal_noise(ACC, 8.0, 1)):
        if isinstance(message, Chunk):
            lane.process(message)
    if restarted:
        snapshot, lane = lane.snapshot(), Lane(settings)
        lane.restore(snapshot)
    new = replace(ACC, epoch=1)
    anchor = Anchor(0, T0 + (10 - back_s) * NS)
    out = [r for m in chunks(new, normal_noise(new, 40.0, 2, (10.0, 40.0)), anchor=anchor) for r in lane.process(m)]
    abnormal = [r for r in out if isinstance(r, Score) and r.abnormal]
    assert len(abnormal) > 100
    assert [r.transition for r in out if isinstance(r, Alarm)] == ["raised", "raised"]
    assert all(isinstance(r, Health) is False or r.epoch == 1 for r in out)
    again = Lane(settings)
    again.restore(lane.snapshot())
    assert again.snapshot() == lane.snapshot()


@pytest.mark.parametrize("ahead", ["chunk", "fact"])
def test_one_time_far_ahead_does_not_put_decisions_off(ahead: str) -> None:
    """A refused chunk, a fact of another year: what decisions are dated by is what was judged."""
    lane = Lane(with_baselines(machine(ACC), ACC))
    first, *rest = (m for m in chunks(ACC, normal_noise(ACC, 4.0, 1)) if isinstance(m, Chunk))
    lane.process(first)
    far_ns = T0 + 3650 * 86_400 * NS
    for message in (
        Context("m", "state", T0, "idle"),
        replace(first, n0=10**11) if ahead == "chunk" else Context("m", "state", far_ns, "idle"),
        Context("m", "state", T0 + NS, "cut"),
        Context("m", "state", T0, "idle"),  # heard again after a restart
        *rest,
    ):
        lane.process(message)
    assert lane.event_ns == rest[-1].t1_ns
    assert lane.counts["late.clock_jump" if ahead == "chunk" else "late.context"] == 1
