"""`stethos models shadow|promote|rollback`: the model packages of a running engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import click

import config as configuration
from config.schema import Settings
from pipeline.app import shelf_of
from pipeline.asking import ask, state_of
from pipeline.errors import ConfigError
from pipeline.lineup import standing_of
from pipeline.shelf import KEPT, keep
from pipeline.state import Store
from pipeline.states import SHADOW

_PACKAGES = click.argument("packages", nargs=-1)
_MACHINE = click.option("--machine", "machines", multiple=True, help="Which machines; default: all that have a model.")
_CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
_ENGINE = click.option("--engine", type=click.Choice(["embedded", "kafka"]), default="embedded", show_default=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@_PACKAGES
@_MACHINE
@_CONFIG
@_ENGINE
def promote(packages: tuple[str, ...], machines: tuple[str, ...], config_file: Path, engine: str) -> None:
    """Put PACKAGES in force on a running engine: an encoder, a head (NAME=PATH where several differ), or both at once.

    Without PACKAGES, what runs in shadow is promoted. A decision makes it take hold after the newest sample that the
    machine has taken in; what was in force stays loaded, and `stethos models rollback` goes back to it.
    """
    _command("promote", packages, machines, config_file, engine)


@click.command()
@_MACHINE
@_CONFIG
@_ENGINE
def rollback(machines: tuple[str, ...], config_file: Path, engine: str) -> None:
    """Go back to the packages that were in force before the last promotion."""
    _command("rollback", (), machines, config_file, engine)


@click.command()
@_PACKAGES
@_MACHINE
@_CONFIG
@_ENGINE
@click.option("--off", is_flag=True, help="End the shadow.")
@click.option("--report", "report", is_flag=True, help="Tell how the shadow has answered so far.")
@_JSON
def shadow(
    packages: tuple[str, ...], machines: tuple[str, ...], config_file: Path, engine: str, off: bool, report: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Let PACKAGES run beside those in force: their states and scores are called `shadow.…` and raise no alarm."""
    if sum((bool(packages), off, report)) != 1:
        raise click.UsageError("name packages, or --off, or --report")
    if report:
        settings = configuration.load(config_file)
        rows = compared(settings, _machines(settings, machines, config_file))
        click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))
        return
    _command("shadow", packages, machines, config_file, engine)


def _command(action: str, packages: Sequence[str], machines: Sequence[str], config_file: Path, engine: str) -> None:
    settings = configuration.load(config_file)
    chosen = _machines(settings, machines, config_file)
    named = [_named(settings, text) for text in packages]
    for machine in chosen:
        body = {"action": action, "packages": named}
        decision = ask(settings, machine, "model", body, cast('Literal["embedded", "kafka"]', engine))
        click.echo(f"{machine}: {action} by decision {decision}")


def _machines(settings: Settings, asked: Sequence[str], config_file: Path) -> list[str]:
    able = [machine.name for machine in settings.machines if machine.model is not None]
    if not able:
        raise ConfigError(f"{config_file}: no machine has a model: write [machine.model] with an encoder")
    if strange := sorted(set(asked) - set(able)):
        raise ConfigError(f"{config_file}: {', '.join(strange)} has no model; {', '.join(able)} has")
    return list(asked) or able


def _named(settings: Settings, text: str) -> dict[str, Any]:
    """A package of the command line: verified here first, and kept beside the state, where decisions find it."""
    head, _, path = text.rpartition("=") if not Path(text).exists() else ("", "", text)
    package = shelf_of(settings).add(Path(path))
    folder = keep(package, (settings.engine.state_dir / KEPT).resolve())
    return {"path": str(folder), "digest": package.digest, **({"head": head} if head else {})}


def compared(settings: Settings, machines: Sequence[str]) -> list[dict[str, Any]]:
    """How the shadows have answered: the newest counts of every machine, sensor and detector.

    Raises:
        StateError: no engine has run on this state.
    """
    store, rows = Store(state_of(settings)), []
    decided = {decision.machine: decision for decision in store.decisions() if decision.kind == "model"}
    for machine in machines:
        last = decided.get(machine)
        if last is not None and standing_of(last.body).shadow is None:
            continue  # what was counted is of a shadow that has ended
        newest: dict[tuple[str, str], Mapping[str, Any]] = {}
        for record in store.newest("feature", machine, f"|{SHADOW}"):
            if last is not None and record.t_ns <= last.t_ns:
                continue
            newest.setdefault(("+".join(record.body["sensors"]), record.body["name"]), record.body)
        for (sensors, name), body in sorted(newest.items()):
            counts = dict(body["values"])
            windows, differ = int(counts.pop("windows")), int(counts.pop("disagreed"))
            rows.append(
                {
                    "machine": machine, "sensors": sensors, "detector": name.removeprefix(SHADOW), "windows": windows,
                    "disagreed": differ, "share": differ / windows,
                    "pairs": {pair: int(count) for pair, count in sorted(counts.items(), key=lambda c: -c[1])},
                }
            )  # fmt: skip
    store.close()
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "no shadow has answered yet"
    lines = []
    for row in rows:
        where = f"{row['machine']}/{row['sensors']} {row['detector']}"
        lines.append(
            f"{where:<40}{row['disagreed']:>8} of {row['windows']} windows differ ({100 * row['share']:.1f} %)"
        )
        lines += [f"  {pair.replace('|', ' → '):<38}{count:>8}" for pair, count in row["pairs"].items()]
    return "\n".join(lines)
