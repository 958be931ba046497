"""Model packages on Kafka: promoted and rolled back by command, over the death of a worker; the same answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import config
from pipeline.asking import ask
from pipeline.errors import StateError
from pipeline.journal import line_of
from pipeline.messages import Input
from pipeline.stages import LaneSettings
from pipeline.state import JOURNAL_TOPICS
from tests.engines.hostile import run_straight
from tests.engines.scenarios import chunks, end, learned_folder, learned_models, machine, normal_noise, stream
from tests.kafka.plant import Plant, Running
from tests.servers.kafka import KafkaServer

TOML = """schema_version = 1
[models]
search = [{search}]
[[machine]]
name = "m"
[machine.persistence]
clear_after_s = 2.0
[machine.model]
encoder = {encoder}
every = 1
[[machine.model.head]]
package = {head}
k = 2
n = 3
[[machine.model.head]]
package = {head}
name = "loudness"
gives = "score"
abnormal = ["loud"]
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 32000
unit = "FS"
"""


def test_promotion_and_rollback_by_command_over_a_dead_worker(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """The journal is that of one undisturbed lane under the decisions that the workers made."""
    mic, folder = stream("mic", "acoustic", 32000), learned_folder()
    log: list[Input] = chunks(mic, normal_noise(mic, 15.0, 7, (5.0, 10.0)))
    log.append(end(mic, log[-1].n1))
    names = {"encoder": folder / "encoder-1", "head": folder / "head-1", "search": folder}
    toml = TOML.format(**{key: json.dumps(str(path)) for key, path in names.items()})
    with Running(Plant(toml, {}, ()), broker, tmp_path, prefix) as running:
        settings = config.load(running.config("w0"))
        running.start("w0")
        running.wait_ready("w0")
        running.publish_all(log[:50])
        newer = [{"path": str(folder / f"{kind}-2")} for kind in ("encoder", "head")]
        with pytest.raises(StateError, match="in one command"):
            ask(settings, "m", "model", {"action": "promote", "packages": newer[:1]}, "kafka", 30)
        first = ask(settings, "m", "model", {"action": "promote", "packages": newer}, "kafka", 30)
        running.publish_all(log[50:70])
        running.kill("w0")
        running.start("w1")
        running.publish_all(log[70:110])
        until = time.monotonic() + 60
        while "tiny 2" not in {r.body.get("model") for r in running.results()}:
            assert time.monotonic() < until, running.log()
            time.sleep(0.2)
        second = ask(settings, "m", "model", {"action": "rollback"}, "kafka", 60)
        running.publish_all(log[110:])
        running.wait_done()
        records = running.results()
        decisions: list[Input] = list(running.store.decisions())
        assert [d.id for d in decisions] == [first, second]
        models = learned_models()
        lane = LaneSettings(machine(mic, model=models.config.model_dump(by_alias=True)), models=models)
        expected = run_straight(lane, {"": decisions, "mic": log})
        kept = {line_of(r) for r in expected if r.topic in JOURNAL_TOPICS}
        assert {line_of(r) for r in records if r.topic in JOURNAL_TOPICS} == kept
        told = {(r.topic, r.body.get("model")) for r in records}
        assert {("embedding", "tiny 1"), ("embedding", "tiny 2"), ("machine_state", None), ("alarm", None)} <= told
        assert [r.body["reason"] for r in records if r.topic == "dlq"] == ["command"]
