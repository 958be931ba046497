"""`stethos watch`: the live view of a running engine."""

from __future__ import annotations

import time
from pathlib import Path

import click

import config as configuration
from pipeline import app
from pipeline.cli.results import open_store
from pipeline.view import View


@click.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"), show_default=True
)
def watch(config_file: Path) -> None:
    """Show machines, scores and alarms of a running engine until Ctrl-C."""
    settings = configuration.load(config_file)
    open_store(settings.engine.state_dir).close()
    view = View(settings.engine.state_dir / app.STATE_FILE, evidence=settings.evidence.folder)
    try:
        while True:
            view.update()
            time.sleep(0.5)
    except KeyboardInterrupt:
        view.close()
