"""The command `stethos` and what all its commands share: exit codes, errors, JSON."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from pipeline.cli.lazy import Lazy
from pipeline.errors import ROOT, ConfigError, StethosError

_COMMANDS = {
    "alarms": "pipeline.cli.results",
    "baseline": "pipeline.cli.baseline",
    "bench": "pipeline.cli.bench",
    "commission": "pipeline.cli.learn",
    "config": "pipeline.cli.configuration",
    "demo": "pipeline.cli.demo",
    "dlq": "pipeline.cli.results",
    "doctor": "pipeline.cli.doctor",
    "embed": "pipeline.cli.embed",
    "graph": "pipeline.cli.tables",
    "journal": "pipeline.cli.results",
    "models": "pipeline.cli.models",
    "record": "pipeline.cli.run",
    "recover": "pipeline.cli.replay",
    "replay": "pipeline.cli.replay",
    "run": "pipeline.cli.run",
    "simulate": "pipeline.cli.simulate",
    "spectra": "pipeline.cli.spectra",
    "topics": "pipeline.cli.tables",
    "train": "pipeline.cli.train",
    "validate": "pipeline.cli.learn",
    "watch": "pipeline.cli.watch",
}
"""Command → module."""


@click.group(cls=Lazy, where=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stethos")
def stethos() -> None:
    """Listens to machines: records, learns what is normal, raises alarms, replays.

    Exit codes: 0 success, 1 a check failed, 2 wrong use.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line; errors of ours and of files are one readable line, not a traceback."""
    try:
        _refuse_strangers()
        result: Any = stethos.main(args=args, standalone_mode=False)
    except StethosError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except OSError as error:  # but no broken pipe: that is click's, quietly
        where = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"error: {where}{error.strerror or error or type(error).__name__}", err=True)
        sys.exit(2)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    sys.exit(result if isinstance(result, int) else 0)


def _refuse_strangers() -> None:
    """Refuse to run with a module of another program in the place of one of stethos' packages.

    Raises:
        ConfigError: names the module's file.
    """
    for name in ("config", "connectors", "models", "operators"):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None and not Path(spec.origin).parent.samefile(ROOT / name):
            raise ConfigError(
                f"{spec.origin}: stands in the place of stethos' own {name}: "
                "take its folder off PYTHONPATH, or uninstall it"
            )


if __name__ == "__main__":
    main()
