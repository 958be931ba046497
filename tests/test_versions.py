"""What version 1 left on disk is read for ever; what a newer version left is refused with a message that helps.

The files in tests/fixtures/v1 were made once by tests/fixtures/make_v1.py. Replay and going on hold as long as the
front-end of the detectors is that of version 1; after a change of it, baselines say "commission again".
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import config
from models.anomaly import store as baselines
from models.anomaly.packing import unpack
from pipeline import app
from pipeline.cli.replay import play
from pipeline.clock import ManualClock
from pipeline.errors import ConfigError, StateError
from pipeline.journal import read_journal, sha256_of, write_journal
from pipeline.journal_compare import compare
from pipeline.messages import Anchor, Chunk, Context, Decision, Mark
from pipeline.recording.reader import read
from pipeline.state import Store
from tests.fixtures.make_v1 import DECISION_S, OUT, RATE, SECONDS, STREAM, T0, TROUBLE_S, inputs, signal

TOLERANCE = 1e-3
"""Relative difference of numbers that another processor or library may bring."""


@pytest.fixture
def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixtures, and the working directory: paths inside the files are relative to it."""
    folder = tmp_path / "v1"
    shutil.copytree(OUT, folder)
    monkeypatch.chdir(folder)
    return folder


# read for ever ---------------------------------------------------------------------------------------------------


def test_configurations_of_all_versions(v1: Path) -> None:
    """The draft and version 1 say the same; migration of the draft's text gives version 1."""
    old, new = config.load(v1 / "v0.toml"), config.load(v1 / "v1.toml")
    assert old == new
    press = new.machines[0]
    assert (press.name, press.alarm_severity, press.persistence.clear_after_s) == ("press", "critical", 2.0)
    assert press.sensors[0].baseline == v1 / "baselines"
    (v1 / "migrated.toml").write_text(config.migrate_text((v1 / "v0.toml").read_text(), "v0.toml"))
    assert config.load(v1 / "migrated.toml") == new


def test_baselines(v1: Path) -> None:
    """Both are whole; the index says which one counts; each names itself after its content."""
    folders = {path.name: path for path in (v1 / "baselines").iterdir() if path.is_dir()}
    assert len(folders) == 2
    for name, path in folders.items():
        baseline = baselines.load(path)
        assert name == f"press-accelerometer-{baseline.settings}"
        assert (baseline.rate.hz, baseline.unit, len(baseline.starts)) == (RATE, "mg", 3)
    current = baselines.load_all(v1 / "baselines")["press", "accelerometer"]
    assert json.loads((v1 / "baselines/baselines.json").read_text())["current"] == {
        "press|accelerometer": f"press-accelerometer-{current.settings}"
    }


def test_recording(v1: Path) -> None:
    """Every input is there to the bit, and all that a replay needs."""
    recording = read(v1 / "recording.mcap")
    found = [logged.message for logged in recording.messages()]
    assert recording.damage is None
    assert [type(m) for m in found if not isinstance(m, Decision)] == [type(m) for m in inputs()]
    for was, now in zip(inputs(), (m for m in found if not isinstance(m, Decision)), strict=True):
        if isinstance(was, Chunk):
            assert isinstance(now, Chunk)
            assert (now.stream, now.anchor, now.n0, now.seq) == (STREAM, was.anchor, was.n0, was.seq)
            np.testing.assert_array_equal(now.samples, was.samples)
        else:
            assert now == was
    assert any(isinstance(m, Context) for m in found) and any(isinstance(m, Mark) for m in found)
    (decision,) = [m for m in found if isinstance(m, Decision)]
    assert decision.t_ns == T0 + int(DECISION_S * 1e9)
    assert json.loads(recording.attachments["config.json"])["site"] == "hall-1"
    key = decision.body["baseline"]
    assert unpack(recording.under(f"baseline/{key}/")).settings == key


def test_journal_and_state(v1: Path) -> None:
    """The state holds what the journal says, to the bit."""
    store = Store(v1 / "state/stethos.sqlite")
    digest = write_journal(store.journal_records(), v1 / "again.jsonl", app.journal_header(store))
    assert digest == sha256_of(v1 / "journal.jsonl")
    lines = list(read_journal(v1 / "journal.jsonl"))
    raised = [line for line in lines if line["topic"] == "alarm"]
    assert {(line["transition"], line["severity"]) for line in raised} == {("raised", "critical")}
    assert all(T0 + TROUBLE_S * 1e9 < line["raised_ns"] < T0 + (TROUBLE_S + 4) * 1e9 for line in raised)
    position = store.positions()["press", "accelerometer"]
    assert (position.epoch, position.anchor, position.ended) == (0, Anchor(0, T0), False)
    assert (SECONDS - 3) * RATE < position.n <= (SECONDS + 1) * RATE
    assert set(store.snapshots()) == {"press"}
    assert [d.kind for d in store.decisions()] == ["baseline"]
    assert store.cursor("prometheus") == store.last_seq()


def test_a_replay_gives_the_journal_of_version_1(v1: Path) -> None:
    """The same decisions and numbers; which bands a reason names, and with which words, may become better."""
    play((v1 / "recording.mcap",), v1 / "replayed.jsonl")
    found = compare(v1 / "journal.jsonl", v1 / "replayed.jsonl", tolerance=TOLERANCE)
    told = {path for difference in found.differences for path in difference.fields}
    assert found.deciding == 0, found.to_text()
    assert {path.partition("[")[0] for path in told} <= {"reasons.bands", "reasons.text", "text"}, found.to_text()


def test_a_run_goes_on_from_the_state_of_version_1(v1: Path) -> None:
    """The alarm that version 1 raised clears, under its old name, once the trouble is over."""
    plan = app.plan(config.load(v1 / "v1.toml"))
    press = [lane for lane in plan.lanes if lane.machine.name == "press"]
    shard = app.ShardBuilder(plan, ManualClock(T0 + SECONDS * 10**9), record=False)("shard-0", press)
    store = Store(plan.state)
    raised = {r.body["alarm"] for r in store.latest("alarm")}
    first = store.positions()["press", "accelerometer"].n
    x = np.concatenate([signal(SECONDS, 1, TROUBLE_S), signal(15.0, 2)])
    for n in range(first, len(x), RATE // 4):
        shard.take(Chunk(STREAM, Anchor(0, T0), n, n // (RATE // 4), x[n : n + RATE // 4]))
    shard.close()
    cleared = {r.body["alarm"] for r in store.latest("alarm") if r.body["transition"] == "cleared"}
    assert raised and cleared == raised


# newer ones are refused -------------------------------------------------------------------------------------------


def test_a_newer_configuration(v1: Path) -> None:
    """Neither read nor migrated."""
    path = v1 / "v1.toml"
    path.write_text(path.read_text().replace("schema_version = 1", "schema_version = 2"))
    with pytest.raises(ConfigError, match=r"schema_version = 2 is newer .*update stethos") as caught:
        config.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match=r"newer .*update stethos"):
        config.migrate_text(path.read_text(), str(path))


def test_a_newer_state(v1: Path) -> None:
    """And it stays as it was."""
    path = v1 / "state/stethos.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    db.close()
    with pytest.raises(StateError, match=r"newer stethos \(schema 2, .*update stethos") as caught:
        Store(path)
    assert str(path) in str(caught.value)
    db = sqlite3.connect(path)
    assert db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == ("2",)
    db.close()


def test_a_newer_recording(v1: Path) -> None:
    """Its header says so."""
    path = v1 / "recording.mcap"
    data = path.read_bytes()
    version = b"schema_version\x01\x00\x00\x001"
    assert data.count(version) == 1
    path.write_bytes(data.replace(version, version[:-1] + b"2"))
    with pytest.raises(StateError, match=r"newer stethos \(recording schema 2, .*update stethos") as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("name", "newer"), [("baselines.json", 2), ("press-accelerometer-*/baseline.json", 3)])
def test_a_newer_baseline(v1: Path, name: str, newer: int) -> None:
    """The folder's index and the baseline itself."""
    for path in (v1 / "baselines").glob(name):
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": newer}))
    with pytest.raises(StateError, match=rf"schema {newer} is newer .*upgrade stethos") as caught:
        baselines.load_all(v1 / "baselines")
    assert str(v1 / "baselines") in str(caught.value) and Path(name).name in str(caught.value)


def test_a_newer_journal(v1: Path) -> None:
    """Neither hashed nor compared."""
    path = v1 / "journal.jsonl"
    head, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps({**json.loads(head), "stethos_journal": 2}).encode() + b"\n" + rest)
    for use in (sha256_of, lambda p: list(read_journal(p)), lambda p: compare(p, p)):
        with pytest.raises(StateError, match=r"newer stethos \(journal 2, .*update stethos") as caught:
            use(path)
        assert str(path) in str(caught.value)
