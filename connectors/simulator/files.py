"""Simulated sets of recordings with their truth, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from connectors.simulator.bearing_set import simulate_bearing
from connectors.simulator.chatter_set import simulate_chatter
from connectors.simulator.drill_set import simulate_drill
from connectors.simulator.manifest import Progress
from pipeline.errors import BadInput

Kind = Literal["chatter", "drill", "bearing"]

_KINDS: dict[str, Callable[[int, float, Path, Progress | None], Path]] = {
    "chatter": simulate_chatter,
    "drill": simulate_drill,
    "bearing": simulate_bearing,
}


def simulate(kind: Kind, seed: int, minutes: float, out: Path, progress: Progress | None = None) -> Path:
    """Write recordings of `kind` that last `minutes` in all, and ``manifest.csv`` with the truth about each.

    Equal arguments give equal files. Twenty minutes hold at least ten recordings of each class.

    Args:
        kind: ``"chatter"``, ``"drill"`` or ``"bearing"``.
        seed: 0 or more.
        minutes: length of all recordings together, more than 0.
        out: folder, made if it is not there.
        progress: called with (done, total) after each recording.

    Returns:
        Path of the manifest.

    Raises:
        BadInput: an unknown kind, a negative seed or no time.
        MissingExtra: chatter without numba.
        OSError: the folder cannot be written.
    """
    if kind not in _KINDS:
        raise BadInput("unknown_kind", f"there is no simulation '{kind}'; choose from {', '.join(sorted(_KINDS))}")
    if seed < 0 or not minutes > 0.0:
        raise BadInput("bad_argument", f"seed must be 0 or more and minutes positive, not {seed} and {minutes}")
    return _KINDS[kind](seed, minutes, out, progress)
