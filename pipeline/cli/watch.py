"""`stethos watch`: the live view of a running engine."""

from __future__ import annotations

import time
from pathlib import Path

import click

import config as configuration
from pipeline import app
from pipeline.claim import claimed
from pipeline.cli.results import open_store
from pipeline.errors import StateError
from pipeline.view import View

STOPPED = "no engine runs on this state: shown is what the last one said"


@click.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
def watch(config_file: Path) -> None:
    """Show machines, scores and alarms of a running engine until Ctrl-C; says when no engine runs."""
    settings = configuration.load(config_file)
    state = settings.engine.state_dir / app.STATE_FILE
    if not state.is_file():
        raise StateError(f"{state}: no such file; no engine has run with {config_file} yet")
    open_store(settings.engine.state_dir).close()
    view = View(state, evidence=settings.evidence.folder, problems=lambda: [] if claimed(state) else [STOPPED])
    try:
        while True:
            view.update()
            time.sleep(0.5)
    except KeyboardInterrupt:
        view.close()
