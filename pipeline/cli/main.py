"""The command `stethos` and what all its commands share: exit codes, errors, JSON."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.cli.lazy import Lazy
from pipeline.errors import StethosError

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


if __name__ == "__main__":
    main()
