"""`stethos models running`: which packages are in force on every machine, since when, and what they replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

import config as configuration
from pipeline.app import STATE_FILE, plan
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.lineup import LOGMEL, Lineup, Standings
from pipeline.machine_models import MachineModels
from pipeline.messages import NS, Decision
from pipeline.state import Store


@click.command()
@click.option("--machine", "machines", multiple=True, help="Which machines; default: all that have a model.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def running(machines: tuple[str, ...], config_file: Path, as_json: bool) -> None:
    """Tell which packages are in force, which run in shadow, and what a rollback would go back to.

    In force is what the newest decision says, else what the configuration names; where both differ, it is said.
    """
    settings = configuration.load(config_file)
    able = {lane.machine.name: lane.models for lane in plan(settings).lanes if lane.models is not None}
    if strange := sorted(set(machines) - set(able)):
        raise ConfigError(f"{config_file}: {', '.join(strange)} has no model; {', '.join(able) or 'none'} has")
    decided = _decisions(settings.engine.state_dir / STATE_FILE)
    rows = [row for name in machines or able for row in standing(able[name], decided.get(name, []))]
    click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))


def standing(models: MachineModels, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """A machine's packages, one each: role, name, version, digest, and since when.

    Args:
        models: as the configuration has them.
        decisions: of the kind ``model``, in order.
    """
    standings = Standings(models.first)
    for decision in decisions:
        for digest, said in decision.body.get("packages", {}).items():
            models.shelf.hint(digest, Path(said["path"]))
        standings.decide(decision)
    since = _time(decisions[-1].t_ns) if decisions else "configuration"
    newest, told = standings.newest, models.first.active
    rows = [_row(models, "in force", *one, since) for one in _parts(newest.active)]
    rows += [_row(models, "shadow", *one, since) for one in _parts(newest.shadow, newest.active)]
    rows += [_row(models, "before", *one, "") for one in _parts(standings.before, newest.active)]
    if told != newest.active:  # a line of the file that was edited after a promotion is not what runs
        rows += [_row(models, "configured, not in force", *one, "") for one in _parts(told, newest.active)]
    return rows


def _parts(lineup: Lineup | None, besides: Lineup | None = None) -> Iterator[tuple[str, str]]:
    """(what it does, digest) of each package, without those of another lineup."""
    if lineup is not None:
        known = set() if besides is None else {("encoder", besides.encoder), *besides.heads}
        yield from (part for part in [("encoder", lineup.encoder), *lineup.heads] if part not in known)


def _row(models: MachineModels, role: str, part: str, digest: str, since: str) -> dict[str, Any]:
    name, version = "time mean of the log-Mel", ""
    if digest != LOGMEL:
        try:
            card = models.shelf.get(digest).card
            name, version = card.name, card.version
        except (BadInput, StateError) as error:
            name = f"not at hand: {error}"
    return {
        "machine": models.machine, "part": part, "role": role, "name": name, "version": version, "digest": digest,
        "since": since,
    }  # fmt: skip


def _decisions(path: Path) -> dict[str, list[Decision]]:
    """By machine; none before the first run."""
    if not path.is_file():
        return {}
    store, found = Store(path), dict[str, list[Decision]]()
    for decision in store.decisions():
        if decision.kind == "model":
            found.setdefault(decision.machine, []).append(decision)
    store.close()
    return found


def _time(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns / NS, UTC).isoformat(timespec="seconds")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        what = f"{row['name']} {row['version']}".strip()
        digest = "" if row["digest"] == LOGMEL else row["digest"][:16]
        since = f"since {row['since']}" if row["since"] else ""
        lines.append(f"{row['machine']:<16}{row['part']:<14}{row['role']:<26}{what:<28}{digest:<18}{since}".rstrip())
    return "\n".join(lines) or "no machine has a model"
