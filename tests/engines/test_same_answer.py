"""One topology, several engines, one journal."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from pipeline.clock import ManualClock
from pipeline.embedded import Embedded
from pipeline.journal import write_journal
from pipeline.messages import Record
from pipeline.shard import Shard
from pipeline.state import Store
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import SCENARIOS, Scenario

JOURNAL = {"embedding", "score", "machine_state", "alarm", "health"}


@cache
def scenario(name: str) -> Scenario:
    """Built once a session."""
    return SCENARIOS[name]()


def journal_hash(records: list[Record], folder: Path) -> str:
    """SHA-256 of the canonical journal of these results."""
    return write_journal([r for r in records if r.topic in JOURNAL], folder / "journal.jsonl", {})


def features(records: list[Record]) -> dict[str, object]:
    """Features by their ids; the journal does not keep them."""
    return {r.id: r.body for r in records if r.topic == "feature"}


@cache
def straight(name: str) -> tuple[Record, ...]:
    """The undisturbed run, with decisions known from the start as on a restart."""
    made = scenario(name)
    log = {"": [], **made.log}
    decisions, rest = log.pop(""), log
    return tuple(run_straight(made.settings, {"": [*decisions], **rest}))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_says_something(name: str) -> None:
    """A scenario without results would make any engine look right."""
    topics = [r.topic for r in straight(name)]
    if name == "three_sensors_aligned":
        offsets = [r.body for r in straight(name) if r.topic == "feature" and r.body["name"] == "alignment"]
        found = {tuple(b["sensors"]): b["values"]["offset_ms"] for b in offsets if b["complete"]}
        assert abs(found["mic", "acc"] - 12) < 5
        assert abs(found["mic", "aux"] + 20) < 5
        assert any(not b["complete"] for b in offsets)
    elif name == "one_of_three_ends":
        joined = [r.body for r in straight(name) if r.topic == "feature" and r.body["name"] == "alignment"]
        assert {b["complete"] for b in joined} == {True, False}
    else:
        assert topics.count("score") >= 5
    if name in {"quiet_then_loud", "new_baseline", "gaps_and_faults"}:
        alarms = [r.body["transition"] for r in straight(name) if r.topic == "alarm"]
        assert "raised" in alarms
    if name == "operating_states":
        bodies = [r.body for r in straight(name) if r.topic == "score"]
        states = {(b["reasons"].get("state"), b["complete"]) for b in bodies}
        assert states == {("cut", True), ("idle", True), ("unknown", False)}
        told = [b for b in bodies if b["reasons"].get("state") == "idle" and b["detector"] == "level"]
        assert sum(b["abnormal"] for b in told) <= len(told) / 2  # windows across the change may look odd
    if name == "learned_states":
        assert topics.count("embedding") > 40
        detectors = {r.body["detector"] for r in straight(name) if r.topic in {"embedding", "machine_state", "score"}}
        shadowed = {f"shadow.{kind}" for kind in ("embedding", "state", "loudness")}
        assert detectors == {"anomaly", "level", "embedding", "state", "loudness", *shadowed}
        alarmed = {r.body["detector"] for r in straight(name) if r.topic == "alarm"}
        assert "loudness" in alarmed and not alarmed & shadowed
        distances = [r.body for r in straight(name) if r.topic == "score" and r.body["detector"] == "embedding"]
        assert {body["complete"] for body in distances} == {True, False}  # the baseline knows the first encoder alone
        assert any(body["abnormal"] for body in distances)
        heard = {r.body["state"] for r in straight(name) if r.topic == "machine_state"}
        assert heard >= {"idle", "loud"}
        models = {
            r.body["model"] for r in straight(name) if r.topic == "embedding" and r.body["detector"] == "embedding"
        }
        assert models == {"tiny 1", "tiny 2"}
    if name == "drill_classifier":
        raised = {r.body["detector"] for r in straight(name) if r.topic == "alarm"}
        assert raised == {"drill_break", "drill_classifier"}
    if name == "speed_told_late":
        turned = [
            r.body["transition"] for r in straight(name) if r.topic == "alarm" and r.body["detector"] == "chatter"
        ]
        assert turned == ["raised", "cleared", "raised"]
    if name == "strangers":
        reasons = {r.body["reason"] for r in straight(name) if r.topic == "dlq"}
        assert reasons == {"wrong_rate", "unknown_sensor"}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("seed", range(5))
def test_the_hostile_engine_gives_the_same_journal(name: str, seed: int, tmp_path: Path) -> None:
    """Sensors interleaved at random, chunks cut and joined, the lane rebuilt between messages."""
    made = scenario(name)
    hostile = run_hostile(made.settings, made.log, seed)
    assert journal_hash(hostile, tmp_path) == journal_hash(list(straight(name)), tmp_path)
    assert features(hostile) == features(list(straight(name)))


class LogSource:
    """A scenario's log of one sensor as a source that gives a few messages a poll."""

    rereadable = True

    def __init__(self, messages: list) -> None:
        self._left = list(messages)

    def open(self, resume: object, now_ns: int) -> list:
        """Nothing to open."""
        return []

    def poll(self, now_ns: int) -> list:
        """The next seven."""
        taken, self._left = self._left[:7], self._left[7:]
        return taken

    def wake_ns(self, now_ns: int) -> int:
        """At once."""
        return now_ns

    @property
    def exhausted(self) -> bool:
        """When nothing is left."""
        return not self._left

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("shards", [1, 2])
def test_the_embedded_engine_gives_the_same_journal(name: str, shards: int, tmp_path: Path) -> None:
    """Inline and in processes fed by pipes."""
    made = scenario(name)
    store = Store(tmp_path / "state.sqlite")
    sources = [LogSource(messages) for messages in made.log.values()]

    def build(shard: str, lanes: object) -> Shard:
        return Shard(shard, list(lanes), Store(tmp_path / "state.sqlite"), ManualClock())  # type: ignore[call-overload]

    engine = Embedded([made.settings], sources, store, ManualClock(), build, 10_000_000, shards)
    engine.run()
    got = list(store.read(0, tuple(JOURNAL), 100_000))
    assert journal_hash(got, tmp_path) == journal_hash(list(straight(name)), tmp_path)
