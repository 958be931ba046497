"""Baselines that were replaced long ago leave memory; what is still to be judged finds its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.store import load, save
from pipeline import stages, succession
from pipeline.clock import ManualClock
from pipeline.messages import NS, Anchor, Decision, Mark, Score
from pipeline.runner import Lane
from pipeline.shard import Shard
from pipeline.stages import PAST_NS, Anomaly, LaneSettings
from pipeline.state import Store
from pipeline.succession import past_of
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream

ACC, OTHER = stream("acc", "vibration", 500), stream("acc", "vibration", 400)
FIRST = baseline_of(ACC)
NEXT = tuple(replace(FIRST, hours=float(hours)) for hours in range(1, 5))
"""As if one had been commissioned each week: their scores differ in the name of the baseline alone."""
LATE = T0 + PAST_NS + 10 * NS


def chosen(baseline: Baseline, number: int) -> Decision:
    """In force behind the fifth second of epoch 3."""
    at_ns = T0 + 5 * NS
    body = {"sensor": "acc", "baseline": baseline.settings, "path": "", "since": {"acc": [3, at_ns, 0]}}
    return Decision("m", f"m|baseline|{number}", at_ns, "baseline", body)


def place(epoch: int, t_ns: int, end: Any = None) -> dict[str, Any]:
    """What a snapshot says of a stream: its first sample still needed."""
    return {"sensor": "acc", "epoch": epoch, "t_ns": t_ns, "end": end}


@pytest.mark.parametrize(
    ("streams", "past"),
    [
        ([place(3, LATE)], True),
        ([place(3, T0 + 5 * NS + PAST_NS - 1)], False),
        ([place(3, T0 + 5 * NS + PAST_NS)], True),
        ([place(4, T0)], True),  # a new stream, which a decision holds for as a whole, however early its clock
        ([place(3, T0 + 6 * NS), place(4, T0 + PAST_NS + 90 * NS)], False),  # windows of the earlier one still wait
        ([place(3, T0 + 5 * NS, {})], True),  # it has ended: nothing more comes
        ([{**place(3, LATE), "sensor": "other"}], False),
        ([], False),
    ],
)
def test_a_decision_is_past_when_the_next_one_holds_for_all_that_comes(
    streams: list[Mapping[str, Any]], past: bool
) -> None:
    """Its baseline then, too, unless the configuration or another decision names it."""
    lane = LaneSettings(machine(ACC), {"acc": FIRST.settings}, {b.settings: b for b in (FIRST, *NEXT)})
    old, new = chosen(NEXT[0], 1), chosen(NEXT[1], 2)
    snapshots = {"m": orjson.dumps({"streams": streams})}
    assert past_of([lane], [old, new], snapshots) == (({("m", old.id)}, {NEXT[0].settings}) if past else (set(), set()))
    again = chosen(NEXT[0], 3)
    assert past_of([lane], [old, new, again], snapshots).baselines == ({NEXT[1].settings} if past else set())
    configured = chosen(FIRST, 0)
    assert past_of([lane], [configured, new], snapshots).baselines == set()


@pytest.mark.parametrize("why", ["unfit", "gone", "undated", "unconfigured"])
def test_what_would_be_gone_back_to_is_not_past(why: str) -> None:
    """A newer baseline of another rate, or that is nowhere, is not in force; nor is it clear what one replaces."""
    lane = LaneSettings(machine(ACC), {}, {b.settings: b for b in (*NEXT, baseline_of(OTHER))})
    new = chosen(baseline_of(OTHER) if why == "unfit" else FIRST if why == "gone" else NEXT[1], 2)
    if why == "undated":
        new = replace(new, body={name: said for name, said in new.body.items() if name != "since"})
    if why == "unconfigured":
        lane = LaneSettings(machine(replace(ACC, sensor="b")), {}, lane.artefacts)
    snapshots = {"m": orjson.dumps({"streams": [place(3, LATE)]})}
    assert past_of([lane], [chosen(NEXT[0], 1), new], snapshots) == (set(), set())


def test_each_sensor_has_its_own_decisions() -> None:
    """One on another sensor replaces nothing; those on a machine that was taken out end no start."""
    lane = LaneSettings(machine(ACC, replace(ACC, sensor="b")), {}, {b.settings: b for b in NEXT})
    old, new = chosen(NEXT[0], 1), chosen(NEXT[1], 2)
    other = replace(new, body={**new.body, "sensor": "b", "since": {"b": [3, T0 + 5 * NS, 0]}})
    snapshots = {"m": orjson.dumps({"streams": [place(3, LATE), {**place(3, LATE), "sensor": "b"}]})}
    assert past_of([lane], [old, other], snapshots) == (set(), set())
    gone = [replace(one, machine="gone") for one in (old, new)]
    assert past_of([lane], gone, snapshots) == (set(), set())
    assert past_of([lane], [old, *gone, new], snapshots).decisions == {("m", old.id)}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past after two seconds."""
    for module in (stages, succession):
        monkeypatch.setattr(module, "PAST_NS", 2 * NS)


def kept_by(lane: Lane) -> list[str]:
    """Baselines that an operator holds."""
    (operator,) = (n.operator for graph in lane._streams for n in graph.nodes if isinstance(n.operator, Anomaly))
    return [scorer.baseline.settings for _, scorer in operator._versions]


def promoted(folder: Path, shard: Shard, clock: ManualClock, store: Store) -> list[str]:
    """25 s of samples; every five seconds another baseline is put in force, at last one of those before."""
    order = [NEXT[0], NEXT[1], NEXT[2], NEXT[1]]
    for number, chunk in enumerate(chunks(ACC, normal_noise(ACC, 25.0, 1))):
        if number and number % 50 == 0:
            baseline = order[number // 50 - 1]
            at = str(save(baseline, folder))
            store.ask("m", "baseline", {"sensor": "acc", "baseline": baseline.settings, "path": at})
            shard.checkpoint()
        shard.take(chunk)
        clock.sleep(0.1)
        shard.tick()
    shard.checkpoint()
    return [baseline.settings for baseline in order]


def test_a_lane_keeps_what_it_judges_by(tmp_path: Path, soon: None) -> None:
    """Whatever was put in force before; each window is judged by its own, and going back loads the old one anew."""
    store, clock = Store(tmp_path / "s.sqlite"), ManualClock(T0)
    settings = LaneSettings(machine(ACC), {"acc": FIRST.settings}, {FIRST.settings: FIRST}, load)
    shard = Shard("one", [settings], store, clock)
    order = promoted(tmp_path / "baselines", shard, clock, store)
    lane = shard.lanes["m"]
    assert set(settings.artefacts) == {FIRST.settings, order[-1]}
    assert [d.body["baseline"] for d in lane._decisions] == order[-1:] == kept_by(lane)
    scores = [r.body for r in store.read(0, ("score",), 10_000) if r.body["detector"] == "level"]
    expected = [[FIRST.settings, *order][max(0, (s["t_end_ns"] - T0 - 1) // (5 * NS))] for s in scores]
    assert len(scores) == 25 and [s["settings"] for s in scores] == expected
    shard.close()
    again = LaneSettings(machine(ACC), {"acc": FIRST.settings}, {FIRST.settings: FIRST}, load)
    resumed = Shard("one", [again], store, clock)
    assert [d.body["baseline"] for d in resumed.lanes["m"]._decisions] == order[-1:]
    resumed.take(Mark(replace(ACC, epoch=1), Anchor(0, T0 + 100 * NS), 0, 5, "gap"))
    assert set(again.artefacts) == {FIRST.settings, order[-1]} and kept_by(resumed.lanes["m"])[-1] == order[-1]


def test_where_nothing_can_be_loaded_baselines_stay(tmp_path: Path, soon: None) -> None:
    """A replay goes back to one by a decision that comes later."""
    settings = LaneSettings(machine(ACC), {}, {b.settings: b for b in NEXT})
    shard = Shard("one", [settings], Store(tmp_path / "s.sqlite"), ManualClock(T0))
    lane, told = shard.lanes["m"], list[str]()
    for chunk in chunks(ACC, normal_noise(ACC, 20.0, 1)):
        second, rest = divmod(chunk.n0, 500)
        if second in {2, 7, 12} and not rest:
            body = {"sensor": "acc", "baseline": NEXT[second == 7].settings, "since": lane.reach.saved()}
            lane.process(Decision("m", f"m|baseline|{second}", T0 + second * NS, "baseline", body))
        told += [r.settings for r in lane.process(chunk) if isinstance(r, Score) and r.detector == "level"]
        lane.snapshot()
    assert told == [NEXT[0].settings] * 5 + [NEXT[1].settings] * 5 + [NEXT[0].settings] * 8
    assert len(lane._decisions) == 1 and len(settings.artefacts) == len(NEXT)
