"""Baselines by decision that a worker cannot find: the same as on the embedded engine."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from config.schema import Kafka
from models.anomaly.baseline import Baseline
from models.anomaly.store import save
from pipeline.app import Loader
from pipeline.errors import StateError
from pipeline.kafka.client import Client
from pipeline.kafka.machines import Machines, Purpose
from pipeline.kafka.ownership import Found
from pipeline.kafka.part import Part
from pipeline.messages import NS, Anchor, DeadLetter, Decision
from pipeline.runner import Lane
from pipeline.stages import PAST_NS, LaneSettings
from tests.engines.scenarios import T0, baseline_of, chunks, machine, normal_noise, stream
from tests.kafka.plant import Running, plant
from tests.servers.kafka import KafkaServer

ACC = stream("acc", "vibration", 1000)
OLD, NEW = baseline_of(ACC), baseline_of(ACC, 1)


def decided(baseline: Baseline, number: int, path: Path, name: str = "m") -> Decision:
    """In force from that second on."""
    since = {baseline.sensor: [0, T0 + number * NS, 0]}
    body = {"sensor": baseline.sensor, "baseline": baseline.settings, "path": str(path), "since": since}
    return Decision(name, f"{name}|baseline|{number}", T0 + number * NS, "baseline", body)


def letters(folder: Path, needed_s: float, purpose: Purpose = "live") -> list[DeadLetter]:
    """What a worker that takes over says of decisions for an old and a new baseline, with samples of then needed."""
    at = Anchor(0, T0 + round(needed_s * NS))
    first, *rest = chunks(ACC, normal_noise(ACC, 3.0, 1), anchor=at)
    before = Lane(LaneSettings(machine(ACC)))
    before.process(first)
    found = Found(snapshots={"m": before.snapshot()})
    found.decisions += [decided(OLD, 1, folder / "old"), decided(NEW, 2, folder / "new")]
    client = Client(Kafka())
    settings = LaneSettings(machine(ACC), load=Loader(folder / "copies"))
    number = client.partition("m")
    part = Part(number, 1, 1, Machines([settings], client, None, purpose).lanes(number, found))
    results = part.catch_up(found.decisions)
    return [r for m in rest for r in (*results, *part.lanes["m"].process(m)) if isinstance(r, DeadLetter)]


def placed(folder: Path, gone: str) -> Path:
    """Both baselines without the one that is gone."""
    for name, baseline in (("old", OLD), ("new", NEW)):
        shutil.move(save(baseline, folder / "chosen"), folder / name)
    shutil.rmtree(folder / gone)
    return folder


def test_one_that_is_needed_and_gone_ends_the_worker(tmp_path: Path) -> None:
    """It says the mend; nothing is judged by the one before."""
    with pytest.raises(StateError, match=r"new: the baseline .* is gone: restore it, here or as .*copies"):
        letters(placed(tmp_path, "new"), 3.0)


def test_one_that_is_outlived_and_gone_is_not_missed(tmp_path: Path) -> None:
    """Where another one is in force for all that is still needed; else it is."""
    placed(tmp_path, "old")
    assert letters(tmp_path, 3.0 + PAST_NS / NS) == []
    with pytest.raises(StateError, match="old: the baseline"):
        letters(tmp_path, 1.5)


def test_a_replay_says_what_the_recording_lacks(tmp_path: Path) -> None:
    """As without Kafka: a dead letter, and it goes on."""
    said = letters(placed(tmp_path, "new"), 3.0, "replay")
    assert {letter.reason for letter in said} == {"decision_unfit"}


def test_a_worker_ends_with_the_reason(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """And takes the machine once the baseline is back."""
    with Running(plant(1, 4.0), broker, tmp_path, prefix) as running:
        acc = replace(plant(1, 4.0).baselines[1], hours=7.0)
        folder = save(acc, tmp_path / "chosen")
        running.publish_all([decided(acc, 1, folder, "machine-0")])
        aside = folder.rename(tmp_path / "aside")
        running.start("w0")
        until = time.monotonic() + 200
        while (code := running.workers["w0"].poll()) is None:
            assert time.monotonic() < until, running.log()
            time.sleep(0.1)
        assert code == 2 and f"{folder}: the baseline" in running.log()
        aside.rename(folder)
        running.start("w0")
        running.wait_ready("w0")
        running.signal("w0", signal.SIGTERM)
        assert running.workers["w0"].wait(100) == 0
