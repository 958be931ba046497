"""`stethos replay` and `stethos recover`."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.progress import TextColumn

from pipeline import app
from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.cli.recordings import must_be_new, opened_of, passed_over, plan_of, refused
from pipeline.clock import HostClock
from pipeline.journal import sha256_of, spare_others, write_journal
from pipeline.journal_compare import compare as compare_journals
from pipeline.recording.reader import Logged
from pipeline.recording.recover import in_use
from pipeline.recording.recover import recover as recover_file
from pipeline.replay import Replay
from pipeline.state import Store


def _speed(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    if value == "max":
        return 0.0
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not number > 0:  # nan is none either
        raise click.BadParameter("a real-time factor above 0, or max")
    return number


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), default="embedded", show_default=True)
@click.option("--kafka", "bootstrap", help="HOST:PORT of a broker, with --engine kafka.")
@click.option("--speed", default="max", callback=_speed, help="max, or a real-time factor such as 1. [default: max]")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Other settings than the recorded ones.")
@click.option("--journal", type=click.Path(path_type=Path), help="Where the results go.")
@click.option("--compare", nargs=2, type=click.Path(exists=True, path_type=Path), help="Compare two journals instead.")
@click.option(
    "--tolerance",
    default=0.0,
    type=Number(min=0.0),
    help="Relative difference of numbers that --compare passes over.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def replay(
    recordings: tuple[Path, ...],
    engine: str,
    bootstrap: str | None,
    speed: float,
    config_file: Path | None,
    journal: Path | None,
    compare: tuple[Path, Path] | None,
    tolerance: float,
    as_json: bool,
) -> int:
    """Play RECORDINGS (MCAP files or folders of them) through the same lanes and print the journal's SHA-256.

    With --compare A.jsonl B.jsonl, tell how two journals differ: which results and alarms are only in one of them or
    differ. Exit code 1 if they do. Exit code 1 also if no message of the recordings could be used.
    """
    if compare:
        differences = compare_journals(*compare, tolerance=tolerance)
        click.echo(json.dumps(differences.to_json(), indent=2) if as_json else differences.to_text())
        return 0 if differences.agrees else 1
    if not recordings or journal is None:
        missing = [*([] if recordings else ["at least one recording"]), *([] if journal else ["--journal OUT.jsonl"])]
        raise click.UsageError(f"name {' and '.join(missing)}")
    spare_others(journal)
    used = True
    if engine == "kafka":
        from pipeline.cli.kafka import replay_kafka  # Faust is an extra

        digest, messages, damaged, used = replay_kafka(recordings, journal, speed, config_file, bootstrap)
    else:
        digest, player = play(recordings, journal, speed, config_file)
        messages, damaged, used = player.messages, player.damage, any_used(player)
    for path, damage in damaged.items():
        click.echo(f"{path}: {_ending(path, damage)}", err=True)
    if as_json:
        click.echo(json.dumps({"sha256": digest, "messages": messages, "engine": engine}))
    else:
        click.echo(digest)
    return 0 if used else 1


def _ending(path: Path, damage: str) -> str:
    growing = path.suffix == ".part" and (not path.exists() or in_use(path))  # not there: finished meanwhile
    if growing:
        return "is still being written; what was there was replayed"
    return f"ends in damage ({damage}); what came before was replayed"


def play(
    recordings: tuple[Path, ...], journal: Path, speed: float = 0.0, config_file: Path | None = None
) -> tuple[str, Replay]:
    """Replay recordings into a journal, and tell what could not be used; returns its SHA-256 and the replay."""
    opened = opened_of(recordings)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / app.STATE_FILE
        plan = plan_of(opened, config_file, state)
        store = Store(state)
        player = Replay(opened, plan, store, HostClock(), speed, faithful=config_file is None)
        with progress_bar(TextColumn("{task.completed:,} messages")) as bar:
            task = bar.add_task("replaying", total=None)

            def step(_logged: Logged) -> None:
                if player.messages % 500 == 0:
                    bar.update(task, completed=player.messages)

            player.run(step)
        for line in (*refused(_counted(player, "dead."), store), *passed_over(_counted(player, "late."))):
            click.echo(line, err=True)
        write_journal(store.journal_records(), journal, app.journal_header(store))
        return sha256_of(journal), player


def any_used(player: Replay) -> bool:
    """Whether a stage has run for any message, unless nothing was refused."""
    counts = [lane.counts for lane in player.shard.lanes.values()]
    return player.messages > 0 and (not _counted(player, "dead.") or _ran(counts))


def _ran(counts: Sequence[Mapping[str, int]]) -> bool:
    return any(name.startswith("stage.") for of in counts for name in of)


def _counted(player: Replay, prefix: str) -> Counter[str]:
    """Messages by reason, also those dead letters that were counted only."""
    found: Counter[str] = Counter()
    for counts in (player.shard.counts, *(lane.counts for lane in player.shard.lanes.values())):
        found.update({name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)})
    return found


@click.command()
@click.argument("damaged", type=click.Path(exists=True, path_type=Path))
@click.argument("repaired", type=click.Path(path_type=Path))
def recover(damaged: Path, repaired: Path) -> int:
    """Save what is whole of a DAMAGED or unfinished recording into REPAIRED."""
    must_be_new(repaired)
    done = recover_file(damaged, repaired)
    if done.kept == 0:
        click.echo(f"{damaged}: holds no whole message; {repaired} is what stands before the first one", err=True)
        return 1
    click.echo(f"{done.kept} messages kept" + (f"; stopped at: {done.reason}" if done.reason else "; nothing was lost"))
    return 0
