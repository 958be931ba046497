"""Heads that pool one encoder's tokens in different ways: each is promoted, or runs in shadow, as it was taught."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from config.schema import Model
from pipeline.errors import BadInput
from pipeline.machine_models import configured
from pipeline.messages import NS, Decision, Record
from pipeline.models_pool import Pool
from pipeline.runner import Lane
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, Scenario, chunks, learned_folder, machine, normal_noise, stream
from tests.engines.test_same_answer import journal_hash

MIC = stream("mic", "acoustic", 32_000)


@cache
def mean_head() -> Path:
    """A head on the mean of the first encoder's tokens; the other ones read its bands."""
    from tests.pipeline import packages

    package = Shelf().add(learned_folder() / "encoder-1")
    return packages.told_apart(learned_folder() / "mean-1", package, "mean", version="mean").folder


def settings(*heads: Path, pooling: str | None = None) -> LaneSettings:
    """The first encoder with these heads; nobody says how to pool unless told."""
    said = {
        "encoder": str(learned_folder() / "encoder-1"), "every": 1, "pooling": pooling,
        "head": [{"package": str(h), "name": f"head-{i}", "k": 2, "n": 3} for i, h in enumerate(heads)],
    }  # fmt: skip
    models = configured("m", Model.model_validate(said), Shelf())
    return LaneSettings(machine(MIC, model=said), models=models)


@cache
def scenario() -> Scenario:
    """A head on bands, one on the mean in its shadow, promoted, and the way back."""
    made = settings(learned_folder() / "head-1")
    lane, decisions = made.for_lane().models, []
    assert lane is not None
    wishes = [("shadow", [{"path": str(mean_head())}], 3.1), ("promote", [], 8.3), ("rollback", [], 12.7)]
    for number, (action, packages, at_s) in enumerate(wishes):
        body = lane.verify({"action": action, "packages": packages})
        decision = Decision("m", f"m|model|{number}", T0 + round(at_s * NS), "model", body)
        lane.decide(decision)
        decisions.append(decision)
    return Scenario(made, {"": [*decisions], "mic": chunks(MIC, normal_noise(MIC, 16.0, 7, (5.0, 10.0)))})


def by_dimension(records: list[Record], detector: str) -> list[int]:
    """Dimensions of the embeddings of a detector in order of time."""
    found = [r for r in records if r.topic == "embedding" and r.body["detector"] == detector]
    return [r.body["dimension"] for r in sorted(found, key=lambda r: r.t_ns)]


def test_shadow_promotion_and_rollback_change_the_pooling() -> None:
    """24 numbers are bands, 6 the mean; the shadow is compared window by window."""
    records = run_straight(scenario().settings, scenario().log)
    active, beside = by_dimension(records, "embedding"), by_dimension(records, "shadow.embedding")
    assert list(dict.fromkeys(active)) == [24, 6] and active[-1] == 24 and set(beside) == {6}
    assert {r.body["state"] for r in records if r.topic == "machine_state"} >= {"idle", "loud"}
    compared = [r.body["values"] for r in records if r.topic == "feature" and r.body["name"] == "shadow.head-0"]
    assert compared and compared[-1]["windows"] >= 1
    assert not [r for r in records if r.topic == "dlq"]


def test_one_run_of_the_encoder_serves_both() -> None:
    """As many windows as embeddings in force, none for the shadow."""
    pool = Pool(Shelf([learned_folder()]))
    lane = Lane(scenario().settings, pool=pool)
    for decision in scenario().log[""]:
        lane.process(decision)
    told = [r for m in scenario().log["mic"] for r in lane.process(m) if type(r).__name__ == "Embedding"]
    assert pool.counts["model.windows"] == len([r for r in told if r.detector == "embedding"]) < len(told)


@pytest.mark.parametrize("seed", range(2))
def test_the_hostile_engine_gives_the_same_journal(seed: int, tmp_path: Path) -> None:
    """Whatever it does to the lane."""
    hostile = run_hostile(scenario().settings, scenario().log, seed)
    straight = run_straight(scenario().settings, scenario().log)
    assert journal_hash(hostile, tmp_path) == journal_hash(straight, tmp_path)


def test_one_embedding_has_one_pooling() -> None:
    """Two heads that differ are refused, and a head that differs from what the configuration says."""
    with pytest.raises(BadInput, match="read band, mean: an embedding has one pooling"):
        settings(learned_folder() / "head-1", mean_head())
    assert settings(mean_head(), pooling="mean").models is not None
    with pytest.raises(BadInput, match="of pooling 'band', the encoder gives 6 of 'mean'"):
        settings(learned_folder() / "head-1", pooling="mean")
    fixed = settings(learned_folder() / "head-1", pooling="band").for_lane().models
    assert fixed is not None
    with pytest.raises(BadInput, match="of pooling 'mean', the encoder gives 24 of 'band'"):
        fixed.verify({"action": "promote", "packages": [{"path": str(mean_head())}]})


def test_a_head_on_the_log_mel_brings_that_along() -> None:
    """It needs no encoder, so that none can be named with it; where another head stays behind, it is refused."""
    from tests.pipeline import packages

    folder = learned_folder() / "plain"
    if not folder.exists():
        packages.told_apart(folder, None)
    lane = settings(learned_folder() / "head-1").for_lane().models
    assert lane is not None
    before = lane.newest.active
    body = lane.verify({"action": "promote", "packages": [{"path": str(folder)}]})
    assert body["active"]["encoder"] == "logmel"
    lane.decide(Decision("m", "m|model|0", T0, "model", body))
    back = lane.verify({"action": "rollback"})
    assert back["active"] == before.body()
    two = settings(learned_folder() / "head-1", learned_folder() / "head-1").for_lane().models
    assert two is not None
    with pytest.raises(BadInput, match=r"'head-1'.*not of logmel"):
        two.verify({"action": "promote", "packages": [{"path": str(folder), "head": "head-0"}]})
