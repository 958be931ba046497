"""How long after its onset a fault is told: the delays of a validation and their distribution as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.clips import second_ns
from pipeline.manifest import Row
from pipeline.messages import NS
from pipeline.validation.rates import quiet_until_s
from pipeline.validation.scorer import Judged

_LEFT, _WIDTH, _HEIGHT = 60, 700, 180


def delay_s(row: Row, judged: Judged) -> float | None:
    """Seconds from a recording's onset to its first alarm behind normal running; None without either.

    It is negative where the alarm came before the onset, between `quiet_until_s` and it.
    """
    if row.onset_s is None:
        return None
    quiet_ns = second_ns(quiet_until_s(row) or 0.0)
    after = [a.t_ns for a in judged.alarms if a.transition == "raised" and a.t_ns >= quiet_ns]
    return (min(after) - second_ns(row.onset_s)) / NS if after else None


def distribution(judged: Sequence[tuple[Row, Judged]]) -> str:
    """The share of faults told by so many seconds after their onset, as an SVG; missed ones are never told.

    Empty where no recording has an onset.
    """
    faults = [delay_s(row, j) for row, j in judged if row.onset_s is not None]
    told = sorted(d for d in faults if d is not None)
    if not faults:
        return ""
    first, last = min([0.0, *told]), 1.05 * max([0.1, *told])

    def x(seconds: float) -> float:
        return _LEFT + _WIDTH * (seconds - first) / (last - first)

    def y(share: float) -> float:
        return 10 + _HEIGHT * (1.0 - share)

    path = f"M{x(first):.1f},{y(0.0):.1f}"
    for count, seconds in enumerate(told, start=1):
        path += f"H{x(seconds):.1f}V{y(count / len(faults)):.1f}"
    path += f"H{x(last):.1f}"
    shares = "".join(
        f'<text x="0" y="{y(share) + 4:.1f}">{share:.0%}</text>'
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#d8dee6"/>'
        for share in (0.0, 0.5, 1.0)
    )
    times = "".join(
        f'<text x="{x(s):.1f}" y="{_HEIGHT + 28}" text-anchor="middle">{s:.2f} s</text>'
        for s in np.linspace(first, last, 5).tolist()
    )
    return (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 40} {_HEIGHT + 34}" role="img" aria-label="delays of alarms">'
        f'{shares}{times}<path d="{path}" fill="none" stroke="#2f6db5" stroke-width="2"/></svg>'
    )
