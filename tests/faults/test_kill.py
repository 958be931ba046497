"""kill -9 at random moments: after the restarts the journal is that of the undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest

from models.anomaly.store import save_all
from pipeline.commissioning import commission_manifest
from pipeline.journal import header_of, read_journal, sha256_of
from pipeline.manifest import read_manifest

DATA = Path(str(resources.files("pipeline.demo").joinpath("recordings")))

CONFIG = """
schema_version = 1
[engine]
state_dir = "{folder}/state"
shards = {shards}
[recording]
folder = "{folder}/recordings"
[status]
enabled = false
[evidence]
folder = "{folder}/evidence"
[[machine]]
name = "lathe"
persistence = {{ clear_after_s = 5.0 }}
  [[machine.sensor]]
  name = "microphone"
  modality = "acoustic"
  rate_hz = 32000
  unit = "FS"
  baseline = "{root}/baselines"
  source = {{ type = "playback", speed = {speed}, start_ns = 1700000000000000000, files = [
    "{data}/lathe-play-normal.flac", "{data}/lathe-play-too-fast.flac", "{data}/lathe-normal-1.flac"] }}
[[machine]]
name = "mill"
  [[machine.sensor]]
  name = "accelerometer"
  modality = "vibration"
  rate_hz = 2000
  unit = "mg"
  channels = 3
  baseline = "{root}/baselines"
  source = {{ type = "playback", speed = {speed}, start_ns = 1700000000000000000, pause_s = 3.0, files = [
    "{data}/mill-play-good.npz", "{data}/mill-play-bad.npz", "{data}/mill-normal-1.npz"] }}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demonstration's baselines."""
    folder = tmp_path_factory.mktemp("kill")
    save_all(commission_manifest(read_manifest(DATA / "manifest.csv")), folder / "baselines")
    return folder


def command(root: Path, folder: Path, shards: int, speed: float) -> list[str]:
    """`stethos run` on a configuration of this folder."""
    folder.mkdir(exist_ok=True)
    path = folder / "c.toml"
    path.write_text(
        CONFIG.format(folder=folder.as_posix(), root=root.as_posix(), data=DATA.as_posix(), shards=shards, speed=speed)
    )
    journal = str(folder / "journal.jsonl")
    return [sys.executable, "-m", "pipeline.cli.main", "run", "--config", str(path), "--journal", journal, "--quiet"]


@pytest.fixture(scope="module")
def undisturbed(root: Path) -> str:
    """The journal of a run that nobody killed, at another speed."""
    folder = root / "undisturbed"
    subprocess.run(command(root, folder, 1, 0), check=True, timeout=120, capture_output=True)
    journal = folder / "journal.jsonl"
    kinds = [line["topic"] for line in read_journal(journal)]
    assert kinds.count("score") > 200
    assert "alarm" in kinds
    assert header_of(journal)
    return sha256_of(journal)


def run_and_kill(root: Path, folder: Path, shards: int, kills: int, seed: int) -> str:
    """Kill the run `kills` times, at moments from just after the start to the middle of the work; then let it end."""
    rng = random.Random(seed)
    line = command(root, folder, shards, 25.0)
    for _ in range(kills):
        process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0.3, 2.2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in {0, -signal.SIGKILL}, errors.decode()
    subprocess.run(line, check=True, timeout=240, capture_output=True)
    return sha256_of(folder / "journal.jsonl")


@pytest.mark.parametrize(
    ("shards", "kills", "seed"),
    [
        (1, 3, 1),
        (2, 2, 2),
        pytest.param(1, 30, 3, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(2, 20, 4, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_the_journal_survives_kill_9(root: Path, undisturbed: str, shards: int, kills: int, seed: int) -> None:
    """No score and no alarm is lost, doubled or changed."""
    assert run_and_kill(root, root / f"killed-{seed}", shards, kills, seed) == undisturbed


def test_the_recordings_of_a_killed_run_replay_to_the_same_journal(root: Path, undisturbed: str) -> None:
    """Several files, some of them never finished, give the whole again."""
    folder = root / "killed-5"
    assert run_and_kill(root, folder, 1, 2, 5) == undisturbed
    out = folder / "replayed.jsonl"
    line = [sys.executable, "-m", "pipeline.cli.main", "replay", str(folder / "recordings"), "--journal", str(out)]
    subprocess.run(line, check=True, timeout=120, capture_output=True)
    assert sha256_of(out) == undisturbed
