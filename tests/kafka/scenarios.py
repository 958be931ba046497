"""Every scenario of the test kit as a machine of one plant on Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from config.schema import Machine
from models.anomaly.store import folder_name
from pipeline import drill_model
from pipeline.machine_models import configured
from pipeline.messages import Decision, Input, Record
from pipeline.shelf import Shelf
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_straight
from tests.engines.scenarios import SCENARIOS
from tests.kafka.plant import Plant


def named(message: Any, name: str) -> Input:
    """The message as one of another machine."""
    if hasattr(message, "stream"):
        return replace(message, stream=replace(message.stream, machine=name))
    return replace(message, machine=name)


@cache
def scenario_plant() -> tuple[Plant, tuple[Decision, ...]]:
    """The plant, and the decisions that stand in its log; their baselines lie in the plant's folder."""
    logs: dict[str, dict[str, list[Input]]] = {}
    expected: list[Record] = []
    kept: list[Any] = []
    decisions: list[Decision] = []
    toml = ["schema_version = 1"]
    for scenario, make in SCENARIOS.items():
        name, made = scenario.replace("_", "-"), make()
        of_hash = {key: replace(b, machine=name) for key, b in made.settings.artefacts.items()}
        own = {sensor: of_hash[key] for sensor, key in made.settings.baselines.items()}
        machine = made.settings.machine.model_copy(update={"name": name})
        artefacts = {b.settings: b for b in of_hash.values()}
        models = None if machine.model is None else configured(name, machine.model, Shelf())
        classifier = drill_model.configured(machine, Shelf())
        baselines = {s: b.settings for s, b in own.items()}
        settings = LaneSettings(machine, baselines, artefacts, models=models, classifier=classifier)
        mine = [_decision(d, name, of_hash) for d in made.log.get("", ()) if isinstance(d, Decision)]
        log = {sensor: [named(m, name) for m in messages] for sensor, messages in made.log.items() if sensor}
        expected += run_straight(settings, {"": list(mine), **log})
        logs[name] = log
        decisions += mine
        kept += [*(b for b in of_hash.values() if b not in own.values()), *own.values()]
        toml.append(toml_of(machine, set(own)))
    return Plant("\n".join(toml), logs, tuple(expected), tuple(kept)), tuple(decisions)


def _decision(decision: Decision, name: str, of_hash: dict[str, Any]) -> Decision:
    if decision.kind != "baseline":
        return replace(decision, machine=name, id=decision.id.replace("m|", name + "|", 1))
    baseline = of_hash[decision.body["baseline"]]
    body = {**decision.body, "baseline": baseline.settings, "path": folder_name(baseline)}
    return replace(decision, machine=name, id=f"{name}|baseline|1", body=body)


def placed(decision: Decision, root: Path) -> Decision:
    """The decision with the path of its baseline under `root`."""
    if decision.kind != "baseline":
        return decision
    return replace(decision, body={**decision.body, "path": str(root / decision.body["path"])})


def toml_of(machine: Machine, known: set[str]) -> str:
    """The machine as a configuration file has it; sensors that are `known` have a baseline."""
    lines = [f'[[machine]]\nname = "{machine.name}"\nalign = {str(machine.align).lower()}']
    if machine.drift:
        lines.append("drift = true")
    if machine.state_context is not None:
        lines.append(f'state_context = "{machine.state_context}"')
    lines.append(f"[machine.persistence]\nclear_after_s = {machine.persistence.clear_after_s}")
    for sensor in machine.sensors:
        lines.append(f'[[machine.sensor]]\nname = "{sensor.name}"\nmodality = "{sensor.modality}"')
        lines.append(f'rate_hz = {sensor.rate_hz}\nunit = "{sensor.unit}"\nchannels = {sensor.channels}')
        if sensor.name in known:
            lines.append('baseline = "baselines"')
    for section in ("spindle", "bearing", "severity", "drill"):
        told = getattr(machine, section)
        if told is not None:
            said = told.model_dump(mode="json", exclude_defaults=True)
            lines += [f"[machine.{section}]", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]
    if machine.model is not None:
        said = machine.model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        heads = said.pop("head")
        lines += ["[machine.model]", *(f"{key} = {json.dumps(value)}" for key, value in said.items())]
        for head in heads:
            lines += ["[[machine.model.head]]", *(f"{key} = {json.dumps(value)}" for key, value in head.items())]
    return "\n".join(lines)
