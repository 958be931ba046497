"""Heads on accelerometers in the running stream: the same features as in training, the same answers everywhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from config.schema import Model
from models.anomaly.vectors import extraction
from pipeline.clock import ManualClock
from pipeline.embedded import Embedded
from pipeline.errors import BadInput
from pipeline.lineup import Standing
from pipeline.machine_models import MachineModels, configured
from pipeline.messages import Anchor, Chunk, Embedding, Feature, MachineState, Record, Result, Score, Stream
from pipeline.runner import Lane
from pipeline.shard import Shard
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.engines.hostile import run_hostile, run_straight
from tests.engines.scenarios import T0, Scenario, chunks, learned_folder, machine, normal_noise
from tests.engines.test_same_answer import JOURNAL, LogSource, journal_hash
from tests.engines.vibration import ACC, FAN, MIC, folder, heads_on_vibration, taught, vectors


@cache
def scenario() -> Scenario:
    """Built once a session."""
    return heads_on_vibration()


@cache
def straight() -> tuple[Record, ...]:
    """The undisturbed run."""
    return tuple(run_straight(scenario().settings, scenario().log))


def told(topic: str, detector: str) -> list[Record]:
    """Results of a detector."""
    return [r for r in straight() if r.topic == topic and r.body["detector"] == detector]


def test_states_scores_shadow_promotion_and_rollback() -> None:
    """Each head reads its own sensor; the shadow is compared, promoted, and gone after the way back."""
    by_sensor = {
        (r.body["detector"], tuple(r.body["sensors"])) for r in straight() if r.topic in {"machine_state", "score"}
    }
    assert by_sensor == {
        ("heard", ("mic",)), ("felt", ("acc",)), ("shaking", ("acc",)), ("turning", ("fan",)),
        ("shadow.felt", ("acc",)), ("shadow.shaking", ("acc",)), ("shadow.heard", ("mic",)),
        ("shadow.turning", ("fan",)),
    }  # fmt: skip
    for detector in ("felt", "turning"):
        assert {r.body["state"] for r in told("machine_state", detector)} >= {"quiet", "loud"}
    scores = told("score", "shaking")
    assert len({r.body["settings"] for r in scores}) == 2  # of both packages
    assert any(r.body["abnormal"] for r in scores) and not all(r.body["abnormal"] for r in scores)
    assert any(r.topic == "alarm" and r.body["detector"] == "shaking" for r in straight())
    assert {r.topic for r in straight()} & {"dlq"} == set()
    compared = [r.body for r in straight() if r.topic == "feature" and r.body["name"] == "shadow.felt"]
    assert compared and all(body["sensors"] == ["acc"] for body in compared)
    models = {(tuple(r.body["sensors"]), r.body["model"]) for r in told("embedding", "embedding")}
    assert models == {(("mic",), "logmel"), (("acc",), "vibration"), (("fan",), "vibration")}


@pytest.mark.parametrize("s", [ACC, FAN], ids=lambda s: s.sensor)
def test_the_stream_reads_what_training_reads(s: Stream) -> None:
    """Bit for bit: the vectors of the running lane are those of the same samples as a recording."""
    x = normal_noise(s, 9.3, 3, (4.0, 6.0))
    lane = Lane(scenario().settings)
    found = [r for m in chunks(s, x) for r in lane.process(m)]
    live = np.stack([r.values for r in found if isinstance(r, Embedding)])
    assert np.array_equal(live, vectors(s, x)) and len(live) >= 8
    answers = [r for r in found if isinstance(r, MachineState | Score)]
    assert answers and all(r.sensors == (s.sensor,) for r in answers)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 9999), max_size=12))
def test_cuts_change_no_bit(cuts: list[int]) -> None:
    """However the samples come in chunks."""
    x = normal_noise(ACC, 5.0, 11, (2.0, 4.0))
    places = sorted({0, len(x), *cuts})
    lane, found = Lane(scenario().settings), list[Result]()
    for lo, hi in pairwise(places):
        found += lane.process(Chunk(ACC, Anchor(0, T0), lo, 0, x[lo:hi]))
    live = np.stack([r.values for r in found if isinstance(r, Embedding)])
    assert live.tobytes() == vectors(ACC, x).tobytes()


def test_the_heads_answer_is_that_of_the_package() -> None:
    """Offline, the package on the recording's vectors; live, the score of every window: the same numbers."""
    x = normal_noise(ACC, 9.0, 5, (3.0, 6.0))
    made = scenario().settings
    lane = Lane(made)
    scores = [r for m in chunks(ACC, x) for r in lane.process(m) if isinstance(r, Score) and r.detector == "shaking"]
    assert made.models is not None
    package = made.models.shelf.get(dict(made.models.first.active.heads)["shaking"])
    logits = package.session().run(vectors(ACC, x))["logits"].astype(np.float64)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert [r.value for r in scores] == pytest.approx((e / e.sum(axis=1, keepdims=True))[:, 0].tolist(), abs=1e-12)


@pytest.mark.parametrize("every", [1, 3])
def test_every_nth_window_of_the_grid(every: int) -> None:
    """The grid is that of sample indices, whatever came before."""
    made = scenario().settings
    assert made.models is not None
    models = made.models
    config = models.config.model_copy(update={"every": every})
    thinned = type(models)("m", config, models.shelf, models.first)
    for s in (ACC, FAN):
        lane = Lane(LaneSettings(made.machine, models=thinned))
        found = [r for m in chunks(s, normal_noise(s, 9.0, 1)) for r in lane.process(m) if isinstance(r, Embedding)]
        front_end = extraction(s).front_end
        hop = front_end.hop * front_end.window_hop if front_end is not None else round(s.rate.hz)
        starts = [r.lineage[0].n0 for r in found]
        assert starts == list(range(0, starts[-1] + 1, every * hop)) and len(starts) > 2
        assert all(r.t_end_ns > T0 for r in found)


def settings_of(*streams: Stream, **said: Any) -> LaneSettings:
    """A machine of these sensors with one head."""
    model = {"head": [{"package": str(said.pop("package")), **said.pop("head", {})}], **said}
    announced = machine(*streams, model=model)
    return LaneSettings(announced, models=configured("m", Model.model_validate(model), Shelf()))


def test_a_shadow_with_another_encoder_is_compared_too() -> None:
    """Sound and vibration share a standing: a shadow that brings an encoder has the accelerometer's heads as well."""
    made = settings_of(ACC, MIC, package=folder() / "acc-1", every=1)
    assert made.models is not None
    known, first = made.models, made.models.first
    encoder = known.shelf.add(learned_folder() / "encoder-1").digest
    other = known.shelf.add(folder() / "acc-2").digest
    beside = replace(first.active.with_head("state", other), encoder=encoder)
    standing = Standing(first.active, beside)
    lane = Lane(replace(made, models=MachineModels("m", known.config, known.shelf, standing)))
    found = [r for m in chunks(ACC, normal_noise(ACC, 13.0, 2, (0.0, 6.0))) for r in lane.process(m)]
    embeddings = [r.detector for r in found if isinstance(r, Embedding)]
    assert embeddings.count("embedding") == embeddings.count("shadow.embedding") == len(embeddings) // 2 > 10
    assert {r.detector for r in found if isinstance(r, MachineState)} == {"state", "shadow.state"}
    assert [r.values["disagreed"] for r in found if isinstance(r, Feature) and r.name == "shadow.state"][-1] <= 2.0


def test_windows_without_features_give_no_answer() -> None:
    """Silence, and samples that overflow: no state, no dead lane; what comes after is answered."""
    loud = replace(ACC, dtype="<f4", scale=1.0)
    head = taught(folder() / "float", loud)
    lane = Lane(settings_of(loud, package=head.folder, every=1, head={"k": 1, "n": 1}))
    x = normal_noise(loud, 12.0, 2)
    x[4000:10_000] = 0.0
    x[14_000:16_000] *= 1e30
    found = [r for m in chunks(loud, x) for r in lane.process(m)]
    seen = [r.lineage[0] for r in found if isinstance(r, Embedding)]
    assert seen and not [s for s in seen if s.n0 >= 4000 and s.n1 <= 10_000]
    assert any(s.n0 >= 16_000 for s in seen)
    assert all(np.isfinite(r.values).all() for r in found if isinstance(r, Embedding))


@pytest.mark.parametrize(
    ("streams", "package", "says"),
    [
        ((replace(ACC, channels=3),), "acc-1", "acc has 3 axes at 2000 Hz in m/s2, but it reads log-Mel means"),
        (
            (FAN,),
            "acc-1",
            "fan has 3 axes at 100 Hz in m/s2, but it reads log-Mel means and levels of each axis at 2000",
        ),
        ((replace(ACC, unit="g"),), "acc-1", "in g, but it was taught in m/s2"),
        ((ACC,), "no-unit", "was taught on numbers of no unit: add the column unit"),
        ((MIC,), "acc-1", "was taught on an accelerometer .* and there is none"),
        ((ACC,), "mic-1", "was taught on sound, and no sensor of this machine hears any"),
    ],
)
def test_what_no_sensor_gives_is_refused_before_anything_starts(
    streams: tuple[Stream, ...], package: str, says: str
) -> None:
    """Other axes, rates, units, or no such sensor at all; also when a command asks for it."""
    if package == "no-unit" and not (folder() / package).exists():
        taught(folder() / package, ACC, unit="")
    with pytest.raises(BadInput, match=says):
        settings_of(*streams, package=folder() / package)
    running = settings_of(ACC, FAN, MIC, package=folder() / "mic-1").for_lane()
    assert running.models is not None
    if package == "no-unit":
        with pytest.raises(BadInput, match=says):
            running.verify("model", {"action": "promote", "packages": [{"path": str(folder() / package)}]})
        assert running.models.newest == running.models.first


def test_sensors_that_the_configuration_leaves_out_are_not_read() -> None:
    """`sensors` chooses among accelerometers as among microphones."""
    twin = replace(ACC, sensor="acc-b")
    lane = Lane(settings_of(ACC, twin, package=folder() / "acc-1", sensors=["acc-b"], every=1))
    found = [r for s in (ACC, twin) for m in chunks(s, normal_noise(s, 5.0, 1)) for r in lane.process(m)]
    assert {r.sensors for r in found if isinstance(r, Embedding)} == {("acc-b",)}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"sensors": ["accc"]}, "accc is no sound sensor and no accelerometer of it"),
        ({"encoder": "impact-small"}, "heads on vibration need no encoder"),
    ],
)
def test_configurations_that_contradict_themselves(said: dict[str, Any], says: str) -> None:
    """Refused by the schema."""
    with pytest.raises(ValidationError, match=says):
        settings_of(ACC, package=folder() / "acc-1", **said)


@pytest.mark.parametrize("seed", range(3))
def test_the_hostile_engine_gives_the_same_journal(seed: int, tmp_path: Path) -> None:
    """Sensors interleaved at random, chunks cut and joined, the lane rebuilt between messages."""
    hostile = run_hostile(scenario().settings, scenario().log, seed)
    assert journal_hash(hostile, tmp_path) == journal_hash(list(straight()), tmp_path)


@pytest.mark.parametrize("shards", [1, 2])
def test_the_embedded_engine_gives_the_same_journal(shards: int, tmp_path: Path) -> None:
    """Inline and in processes fed by pipes."""
    made = scenario()
    store = Store(tmp_path / "state.sqlite")
    sources = [LogSource(messages) for messages in made.log.values()]

    def build(shard: str, lanes: object) -> Shard:
        return Shard(shard, list(lanes), Store(tmp_path / "state.sqlite"), ManualClock())  # type: ignore[call-overload]

    Embedded([made.settings], sources, store, ManualClock(), build, 10_000_000, shards).run()
    got = list(store.read(0, tuple(JOURNAL), 100_000))
    assert journal_hash(got, tmp_path) == journal_hash(list(straight()), tmp_path)
