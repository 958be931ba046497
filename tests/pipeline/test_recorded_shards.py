"""Recordings of several shards, and of programs that knew less: replays judge by what was in force."""

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
from pipeline.journal import read_journal, write_journal
from pipeline.messages import NS, Chunk, Context
from pipeline.recording.reader import read, written
from pipeline.recording.recorder import Start
from pipeline.recording.ring import MOST_UNREAD, Ring
from pipeline.shard import Shard
from pipeline.state import Store
from tests.fixtures.make_v1 import OUT, RATE, T0, inputs


class Plant:
    """The press and the lathe of the fixtures in a shard each; a baseline is promoted twice."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (stages, succession):
            monkeypatch.setattr(module, "PAST_NS", NS)  # not two minutes
        monkeypatch.chdir(folder)
        self.folder, self.clock = folder, ManualClock(T0)
        shutil.copytree(OUT / "baselines", folder / "baselines")
        said = (OUT / "v1.toml").read_text()
        said = said.replace("rotate_s = 900", "rotate_s = 2").replace("shards = 1", "shards = 2")
        (folder / "v1.toml").write_text(said)
        current = baselines.load_all(folder / "baselines")["press", "accelerometer"]
        self.made = [baselines.save(replace(current, hours=float(n)), folder / "state/baselines") for n in (1, 2)]

    def run(self, to_s: float, wishes: list[tuple[float, Path]]) -> Store:
        """A run up to a time of the press' samples, with wishes at times."""
        plan = app.plan(config.load(self.folder / "v1.toml"))
        shards: list[Shard] = []
        for name, machine in (("shard-0", "lathe"), ("shard-1", "press")):
            own = replace(plan, lanes=tuple(replace(lane, artefacts=dict(lane.artefacts)) for lane in plan.lanes))
            lanes = [lane for lane in own.lanes if lane.machine.name == machine]
            shards.append(app.ShardBuilder(own, self.clock, record=True)(name, lanes))
        store = Store(plan.state)
        reached = store.positions().get(("press", "accelerometer"))
        for message in inputs():
            if not isinstance(message, Chunk) or not (0 if reached is None else reached.n) < message.n1:
                continue
            if message.n0 >= to_s * RATE:
                break
            if wishes and message.n0 >= wishes[0][0] * RATE:
                _, wish = wishes.pop(0)
                body = {"sensor": "accelerometer", "baseline": wish.name.rpartition("-")[2], "path": str(wish)}
                store.ask("press", "baseline", body)
            shards[1].take(message)
            self.clock.sleep(0.25)
            for shard in shards:
                shard.tick()
        for shard in shards:
            shard.close()
        return store

    def judged_by(self, journal: Path) -> dict[tuple[int, str], str]:
        """Baselines of the press' scores."""
        lines = [line for line in read_journal(journal) if (line["topic"], line["machine"]) == ("score", "press")]
        return {(line["t_end_ns"], line["detector"]): line["settings"] for line in lines}

    def files(self) -> list[Path]:
        """In the order in which they are replayed."""
        return sorted((self.folder / "recordings").iterdir(), key=written)


def test_what_is_left_of_a_ring_of_two_shards_is_judged_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a machine's own shard knows which of its decisions are past; another one's files bring none of them."""
    plant = Plant(tmp_path, monkeypatch)
    plant.run(3, [(1, plant.made[0])]).close()
    store = plant.run(12, [(4.5, plant.made[1])])
    write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    live, files = plant.judged_by(tmp_path / "live.jsonl"), plant.files()
    for first in (0, len(files) // 2, len(files) - 3):
        play(tuple(files[first:]), tmp_path / "replay.jsonl")
        replayed = plant.judged_by(tmp_path / "replay.jsonl")
        assert replayed and replayed.items() <= live.items()
        assert "decision_unfit" not in capsys.readouterr().err


def test_a_file_that_brings_what_was_replaced_long_ago_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older program wrote it, or one whose state was behind its recordings."""
    plant = Plant(tmp_path, monkeypatch)
    plant.run(3, [(1, plant.made[0])]).close()
    plant.run(8, [(4, plant.made[1])]).close()
    monkeypatch.setattr(app, "past_of", lambda *_: succession.Past(frozenset(), frozenset()))
    store = plant.run(12, [])
    write_journal(store.journal_records(), tmp_path / "live.jsonl", {})
    live, files = plant.judged_by(tmp_path / "live.jsonl"), plant.files()
    heads = [
        sum(logged.preroll and hasattr(logged.message, "kind") for logged in read(file).messages()) for file in files
    ]
    before = max(n for n in range(1, len(files)) if heads[n] > 1 and "shard-1" in files[n].name and 1 in heads[:n])
    first = max(n for n in range(before) if heads[n] == 1 and "shard-1" in files[n].name)
    play(tuple(files[first:]), tmp_path / "replay.jsonl")
    replayed = plant.judged_by(tmp_path / "replay.jsonl")
    assert replayed and replayed.items() <= live.items()
    assert "decision_unfit" not in capsys.readouterr().err


def test_ever_new_names_of_facts_leave_room_for_samples(tmp_path: Path) -> None:
    """A file begins with what lanes read, however long ago it was told, and with the newest of the rest."""
    ring = Ring(tmp_path, Start(), T0, ring_bytes=10**8, read=[("m", "state")])
    ring.write(Context("m", "state", T0, "cut"), T0)
    for number in range(MOST_UNREAD + 50):
        ring.write(Context("m", f"job-{number % (MOST_UNREAD + 20)}", T0 + number, 1.0), T0 + number)
    ring.rotate(Start(), T0 + NS)
    path = ring.path
    ring.close()
    names = [logged.message.name for logged in read(path).messages() if isinstance(logged.message, Context)]
    assert names[0] == "state" and len(names) == 1 + MOST_UNREAD and names[-1] == "job-29"
