"""The stability lobes of a tool as a picture: the depth that each spindle speed allows, by semi-discretisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectors.simulator.cutting import BENCHMARK, Engagement, Tool
from connectors.simulator.stability import limit
from connectors.simulator.tracks import Float64
from pipeline.errors import MissingExtra

_SPEEDS = (5_000.0, 25_000.0)
_DEEPEST_M = 4e-3


def lobe_limits(
    tool: Tool, engagement: Engagement, speeds_rpm: Float64, deepest_m: float = _DEEPEST_M
) -> tuple[Float64, list[str]]:
    """First unstable depth at each speed.

    Args:
        tool: mode, teeth and force.
        engagement: angles of the cut.
        speeds_rpm: spindle speeds, shape (n,).
        deepest_m: deepest cut tried; returned where the cut is stable up to it.

    Returns:
        Depths in m, shape (n,), and the kind of instability there, ``"hopf"`` or ``"flip"``.
    """
    found = [
        limit(tool, engagement, float(rpm), growth=0.08, largest_m=deepest_m)
        for rpm in speeds_rpm
    ]  # fmt: skip
    return np.minimum([f.depth_m for f in found], deepest_m), [f.family for f in found]


def draw_lobes(path: Path, points: int = 160) -> Path:
    """Write the benchmark tool's lobes of slotting and of down-milling with half immersion.

    Raises:
        MissingExtra: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("train", "drawing lobes") from error
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    speeds: Float64 = np.geomspace(*_SPEEDS, points)
    for name, engagement in (("slot", Engagement.slot()), ("half immersion, down-milling", Engagement.down(0.5))):
        depths, families = lobe_limits(BENCHMARK, engagement, speeds)
        (line,) = axes.plot(speeds, 1e3 * depths, label=name)
        flip = np.array([family == "flip" for family in families]) & (depths < _DEEPEST_M)
        axes.plot(speeds[flip], 1e3 * depths[flip], "o", markersize=3, color=line.get_color())
    axes.set(xlabel="spindle speed in rpm", ylabel="depth of cut in mm", xlim=_SPEEDS, ylim=(0.0, 1e3 * _DEEPEST_M))
    axes.set_title(f"Stable below the line; dots: flip. {BENCHMARK.teeth} teeth, mode at {BENCHMARK.f0_hz:g} Hz")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path
