"""Numbers on the command line: within a range, and finite."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A `click.FloatRange` that also refuses ``nan``, which no comparison finds outside."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Raises:
            click.BadParameter: it is none, or out of range.
        """
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number
