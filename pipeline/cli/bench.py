"""`stethos bench`: the measurements of a source checkout, and the papers' experiments."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.cli.lazy import Lazy
from pipeline.errors import ConfigError

_EXPERIMENTS = {"drill": "pipeline.cli.bench_drill", "impact": "pipeline.cli.bench_impact"}
_JSON = click.option("--json", "out", type=click.Path(path_type=Path), help="Append the figures to this file.")
_QUICK = click.option("--quick", is_flag=True, help="Short forms.")
PATIENCE_S = 60.0
"""Measurements that Ctrl-C has reached end within this time: they stop servers and workers first."""


class Bench(Lazy):
    """The experiments as commands; any other name is one of the measurements."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The experiments, and the measurements where there is a source checkout."""
        return sorted([*super().list_commands(ctx), *_measurements()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The experiment or measurement of that name."""
        if cmd_name in _EXPERIMENTS or cmd_name not in _measurements():
            return super().get_command(ctx, cmd_name)

        @click.command(cmd_name, help=f"Measure {cmd_name}, beside its peer or limit.")
        @_JSON
        @_QUICK
        @click.pass_context
        def measure(ctx: click.Context, out: Path | None, quick: bool) -> int:
            before = ctx.parent.params if ctx.parent else {}  # options may stand before the name, too
            return _measure([cmd_name], out or before.get("out"), quick or before.get("quick", False))

        return measure


def _measurements() -> list[str]:
    if importlib.util.find_spec("benchmarks") is None:
        return []
    from benchmarks.__main__ import RUNS

    return list(RUNS)


def _measure(names: Sequence[str], out: Path | None, quick: bool) -> int:
    if importlib.util.find_spec("benchmarks") is None:
        raise ConfigError("the measurements are part of the source, not of the installed program: use a checkout")
    line = [sys.executable, "-m", "benchmarks", *names, *(["--quick"] if quick else [])]
    return _run([*line, *(["--json", str(out)] if out else [])])


def _run(line: Sequence[str]) -> int:
    """Run it until it has ended, after Ctrl-C, too: `subprocess.run` would kill it while it stops its servers."""
    process = subprocess.Popen(line)  # noqa: S603 - our own interpreter and module
    patience: float | None = None
    while True:
        try:
            return process.wait(patience)
        except KeyboardInterrupt:  # the terminal has told it, too: a second SIGINT would cut its end short
            patience = PATIENCE_S
        except subprocess.TimeoutExpired:  # nobody had told it: only this process was interrupted
            process.send_signal(signal.SIGINT)
            patience = None


@click.group(cls=Bench, where=_EXPERIMENTS, invoke_without_command=True)
@_JSON
@_QUICK
@click.pass_context
def bench(ctx: click.Context, out: Path | None, quick: bool) -> int:
    """Measure speed and memory (all of them without a NAME), or repeat a paper's experiment."""
    name = ctx.invoked_subcommand
    if name in _EXPERIMENTS and (out is not None or quick):
        raise click.UsageError(f"{name} has options of its own: name them behind it")
    return 0 if name else _measure([], out, quick)
