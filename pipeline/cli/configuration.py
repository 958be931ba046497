"""`stethos config check|show|migrate|schema|example`."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

import config as configuration
from config.schema import Settings
from config.sinks import InfluxSinkConfig
from config.sources import Excerpt
from connectors.fastlane import FastLane
from connectors.playback import Playback
from connectors.tachometer import RereadTachometer
from pipeline import app
from pipeline.clock import HostClock
from pipeline.errors import ConfigError, StethosError
from pipeline.outlets import make_sink
from pipeline.sources import build_sources
from pipeline.stages import LaneSettings
from pipeline.stages_drift import UNKNOWN

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """Check, show and migrate configuration files."""


@config.command()
@_FILE
def check(file: Path) -> None:
    """Validate a configuration and the files that it names."""
    plan = checked(file)
    for lane in plan.lanes:
        if lane.machine.drift:
            for line in _untold(lane):
                click.echo(f"{file}: {line}", err=True)
    settings = plan.settings
    click.echo(f"{file}: fine: {len(settings.machines)} machines, {plan.sensors} sensors, {len(settings.sinks)} sinks")


def checked(file: Path) -> app.Plan:
    """A configuration whose files are there and fit.

    Raises:
        StethosError: says what does not, a line each.
    """
    settings = configuration.load(file)
    missing = [
        f"{file}: machine {m.name}, sensor {s.name}: {kind} {path}: no such file or folder"
        for m in settings.machines
        for s in m.sensors
        for kind, path in [
            *(("file", p.path if isinstance(p, Excerpt) else p) for p in getattr(s.source, "files", ())),
            *((("baseline", s.baseline),) if s.baseline else ()),
        ]
        if not Path(path).exists()
    ]
    if missing:
        raise ConfigError("\n".join(missing))
    plan = app.plan(settings)  # baselines fit their sensors, and so on
    if unfit := list(_unfit(settings)):
        raise ConfigError("\n".join(f"{file}: {text}" for text in unfit))
    return plan


def _untold(lane: LaneSettings) -> Iterator[str]:
    """Sensors whose drift no baseline can tell."""
    for sensor in lane.machine.sensors:
        where = f"machine {lane.machine.name}, sensor {sensor.name}"
        baseline = lane.artefacts.get(lane.baselines.get(sensor.name, ""))
        if baseline is None and sensor.modality != "frames":
            yield f"{where}: drift needs a baseline"
        elif baseline is not None and not all(cell.minute_known for by in baseline.cells for cell in by.values()):
            yield f"{where}: {UNKNOWN}"


def _unfit(settings: Settings) -> Iterator[str]:
    """What recordings that are to be played, and sinks, say against the configuration.

    Raises:
        ConfigError: sources make no sense together.
        MissingExtra: a source or a sink needs one that is not installed.
    """
    for sink in settings.sinks:
        if isinstance(sink, InfluxSinkConfig):
            try:
                make_sink(sink).close()  # made, it asks nobody
            except ConfigError as error:
                yield str(error)
    for made in build_sources(settings, HostClock()):
        source = made.source if isinstance(made, FastLane) else made  # opened, a fast lane would look for its broker
        if isinstance(source, Playback | RereadTachometer):
            try:
                source.open({}, 0)
            except StethosError as error:
                yield str(error)
            finally:
                source.close()


@config.command()
@_FILE
def show(file: Path) -> None:
    """Print the effective configuration, defaults filled in and secrets masked."""
    click.echo(json.dumps(configuration.effective(configuration.load(file)), indent=2))


@config.command()
@_FILE
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
def migrate(file: Path, dry_run: bool) -> None:
    """Bring an older configuration to the present schema; the old file is kept beside it as FILE.bak."""
    text = configuration.read_text(file)
    new = configuration.migrate_text(text, str(file))
    configuration.build(tomllib.loads(new), file)
    if new == text:
        click.echo(f"{file}: already of the present version")
        return
    click.echo("".join(difflib.unified_diff(text.splitlines(True), new.splitlines(True), str(file), "migrated")))
    if not dry_run:
        file.with_suffix(file.suffix + ".bak").write_bytes(text.encode())
        file.write_bytes(new.encode())


@config.command()
def schema() -> None:
    """Print the JSON Schema of configuration files."""
    click.echo(json.dumps(configuration.json_schema(), indent=2))


@config.command()
def example() -> None:
    """Print a commented configuration to start from."""
    click.echo(resources.files("config").joinpath("example.toml").read_text(encoding="utf-8"))
