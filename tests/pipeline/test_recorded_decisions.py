"""A baseline that takes hold while the engine runs: the recording carries it, and the replay gives the same journal."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import config
from models.anomaly import store as baselines
from pipeline import app, stages, succession
from pipeline.cli.replay import play
from pipeline.clock import ManualClock
from pipeline.journal import read_journal, sha256_of, write_journal
from pipeline.messages import NS, Chunk
from pipeline.recording.reader import read
from pipeline.shard import Shard
from pipeline.state import Store
from tests.fixtures.make_v1 import OUT, RATE, T0, inputs


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The press of the fixtures; only its first baseline is configured."""
    shutil.copy(OUT / "v1.toml", tmp_path)
    shutil.copytree(OUT / "baselines", tmp_path / "baselines")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(site: Path, clock: ManualClock, to_s: float, wish: Path | None = None) -> Store:
    """One run of the engine up to a time of the press' samples, with a wish for another baseline at its begin."""
    plan = app.plan(config.load(site / "v1.toml"))
    shard: Shard = app.ShardBuilder(plan, clock, record=True)("shard-0", plan.lanes)
    store = Store(plan.state)
    if wish is not None:
        body = {"sensor": "accelerometer", "baseline": wish.name.rsplit("-", 1)[1], "path": str(wish)}
        store.ask("press", "baseline", body)
    reached = store.positions().get(("press", "accelerometer"))
    first = 0 if reached is None else reached.n
    for message in inputs():
        if isinstance(message, Chunk) and message.n1 > first and message.n0 < to_s * RATE:
            shard.take(message)
            clock.sleep(0.25)
            shard.tick()
    shard.close()
    return store


def test_a_replay_over_two_changes_of_the_baseline_and_a_restart(site: Path) -> None:
    """One change within a run; after a restart the recording begins with what is in force; then back again."""
    clock = ManualClock(T0)
    current = baselines.load_all(site / "baselines")["press", "accelerometer"]
    first = site / "baselines" / baselines.folder_name(current)
    (other,) = {f for f in (site / "baselines").iterdir() if f.is_dir()} - {first}
    run(site, clock, 3, wish=other).close()
    run(site, clock, 6).close()
    store = run(site, clock, 12, wish=first)
    live = write_journal(store.journal_records(), site / "live.jsonl", {})
    digest, _ = play((site / "recordings",), site / "replayed.jsonl")
    lines = list(read_journal(site / "live.jsonl"))
    assert [line["topic"] for line in lines].count("decision") == 2
    assert len({line["settings"] for line in lines if line["topic"] == "score"}) == 2
    assert digest == live


def test_recordings_carry_what_is_in_force_and_replay_alone(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all that ever was: neither within a run nor from its start; and what is gone back to is there again."""
    for module in (stages, succession):
        monkeypatch.setattr(module, "PAST_NS", NS)  # not two minutes
    described = (site / "v1.toml").read_text()
    (site / "v1.toml").write_text(described.replace("rotate_s = 900", "rotate_s = 2"))
    current = baselines.load_all(site / "baselines")["press", "accelerometer"]
    made = [baselines.save(replace(current, hours=float(hours)), site / "state/baselines") for hours in (1, 2)]
    clock = ManualClock(T0)
    for to_s, wish in ((3, made[0]), (6, made[1]), (8, None), (12, made[0])):
        store = run(site, clock, to_s, wish)
    write_journal(store.journal_records(), site / "live.jsonl", {})
    live = [line for line in read_journal(site / "live.jsonl") if line["topic"] == "score"]
    used, held, told = [path.name.rpartition("-")[2] for path in made], [], []
    for file in sorted((site / "recordings").iterdir()):
        carried = read(file).under("baseline/")
        held.append({number for number, settings in enumerate(used) if any(settings in name for name in carried)})
        play((file,), site / "alone.jsonl")
        alone = [line for line in read_journal(site / "alone.jsonl") if line["topic"] == "score"]
        told += alone
    assert told == live
    assert held[0] == set() and {0} in held[:3] and {1} in held[2:5] and held[-1] == {0}
    digest, _ = play((site / "recordings",), site / "replayed.jsonl")
    assert digest == sha256_of(site / "live.jsonl")
