"""`stethos bench`: the measurements of a source checkout."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click

from pipeline.errors import ConfigError


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Append the figures to this file, as JSON lines.")
@click.option("--quick", is_flag=True, help="Short forms.")
def bench(names: tuple[str, ...], out: Path | None, quick: bool) -> int:
    """Measure speed and memory, each beside its peer or limit: NAMES, or all. Needs a source checkout."""
    if importlib.util.find_spec("benchmarks") is None:
        raise ConfigError("the measurements are part of the source, not of the installed program: use a checkout")
    line = [sys.executable, "-m", "benchmarks", *names, *(["--quick"] if quick else [])]
    return subprocess.run([*line, *(["--json", str(out)] if out else [])], check=False).returncode  # noqa: S603 - our own interpreter and module
