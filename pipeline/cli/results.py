"""`stethos alarms`, `stethos dlq`, `stethos journal`: what the durable log of a state directory says."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline.app import STATE_FILE, journal_header
from pipeline.cli.kafka import dlq_retry
from pipeline.codec import UNCUT
from pipeline.errors import StateError
from pipeline.journal import sha256_of, write_journal
from pipeline.state import Store

_STATE = click.option(
    "--state", "state_dir", type=click.Path(path_type=Path), default=Path("var/state"), show_default=True,
    help="The engine's state directory.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


def open_store(state_dir: Path) -> Store:
    """The store of an existing state directory."""
    path = state_dir / STATE_FILE
    if not path.is_file():
        raise StateError(f"{path}: no such file; name the state directory of a run with --state")
    return Store(path)


def clock_text(t_ns: int) -> str:
    """Event time for people, in UTC."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _line(text: str) -> None:
    """Print one line of what others wrote: what a terminal would obey is shown escaped."""
    click.echo("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


@click.command()
@_STATE
@_JSON
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many, newest first."
)
def alarms(state_dir: Path, as_json: bool, limit: int) -> None:
    """List raised and cleared alarms."""
    records = open_store(state_dir).latest("alarm", limit)
    if as_json:
        click.echo(json.dumps([dict(r.body) for r in records], indent=2))
        return
    for r in records:
        _line(f"{clock_text(r.t_ns)}  {r.body['transition']:<8}{r.body['severity']:<9}{r.body['text']}")
    if not records:
        click.echo("no alarms")


@click.group()
def dlq() -> None:
    """Messages that could not be used."""


@dlq.command("list")
@_STATE
@_JSON
def dlq_list(state_dir: Path, as_json: bool) -> None:
    """List dead letters with their reasons."""
    records = open_store(state_dir).latest("dlq", 1000)
    if as_json:
        click.echo(json.dumps([{k: v for k, v in r.body.items() if k != "value"} for r in records], indent=2))
        return
    for r in records:
        _line(f"{r.seq:>8}  {r.body['topic']:<16}{r.machine:<16}{r.body['reason']:<18}{r.body['error']}")
    if not records:
        click.echo("no dead letters")


@dlq.command("show")
@_STATE
@click.argument("seq", type=int)
def dlq_show(state_dir: Path, seq: int) -> int:
    """Print one dead letter with its headers; SEQ is the first column of `stethos dlq list`."""
    found = open_store(state_dir).read(seq - 1, ("dlq",), 1)
    if not found or found[0].seq != seq:
        click.echo(f"no dead letter {seq}", err=True)
        return 1
    body = found[0].body
    for name in ("topic", "reason", "error"):
        _line(f"{name:<8}{body[name]}")
    for name, value in body["headers"]:
        _line(f"  {name}: {base64.b64decode(value).decode('utf-8', 'replace')}")
    uncut = f" of {body[UNCUT]}" if UNCUT in body else ""
    click.echo(f"value   {len(base64.b64decode(body['value']))}{uncut} bytes")
    return 0


dlq.add_command(dlq_retry)


@click.command()
@_STATE
@click.argument("out", type=click.Path(path_type=Path))
def journal(state_dir: Path, out: Path) -> None:
    """Write the canonical journal of a state directory and print its SHA-256."""
    store = open_store(state_dir)
    write_journal(store.journal_records(), out, journal_header(store))
    click.echo(sha256_of(out))
