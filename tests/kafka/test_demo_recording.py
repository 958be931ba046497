"""The demonstration's recording gives the same journal on both engines."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from models.anomaly.store import save_all
from pipeline.cli.demo import prepare
from pipeline.commissioning import commission_manifest
from pipeline.manifest import read_manifest
from tests.kafka.test_commands import stethos
from tests.servers.kafka import KafkaServer


@pytest.mark.slow
def test_the_demonstration_gives_the_same_journal_on_both_engines(broker: KafkaServer, tmp_path: Path) -> None:
    """Four machines, vibration and sound, detectors of all kinds and a learned state; as fast as it goes."""
    data = Path(str(resources.files("pipeline.demo").joinpath("recordings")))
    out = prepare(tmp_path, data, 0)
    save_all(commission_manifest(read_manifest(data / "manifest.csv")), out / "baselines")
    config = out / "demo.toml"
    config.write_text(config.read_text().replace("loop = true", "speed = 0"))
    live = stethos("run", "--config", config, "--journal", out / "live.jsonl")
    assert live.returncode == 0, live.stderr
    (recording,) = (out / "recordings").glob("*.mcap")
    hashes = [live.stdout.split()[-1]]
    for engine in (["embedded"], ["kafka", "--kafka", broker.bootstrap]):
        journal = out / f"{engine[0]}.jsonl"
        done = stethos("replay", recording, "--engine", *engine, "--journal", journal)
        assert done.returncode == 0, done.stderr
        hashes.append(done.stdout.split()[0])
    assert hashes == [hashes[0]] * 3
    bodies = [json.loads(line) for line in (out / "kafka.jsonl").read_text().splitlines()[1:]]
    raised = {(b["machine"], b["detector"]) for b in bodies if b["topic"] == "alarm" and b["transition"] == "raised"}
    assert {machine for machine, _ in raised} == {"lathe", "mill", "mill-simulated", "drill-simulated"}
    assert {"chatter", "drill_break"} <= {detector for _, detector in raised}
