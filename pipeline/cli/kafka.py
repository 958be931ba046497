"""Kafka on the command line: the roles of `run`, topics, recordings from Kafka, dead letters. Imports Faust late."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

import config as configuration
from pipeline import app
from pipeline.cli.recordings import opened_of, passed_over, plan_of, refused
from pipeline.clock import HostClock
from pipeline.errors import MissingExtra
from pipeline.journal import sha256_of, write_journal
from pipeline.state import Store

if TYPE_CHECKING:
    from pipeline.kafka.client import Client

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
MEND = ": stethos topics clean"
JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


def needs_kafka() -> None:
    """Say which extra is missing.

    Raises:
        MissingExtra: kafka's clients or Faust are not installed.
    """
    # Faust, once imported, has put something without a specification in its place
    if any(name not in sys.modules and find_spec(name) is None for name in ("aiokafka", "faust", "kafka")):
        raise MissingExtra("kafka", "the engine kafka")


def run_kafka(config_file: Path, role: str, name: str | None, for_s: float | None, journal: Path | None) -> int:
    """`stethos run --engine kafka` in one of its roles; exit code 1 if something was still wrong at the end."""
    needs_kafka()
    plan = app.plan(configuration.load(config_file))
    if role == "worker":
        from pipeline.kafka.process import run_worker

        return run_worker(plan, name, for_s)
    from pipeline.kafka.live import KafkaLive

    live = KafkaLive(plan, role)
    if live.sinks is not None and live.sinks.address:
        click.echo(f"status page: {live.sinks.address}")
    if live.waits:
        click.echo(f"no broker answers at {plan.settings.kafka.bootstrap}: waiting for one", err=True)
    if live.crew is not None:
        click.echo("workers: " + ", ".join(f"{n} (pid {pid})" for n, pid in live.crew.pids.items()))
    sys.stdout.flush()
    errors = live.run(for_s)
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if journal is not None:
        store = Store(plan.state)
        write_journal(store.journal_records(), journal, app.journal_header(store))
        click.echo(sha256_of(journal))
    return 1 if errors else 0


def replay_kafka(
    recordings: tuple[Path, ...], journal: Path, speed: float, config_file: Path | None, bootstrap: str | None
) -> tuple[str, int, dict[Path, str], bool]:
    """`stethos replay --engine kafka`, telling what could not be used.

    Returns:
        The journal's hash, the number of messages, damage by file, and whether any message could be used.
    """
    needs_kafka()
    from pipeline.kafka.replay import KafkaReplay, replay_settings

    opened = opened_of(recordings)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / app.STATE_FILE
        plan = plan_of(opened, config_file, state)
        base = plan.settings.kafka if config_file is not None else None
        kafka = replay_settings(bootstrap or (base.bootstrap if base else "127.0.0.1:9092"), base)
        plan = app.Plan(plan.settings.model_copy(update={"kafka": kafka}), plan.lanes, state)
        store = Store(state)
        store.put_meta("config_sha256", app.config_sha256(plan.settings))
        player = KafkaReplay(opened, plan, store, HostClock(), speed, faithful=config_file is None)
        player.run()
        dead = Counter(record.body["reason"] for record in store.read(0, ("dlq",), limit=100_000))
        late = Counter(record.body["reason"] for record in store.read(0, ("late",), limit=100_000))
        for line in (*refused(dead, store), *passed_over(late)):
            click.echo(line, err=True)
        write_journal(player.journal_records(), journal, app.journal_header(store))
        used = player.messages > 0 and (
            not dead or any(store.latest(topic, 1) for topic in ("feature", "score", "health"))
        )
        return sha256_of(journal), player.messages, player.damage, used


def record_kafka(out: Path, config_file: Path, since: str) -> int:
    """`stethos record OUT --from-kafka --since TIME`."""
    needs_kafka()
    from pipeline.kafka.export import record_since

    plan = app.plan(configuration.load(config_file))
    counts = record_since(plan, out, since_ns(since), HostClock())
    click.echo(f"{out}: {counts['messages']:,} messages, {out.stat().st_size:,} bytes")
    for name, count in sorted(counts.items()):
        if name != "messages":
            click.echo(f"left out: {count} × {name}", err=True)
    return 0


def since_ns(text: str) -> int:
    """A time as nanoseconds since 1970: ISO 8601 (UTC unless it says otherwise), or ``-90s``, ``-15m``, ``-2h``."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    now_ns = HostClock().now_ns()
    if (ago := re.fullmatch(r"-([0-9]*\.?[0-9]+)([smhd])", text)) is not None:
        return now_ns - int(min(float(ago[1]) * units[ago[2]], 1e9) * 1e9)  # in 1970 there was no Kafka
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: write 2026-05-01T06:00:00 or -15m", param_hint="--since") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = int(moment.timestamp() * 1e6) * 1000
    if since > now_ns:
        raise click.BadParameter(f"{text!r} lies in the future (UTC, unless it names a zone)", param_hint="--since")
    return since


@click.command("create")
@CONFIG
def topics_create(config_file: Path) -> None:
    """Create the topics that are missing on Kafka."""
    needs_kafka()
    from pipeline.kafka import admin, checks
    from pipeline.kafka.client import Client

    client = Client(configuration.load(config_file).kafka)
    made = admin.create(client)
    click.echo("\n".join(f"created {name}" for name in made) or "all topics are there")
    checks.topics(client, admin.partitions(client))
    for line in _changes(client, admin.unlike(client)):
        click.echo(line, err=True)


@click.command("list")
@CONFIG
@JSON
def topics_list(config_file: Path, as_json: bool) -> int:
    """Compare the topics on Kafka with those that the configuration wants; exit code 1 if they differ."""
    needs_kafka()
    from pipeline.kafka import admin, leftovers
    from pipeline.kafka.client import Client
    from pipeline.kafka.topics import wanted

    client = Client(configuration.load(config_file).kafka)
    there, differ = admin.partitions(client), admin.unlike(client)
    rows = [
        {
            "topic": w.name,
            "partitions": there.get(w.name, 0),
            "wanted": w.partitions,
            "settings": {k: {"is": held, "wanted": want} for k, (held, want) in differ.get(w.name, {}).items()},
        }
        for w in wanted(client.kafka)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            state = "missing" if not row["partitions"] else "ok" if row["partitions"] == row["wanted"] else "differs"
            click.echo(f"{row['topic']:<30}{row['partitions']:>6} of {row['wanted']:<6}{state}")
        for line in _changes(client, differ):
            click.echo(line, err=True)
    for one in leftovers.left(client):
        click.echo(f"{one}{'' if one.works else MEND if one.gone else f'{MEND} {one.name}'}", err=True)
    return 0 if not differ and all(row["partitions"] == row["wanted"] for row in rows) else 1


@click.command("clean")
@click.argument("replays", nargs=-1)
@CONFIG
def topics_clean(replays: tuple[str, ...], config_file: Path) -> None:
    """Remove the topics that killed replays of this host have left; also those of other hosts' REPLAYS, by name.

    Of other hosts it is not known here whether they run: look there first.
    """
    needs_kafka()
    from pipeline.kafka import leftovers
    from pipeline.kafka.client import Client

    done = leftovers.clean(Client(configuration.load(config_file).kafka), replays)
    click.echo("\n".join(f"removed {one.name}: {len(one.topics)} topics" for one in done) or "nothing to remove")


def _changes(client: Client, differ: Mapping[str, Mapping[str, tuple[str, str]]]) -> Iterator[str]:
    """What differs from the configuration, and how a person changes it."""
    for topic, settings in differ.items():
        yield f"{topic}: " + ", ".join(f"{key} is {held}, not {want}" for key, (held, want) in settings.items())
    if differ:
        yield (
            "settings are taken from the configuration when a topic is created; to change one: kafka-configs.sh "
            f"--bootstrap-server {client.bootstrap[0]} --alter --entity-type topics --entity-name TOPIC "
            "--add-config NAME=VALUE"
        )


@click.command("lag")
@CONFIG
@JSON
def topics_lag(config_file: Path, as_json: bool) -> None:
    """Tell how many records the workers have not acknowledged yet. An open window keeps about its length."""
    needs_kafka()
    from pipeline.kafka import admin, checks
    from pipeline.kafka.client import Client

    client = Client(configuration.load(config_file).kafka)
    checks.topics(client, admin.partitions(client))
    rows = admin.lags(client)
    if as_json:
        click.echo(json.dumps([{**row._asdict(), "lag": row.lag, "unread": row.unread} for row in rows], indent=2))
        return
    for row in rows:
        if row.lag:
            click.echo(f"{row.topic:<18}{row.partition:>4}{row.lag:>10}  of {row.end}, {row.unread} not taken in")
    click.echo(f"in all {sum(row.lag for row in rows)}, {sum(row.unread for row in rows)} not taken in")


@click.command("retry")
@click.argument("seq", type=int)
@CONFIG
def dlq_retry(seq: int, config_file: Path) -> int:
    """Publish a dead letter once more, as it came; SEQ is the first column of `stethos dlq list`."""
    needs_kafka()
    from pipeline.kafka.letters import retry

    settings = configuration.load(config_file)
    click.echo(retry(settings, seq))
    return 0
