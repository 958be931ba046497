"""`stethos run` and `stethos record`: live operation."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

import config as configuration
from config.schema import Settings
from pipeline import app
from pipeline.cli.number import Number
from pipeline.cli.recordings import must_be_new, refused
from pipeline.clock import HostClock
from pipeline.errors import ConfigError
from pipeline.journal import sha256_of, spare_others, write_journal
from pipeline.live import Live
from pipeline.recording.recorder import RecordingEnded
from pipeline.state import Store
from pipeline.view import View

_CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
_FOR = click.option("--for", "for_s", type=Number(min=0, min_open=True), help="Stop after SECONDS.")


@click.command()
@_CONFIG
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), default="embedded", show_default=True)
@click.option(
    "--role",
    type=click.Choice(["all", "worker", "feed", "sinks"]),
    default="all",
    show_default=True,
    help="Of this process, with --engine kafka.",
)
@click.option("--name", help="Of this process, with --engine kafka; a worker that comes back keeps its name.")
@_FOR
@click.option("--journal", type=click.Path(path_type=Path), help="Write the canonical journal at the end.")
@click.option("--quiet", is_flag=True, help="No live view.")
def run(
    config_file: Path, engine: str, role: str, name: str | None, for_s: float | None, journal: Path | None, quiet: bool
) -> int:
    """Watch the machines of a configuration until their sources end, SECONDS are over, or Ctrl-C.

    Exit code 1 if a source or a sink still had a problem at the end.
    """
    if journal is not None:
        spare_others(journal)  # not first at the end of the run
    if engine == "kafka":
        from pipeline.cli.kafka import run_kafka  # Faust is an extra

        return run_kafka(config_file, role, name, for_s, journal)
    if role != "all" or name is not None:
        raise click.UsageError("--role and --name need --engine kafka")
    plan = app.plan(_with_sources(config_file, "run --engine kafka"))
    live = Live(plan, HostClock())
    begun = live.store.last_seq()
    live.start()
    shown = not quiet and sys.stdout.isatty()
    view = View(plan.state, live.address, plan.settings.evidence.folder, lambda: live.problems) if shown else None
    if view is None and live.address:
        click.echo(f"status page: {live.address}")

    errors = live.run(for_s, view.update if view else _teller(live))
    if view:
        view.close()
    for error in errors:
        click.echo(f"error: {error}", err=True)
    store = Store(plan.state)
    dead = Counter(str(record.body["reason"]) for record in store.read(begun, ("dlq",), limit=100_000))
    for line in refused(dead, store, begun):
        click.echo(line, err=True)
    if journal is not None:
        write_journal(store.journal_records(), journal, app.journal_header(store))
        click.echo(sha256_of(journal))
    store.close()
    return 1 if errors else 0


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@_CONFIG
@_FOR
@click.option("--from-kafka", is_flag=True, help="Record what the topics still hold, in place of the sources.")
@click.option("--since", help="With --from-kafka: 2026-05-01T06:00:00 (UTC), or -15m.")
def record(out: Path, config_file: Path, for_s: float | None, from_kafka: bool, since: str | None) -> int:
    """Record the raw streams of a configuration into OUT.mcap, with all that a replay needs."""
    if from_kafka != (since is not None):
        raise click.UsageError("--from-kafka and --since TIME belong together")
    must_be_new(out)
    must_be_new(out.with_name(out.name + ".part"))  # what a crash has left of such a recording
    if since is not None:
        from pipeline.cli.kafka import record_kafka

        try:
            return record_kafka(out, config_file, since)
        finally:
            _tell_part(out)
    plan = app.plan(_with_sources(config_file, "record --from-kafka"))
    live = Live(plan, HostClock(), record_to=out)
    live.start()
    try:
        errors = live.run(for_s, _teller(live))
    except RecordingEnded as ended:
        errors = [*live.problems, str(ended)]
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if out.exists():
        click.echo(f"{out}: {out.stat().st_size:,} bytes")
    _tell_part(out)
    return 1 if errors else 0


def _tell_part(out: Path) -> None:
    part = out.with_name(out.name + ".part")
    if part.exists():
        click.echo(f"{part} is what was recorded until then; make it whole: stethos recover {part} {out}", err=True)


def _teller(live: Live) -> Callable[[], None]:
    """Says on stderr, about once a second, what problems have come up, and which are over."""

    def tell() -> None:
        for line in live.news():
            click.echo(line, err=True)

    return tell


def _with_sources(config_file: Path, otherwise: str) -> Settings:
    """The configuration, if anything in it delivers samples to this process.

    Raises:
        ConfigError: nothing does.
    """
    settings = configuration.load(config_file)
    if settings.simulator is None and all(s.source is None for m in settings.machines for s in m.sensors):
        raise ConfigError(
            f"{config_file}: no sensor has a source: add source = {{...}} to a [[machine.sensor]], or {otherwise}"
        )
    return settings
