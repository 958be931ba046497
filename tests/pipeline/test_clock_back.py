"""A box that boots without its clock begins a stream before the last one: alarms and health must not wait for it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipeline.clock import ManualClock
from pipeline.journal import write_journal
from pipeline.lineup import Lineup, Standing, Standings
from pipeline.messages import NS, Alarm, Anchor, Chunk, Context, Decision, Feature, Health, Input, Score, Stream
from pipeline.reach import Reach
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.runner import Lane
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream, with_baselines
from tests.faults.test_last_second import played

ACC, BEE = stream("acc", "vibration", 2000), stream("bee", "vibration", 2000)
HOUR, DAY = 3600, 86_400


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
    lane = Lane(with_baselines(machine(ACC, state_context="state"), ACC))
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


def test_sensors_are_aligned_again_when_their_clocks_are_right() -> None:
    """Two streams began a day ahead, the next ones where they belong: as many delays as without the step."""
    lane, x = Lane(LaneSettings(machine(ACC, BEE, align=True))), normal_noise(ACC, 12.0, 1)
    told = Counter[int]()
    for epoch, at_s in enumerate((DAY, 20, 40)):
        streams = (
            chunks(replace(s, epoch=epoch), x, 0.5, anchor=Anchor(0, T0 + at_s * NS)) for s in (ACC, BEE)
        )  # fmt: skip
        for message in itertools.chain.from_iterable(zip(*streams, strict=True)):
            told[epoch] += sum(isinstance(r, Feature) and r.name == "alignment" for r in lane.process(message))
    assert told == {0: 11, 1: 11, 2: 13}  # two windows reach across a pause behind which the time goes on


# decisions -------------------------------------------------------------------------------------------------------


def two_baselines(*streams: Stream) -> LaneSettings:
    """Settings with two baselines for each stream; the first one of each is configured."""
    settings = with_baselines(machine(*streams), *streams)
    settings.artefacts.update((b.settings, b) for b in (baseline_of(s, 1) for s in streams))
    return settings


def heard(s: Stream, at_s: float, seconds: float = 6.0) -> list[Input]:
    """Normal noise of a stream that begins at a time."""
    return chunks(s, normal_noise(s, seconds, 3), anchor=Anchor(0, T0 + round(at_s * NS)))


def judged(results: Iterable[object]) -> dict[tuple[str, int, int], str]:
    """By sensor, epoch and end of a window: the hash of the baseline that it was judged by."""
    scores = [r for r in results if isinstance(r, Score) and r.detector == "anomaly"]
    return {(*r.lineage[0][:2], r.t_end_ns): r.settings for r in scores}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_decision_holds_behind_what_each_sensor_has_told(restarted: bool) -> None:
    """One's clock goes back an hour, the other's is a day ahead; the decisions come with the data, or before them.

    Each holds for what came after it, and a later one wins over one that says a later time.
    """
    settings = two_baselines(ACC, BEE)
    first, second = ({s.sensor: baseline_of(s, k).settings for s in (ACC, BEE)} for k in (0, 1))
    lane, out, decisions = Lane(settings), list[object](), list[Decision]()
    known: dict[tuple[str, int, int], str] = {}

    def decide(baselines: dict[str, str]) -> None:
        for sensor, baseline in baselines.items():
            body = {"sensor": sensor, "baseline": baseline, "path": "", "since": lane.reach.saved()}
            body = orjson.loads(orjson.dumps(body))
            decisions.append(Decision("m", f"m|baseline|{len(decisions)}", lane.reach.newest_ns, "baseline", body))
            lane.process(decisions[-1])

    def hear(messages: Iterable[Input], told: dict[str, str]) -> None:
        for message in messages:
            for place, by in judged(lane.process(message)).items():
                known[place] = by
                assert by == told[place[0]], f"{place} is judged by another baseline than that which was in force"
            out.append(message)

    hear([*heard(BEE, DAY), *heard(ACC, 0.0)], first)
    decide(second)
    if restarted:
        snapshot, lane = lane.snapshot(), Lane(settings)
        lane.restore(snapshot)
        for decision in decisions:
            lane.process(decision)
    back = heard(replace(ACC, epoch=1), -HOUR, 12.0)
    hear(back[:60], second)
    decide(first)
    hear(back[60:], first)
    assert len({place[:2] for place in known}) == 3 and len(known) > 40
    before = Lane(settings)
    again = judged(result for message in (*decisions, *out) for result in before.process(message))  # type: ignore[arg-type]
    assert again.items() >= known.items()


def test_what_was_asked_for_after_the_clock_went_back_holds_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second that the engine answers in, and in the replay of both runs alike."""
    settings, other = two_baselines(ACC), baseline_of(ACC, 1).settings
    for epoch, at_s in ((0, 0.0), (1, -float(HOUR))):
        clock, store = ManualClock(T0 + round(at_s * NS)), Store(tmp_path / "live.sqlite")
        start = Start({f"snapshot/{name}": data for name, data in store.snapshots().items()}, {}, store.decisions())
        ring = Ring(tmp_path / "rec", start, clock.now_ns(), ring_bytes=10**9, prefix="s", shards=["s"])
        shard = Shard("s", [settings], store, clock, ring)
        for place, message in enumerate(heard(replace(ACC, epoch=epoch), at_s, 10.0)):
            if epoch and place == 45:
                asked = store.ask("m", "baseline", {"sensor": "acc", "baseline": other, "path": ""})
            shard.take(message)
            clock.sleep(0.1)
            shard.tick()
        shard.close()
        live = write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    assert store.command_state(asked) == ("m|baseline|1", None)
    (decision,) = store.decisions()
    decided_s = (decision.t_ns - T0) / NS + HOUR
    assert 4.5 <= decided_s <= 5.7
    ends = {r.t_ns: r.body["settings"] for r in store.read(0, ("score",), 9999) if r.body["detector"] == "anomaly"}
    assert {by == other for t, by in ends.items() if t > decision.t_ns and t < T0 - HOUR * NS + 20 * NS} == {True}
    assert {by == other for t, by in ends.items() if t <= decision.t_ns or t > T0} == {False}
    assert played(tmp_path / "rec", settings, monkeypatch)[1] == live


def test_models_that_were_put_in_force_last_are() -> None:
    """Rolled back with an earlier time than the promotion: for streams of then and of now, and as the newest."""
    first, promoted = Standing(Lineup("logmel")), Standing(Lineup("e" * 64))
    standings, reach = Standings(first), Reach()
    for action, standing, epoch, t_ns in (
        ("promote", promoted, 0, 100),
        ("", None, 0, 150),
        ("rollback", first, 1, 20),
    ):
        reach.take("mic", epoch, t_ns)
        if standing is not None:
            body = {"action": action, "active": standing.active.body(), "shadow": None, "since": reach.saved()}
            standings.decide(Decision("m", action, reach.newest_ns, "model", body))
    assert standings.newest == first
    old, new = ("mic", 0), ("mic", 1)
    assert [standings.at(old, t) for t in (100, 101, 150)] == [first, promoted, promoted]
    assert [standings.at(new, t) for t in (20, 21)] == [promoted, first]


def test_a_snapshot_of_an_earlier_version_says_how_far_its_streams_had_come() -> None:
    """So that what is read again is not judged by what is decided meanwhile."""
    lane = Lane(with_baselines(machine(ACC), ACC))
    for message in heard(ACC, 0.0):
        lane.process(message)
    body = orjson.loads(lane.snapshot())
    assert body.pop("reach") == {"acc": [0, T0 + 6 * NS, 0]}
    again = Lane(with_baselines(machine(ACC), ACC))
    again.restore(orjson.dumps(body))
    assert again.reach.saved() == lane.reach.saved()
