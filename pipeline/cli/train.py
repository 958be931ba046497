"""`stethos train`: what learns by gradient or from labels. Needs the extra `train`."""

from __future__ import annotations

import click

from pipeline.cli.lazy import Lazy

_COMMANDS = {
    "drill": "pipeline.cli.train_drill",
    "head": "pipeline.cli.train_head",
    "impact": "pipeline.cli.train_impact",
    "sound": "pipeline.cli.train_sound",
}


@click.group(cls=Lazy, where=_COMMANDS)
def train() -> None:
    """Train an acoustic encoder, a head on few labels, or the drill classifier; the result is a model package.

    `sound` makes a file for Audacity of a recording that is to be labelled.
    """
