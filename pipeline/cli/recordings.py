"""Recordings on the command line: opened, what they are replayed by, and what of them could not be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

import config as configuration
from pipeline import app
from pipeline.errors import BadInput, ConfigError
from pipeline.recording.format import RecordingError
from pipeline.recording.reader import Recording
from pipeline.replay import open_all
from pipeline.state import Store


def opened_of(recordings: Sequence[Path]) -> list[Recording]:
    """Recordings, those in folders too; one that is cut off before its first message is left out, and told.

    Raises:
        ConfigError: there are none.
        BadInput: none of them holds a message.
    """
    opened = open_all(recordings)
    if not opened:
        raise ConfigError(f"no recordings in {', '.join(map(str, recordings))}")
    told = [f"{one.path}: damaged or cut off before its first message ({one.damage})" for one in opened if one.damage]
    if len(told) == len(opened):
        raise BadInput("damaged", f"{told[0]}: there is nothing to replay")
    for line in told:
        click.echo(f"{line}: left out", err=True)
    return [one for one in opened if not one.damage]


def plan_of(opened: Sequence[Recording], config_file: Path | None, state: Path) -> app.Plan:
    """By another configuration, or else by that of the last recording; tells if they have different ones."""
    if config_file is not None:
        return app.plan(configuration.load(config_file))
    if len({recording.facts.get("config_sha256") for recording in opened}) > 1:
        told = "recorded under different configurations; all are replayed under the one of"
        click.echo(f"{told} {opened[-1].path}: replay them one after the other, or name --config", err=True)
    return app.plan_of_recording({name: data for rec in opened for name, data in rec.attachments.items()}, state)


def refused(dead: Mapping[str, int], store: Store, since: int = 0) -> Iterator[str]:
    """A sentence for each reason why messages could not be used, with the first one behind a place of the log."""
    first: dict[str, str] = {}
    for record in store.read(since, ("dlq",), limit=100_000):
        first.setdefault(record.body["reason"], record.body["error"])
    for reason, count in sorted(dead.items()):
        text = f", first: {first[reason]}" if reason in first else ""
        yield f"{count:,} message{'s' if count > 1 else ''} could not be used: {reason}{text}"


def passed_over(late: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each reason why messages came too late, twice or with a wrong time."""
    for reason, count in sorted(late.items()):
        yield f"{count:,} message{'s' if count > 1 else ''} not used, or not all of it: {reason}"


def must_be_new(path: Path) -> None:
    """Keep a recording that exists.

    Raises:
        RecordingError: there is something at that path.
    """
    if path.exists():
        raise RecordingError(f"{path}: exists already; name another file, or move that one away")
