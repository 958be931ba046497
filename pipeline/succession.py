"""Baseline decisions that a later one has fully replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from models.anomaly.score import AnomalyScore
from pipeline.errors import StethosError
from pipeline.messages import Decision
from pipeline.stages import PAST_NS, LaneSettings


class Past(NamedTuple):
    """Decisions under which nothing will be judged any more, and baselines that only they named.

    Attributes:
        decisions: (machine, id) of each.
        baselines: hashes.
    """

    decisions: frozenset[tuple[str, str]]
    baselines: frozenset[str]


def past_of(
    lanes: Iterable[LaneSettings], decisions: Iterable[Decision], snapshots: Mapping[str, bytes], load: bool = True
) -> Past:
    """What of a run's decisions is past.

    Args:
        lanes: of the machines; the baselines that they name stay.
        decisions: in the order in which they were made.
        snapshots: of the lanes by machine: they tell what is still needed.
        load: whether a baseline that is not at hand may be looked for.
    """
    by_name = {lane.machine.name: lane for lane in lanes}
    places = {machine: places_of(snapshots.get(machine)) for machine in by_name}
    chains: dict[tuple[str, Any], list[Decision]] = {}
    for decision in decisions:
        if decision.kind == "baseline" and decision.machine in by_name:
            chains.setdefault((decision.machine, decision.body.get("sensor")), []).append(decision)
    over: list[Decision] = []
    used = {settings for lane in by_name.values() for settings in lane.baselines.values()}
    for (machine, _), chain in chains.items():
        newest = len(chain) - 1
        while newest > 0 and not settles(by_name[machine], chain[newest], places[machine], load):
            newest -= 1
        over += chain[:newest]
        used.update(decision.body["baseline"] for decision in chain[newest:])
    gone = frozenset(decision.body["baseline"] for decision in over)
    return Past(frozenset((decision.machine, decision.id) for decision in over), gone - used)


def places_of(snapshot: bytes | None) -> list[Mapping[str, Any]]:
    """How far the streams of a lane had come, by its snapshot."""
    return [] if snapshot is None else list(orjson.loads(snapshot).get("streams", ()))


def holds(decision: Decision, sensor: str, places: Iterable[Mapping[str, Any]], margin_ns: int = 0) -> bool:
    """Whether a decision is in force for all of its sensor's streams that is still needed, and for so long before."""
    needed = [place for place in places if place["sensor"] == sensor and place["end"] is None]
    return all(decision.after_ns(sensor, place["epoch"]) <= place["t_ns"] - margin_ns for place in needed)


def settles(lane: LaneSettings, decision: Decision, places: Sequence[Mapping[str, Any]], load: bool = True) -> bool:
    """Whether nothing will be judged under what was in force on a decision's sensor before it.

    It does not where its baseline does not fit or cannot be had, as a lane then goes by the one before; nor, for a
    sensor of which no place is known, or a decision that does not say how far the sensors had come.
    """
    sensor = lane.sensor(str(decision.body.get("sensor")))
    if sensor is None or "since" not in decision.body or all(place["sensor"] != sensor.name for place in places):
        return False
    if not holds(decision, sensor.name, places, PAST_NS) or not (load or decision.body["baseline"] in lane.artefacts):
        return False
    try:
        lane.fetch(decision.body)
        baseline = lane.artefacts[decision.body["baseline"]]
        baseline.check(lane.announced(sensor))
        AnomalyScore(baseline)
    except StethosError:
        return False
    return True


def retire(lane: LaneSettings, decisions: Sequence[Decision], snapshot: bytes) -> list[Decision]:
    """The decisions that are not past; the others' baselines leave memory, where they could be loaded again."""
    if sum(decision.kind == "baseline" for decision in decisions) < 2:
        return list(decisions)  # as nearly always, with each snapshot
    past = past_of([lane], decisions, {lane.machine.name: snapshot}, load=False)
    if lane.load is not None:
        for settings in past.baselines:
            lane.artefacts.pop(settings, None)
    return [decision for decision in decisions if (decision.machine, decision.id) not in past.decisions]
