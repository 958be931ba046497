"""`stethos baseline list|use`: which baselines there are, and putting one in force on a running engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import config as configuration
from config.schema import Machine, Settings
from connectors.rates import exact_rate
from models.anomaly.baseline import Baseline, counted
from models.anomaly.score import AnomalyScore
from models.anomaly.store import DOCUMENT, load, load_all, save
from pipeline.app import STATE_FILE
from pipeline.asking import Engine, state_of
from pipeline.cli.kafka import needs_kafka
from pipeline.errors import ConfigError, StateError
from pipeline.live_commissioning import put_in_force
from pipeline.messages import Stream
from pipeline.state import Store

KEPT = "baselines"
"""Folder in the state directory for baselines that decisions name."""

_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)


@click.group()
def baseline() -> None:
    """List baselines, and put one in force on a running engine."""


@baseline.command("list")
@_FOLDER
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_(folder: Path, config_file: Path, as_json: bool) -> None:
    """List the baselines in FOLDER; with a configuration beside it, say which are in force.

    In force is what the newest decision says, else what the configuration names.
    """
    settings = configuration.load(config_file) if config_file.is_file() else None
    used = in_force(settings) if settings else {}
    rows = [_row(path, baseline, used) for path, baseline in held(folder)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        mark = "in force" if row["in_force"] else ""
        starts = f"{counted(row['starts'], 'start')}{' (provisional)' if row['provisional'] else ''}"
        click.echo(f"{row['baseline']}  {row['sensor']:<32}{row['hours']:>7.2f} h  {starts:<24}{mark:<10}{row['path']}")


@baseline.command()
@_FOLDER
@_CONFIG
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), default="embedded", show_default=True)
def use(folder: Path, config_file: Path, engine: Engine) -> None:
    """Put the baseline in FOLDER in force on the engine that runs on this configuration.

    FOLDER holds one baseline, or several of which the current ones are meant. Each is copied into the state directory
    and takes hold by a decision, after the newest sample that its machine has taken in. The one before stays where it
    is: the same command goes back to it.

    With --engine kafka the worker that has the machine decides. It, and whoever has the machine after it, reads the
    copy by its path: the state directory must then lie where all workers read it under the same path.
    """
    settings = configuration.load(config_file)
    chosen = load_all(folder)
    for baseline in chosen.values():
        check(settings, baseline, config_file)
    if engine == "embedded":
        state_of(settings)  # before anything is copied
    if engine == "kafka":
        needs_kafka()
    for baseline in chosen.values():
        kept = save(baseline, settings.engine.state_dir / KEPT)  # a decision needs it as long as the state lives
        click.echo(f"{baseline.machine}/{baseline.sensor}: baseline {baseline.settings}")
        click.echo(put_in_force(settings, baseline, kept, engine))


def held(root: Path) -> Iterator[tuple[Path, Baseline]]:
    """Every baseline in a folder of baselines, current or not, or the one that the folder is.

    Raises:
        StateError: there is none, or one is damaged or of a newer version.
    """
    folders = [root] if (root / DOCUMENT).is_file() else sorted(path.parent for path in root.glob(f"*/{DOCUMENT}"))
    if not folders:
        raise StateError(f"{root}: holds no baseline; make one with 'stethos commission'")
    for folder in folders:
        yield folder, load(folder)


def in_force(settings: Settings) -> dict[tuple[str, str], str]:
    """(machine, sensor) → short name of the baseline that judges it now, as far as the files tell.

    Raises:
        StateError: a baseline that the configuration names is missing or damaged.
    """
    used: dict[tuple[str, str], str] = {}
    for machine in settings.machines:
        for sensor in machine.sensors:
            if sensor.baseline is not None:
                found = load_all(sensor.baseline).get((machine.name, sensor.name))
                if found is not None:
                    used[machine.name, sensor.name] = found.settings
    state = settings.engine.state_dir / STATE_FILE
    if state.is_file():
        store = Store(state)
        for decision in store.decisions():
            if decision.kind == "baseline":
                used[decision.machine, str(decision.body["sensor"])] = str(decision.body["baseline"])
        store.close()
    return used


def check(settings: Settings, baseline: Baseline, config_file: Path) -> None:
    """Refuse a baseline of a sensor that the configuration does not have, or describes otherwise.

    Raises:
        ConfigError: there is no such machine or sensor.
        BadInput: the sensor has another modality, rate, unit or number of channels, or this version another front-end.
    """
    machine: Machine | None = next((m for m in settings.machines if m.name == baseline.machine), None)
    sensor = next((s for s in machine.sensors if s.name == baseline.sensor), None) if machine else None
    if sensor is None:
        known = ", ".join(f"{m.name}/{s.name}" for m in settings.machines for s in m.sensors)
        raise ConfigError(
            f"{config_file}: has no sensor {baseline.machine}/{baseline.sensor}, of which this baseline is; "
            f"it has {known}"
        )
    rate = exact_rate(sensor.rate_hz, f"{config_file}: rate_hz of {baseline.machine}/{baseline.sensor}")
    told = (sensor.modality, rate, sensor.channels, "<f4", sensor.unit, 1.0)
    baseline.check(Stream(baseline.machine, baseline.sensor, 0, *told))
    baseline.check_states(machine is not None and machine.state_context is not None)
    AnomalyScore(baseline)


def _row(path: Path, baseline: Baseline, used: dict[tuple[str, str], str]) -> dict[str, Any]:
    return {
        "baseline": baseline.settings,
        "sensor": f"{baseline.machine}/{baseline.sensor}",
        "hours": baseline.hours,
        "starts": len(baseline.starts),
        "provisional": baseline.provisional,
        "in_force": used.get((baseline.machine, baseline.sensor)) == baseline.settings,
        "path": str(path),
    }
