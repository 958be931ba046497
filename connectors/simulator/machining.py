"""Milling jobs on a machine: speeds, depths and passes with known stability, and the tool's motion in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from connectors.simulator.cutting import BENCHMARK, Engagement, Tool
from connectors.simulator.milling import Cut, Depth, Milling
from connectors.simulator.seeds import generator, log_uniform, uniform
from connectors.simulator.stability import Limit, limit, pocket_distance
from connectors.simulator.tracks import Float64

Label = Literal["stable", "transition", "chatter"]

_POCKET = 0.03
_OPR = 0.3
_DEPTH_RANGE_M = (0.1e-3, 4e-3)


@dataclass(frozen=True, slots=True)
class Job:
    """A tool at one speed and immersion, with what is known about it.

    Attributes:
        cut: the run; its depth is set by `with_depth`.
        limit: linear stability limit.
    """

    cut: Cut
    limit: Limit

    @classmethod
    def draw(cls, rng: np.random.Generator, tool: Tool, rpm: tuple[float, float]) -> Job:
        """A job within a range of spindle speeds, away from pockets (3 %) and flip lobes, of reasonable depth.

        Args:
            rng: chance.
            tool: the tool.
            rpm: lowest and highest speed.
        """
        while True:
            speed = float(np.round(log_uniform(rng, *rpm)))
            if pocket_distance(tool, speed) < _POCKET:
                continue
            engagement = _engagement(rng)
            found = limit(tool, engagement, speed, growth=0.12, largest_m=1.2 * _DEPTH_RANGE_M[1])
            if _DEPTH_RANGE_M[0] < found.depth_m < _DEPTH_RANGE_M[1] and found.family == "hopf":
                break
        runout = uniform(rng, 1e-6, 8e-6) * rng.uniform(-1.0, 1.0, tool.teeth)
        cut = Cut(
            tool,
            engagement,
            speed,
            Depth.constant(0.0),
            feed_m=uniform(rng, 0.04e-3, 0.12e-3),
            runout_m=tuple(runout.tolist()),
            force_noise=uniform(rng, 0.02, 0.05),
        )
        return cls(cut, found)

    def with_depth(self, depth: Depth) -> Job:
        """The same job at another depth."""
        return replace(self, cut=replace(self.cut, depth=depth))

    @property
    def onset_s(self) -> float | None:
        """When the depth reaches the stability limit, or None."""
        return self.cut.depth.reaches(self.limit.depth_m)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What the tool did.

    Attributes:
        acceleration: m/s², shape (n,), float64, with entry and chip transients.
        seen_s: first time at which the motion did not repeat from turn to turn for eight turns (ratio > 0.3) after
            the tool was fully in, or None.
        lasting: share of the time in the cut after `seen_s` in which it did not.
    """

    acceleration: Float64
    seen_s: float | None
    lasting: float


def draw_tool(rng: np.random.Generator, like: Tool = BENCHMARK) -> Tool:
    """A tool with 2-4 teeth and a mode between 0.75 and 1.6 times the given one's."""
    kt = uniform(rng, 5e8, 9e8)
    return Tool(
        mass_kg=like.mass_kg * uniform(rng, 0.7, 1.6),
        f0_hz=like.f0_hz * log_uniform(rng, 0.75, 1.6),
        zeta=uniform(rng, 0.01, 0.03),
        teeth=int(rng.integers(2, 5)),
        kt=kt,
        kn=kt * uniform(rng, 0.28, 0.38),
    )


def passes(rng: np.random.Generator, job: Job, label: Label, length_s: float) -> Depth:
    """Depth over time of a recording that earns its label.

    Stable: at most 0.7 of the limit; transition: 0.75 to 1.0; chatter: from 1.15 on, reached at once or from a stable
    depth. Every recording begins and ends in the air; stable ones have one or two passes, and ramps too.
    """
    into, out = length_s * uniform(rng, 0.06, 0.18), length_s * uniform(rng, 0.86, 0.96)
    entry = uniform(rng, 0.05, 0.3)
    low, high = {"stable": (0.25, 0.7), "transition": (0.75, 1.0), "chatter": (1.15, 1.6)}[label]
    final = uniform(rng, low, high) * job.limit.depth_m
    corners: list[tuple[float, float]] = [(into, 0.0)]
    if rng.random() < 0.5:  # a ramp within the cut
        first = uniform(rng, 0.3, 0.65) * (job.limit.depth_m if label != "stable" else final)
        start = into + (out - into) * uniform(rng, 0.25, 0.45)
        corners += [(into + entry, first), (start, first), (start + uniform(rng, 0.3, 1.2), final)]
    else:
        corners += [(into + entry, final)]
        if label == "stable" and rng.random() < 0.5:
            gap = into + (out - into) * uniform(rng, 0.35, 0.6)
            corners += [(gap, final), (gap + 0.1, 0.0), (gap + 0.5, 0.0), (gap + 0.5 + entry, final)]
    corners += [(out, final), (out + 0.1, 0.0)]
    return Depth(tuple(t for t, _ in corners), tuple(d for _, d in corners))


def move(job: Job, *, length: int, rate_hz: float, seed: int) -> Motion:
    """Simulate a job.

    Args:
        job: what is cut.
        length: samples.
        rate_hz: samples per second.
        seed: of force noise and transients.

    Raises:
        MissingExtra: numba is not installed.
    """
    milling = Milling(job.cut, seed, rate_hz)
    acceleration = milling.read(length)
    times, ratio = milling.once_per_revolution()
    settled = job.cut.depth.times_s[1] + 8.0 * 60.0 / job.cut.rpm
    steady = (job.cut.depth.at(times) > 0.0) & (times > settled)
    late = np.flatnonzero(steady & (ratio > _OPR))
    acceleration = acceleration + _transients(job, acceleration, rate_hz, generator(seed, "machining", "transients"))
    if not len(late):
        return Motion(acceleration, None, 0.0)
    after = steady & (times >= times[late[0]])
    return Motion(acceleration, float(times[late[0]]), float(np.mean(ratio[after] > _OPR)))


def _engagement(rng: np.random.Generator) -> Engagement:
    kind = rng.random()
    if kind < 0.3:
        return Engagement.slot()
    if kind < 0.75:
        return Engagement.down(uniform(rng, 0.15, 0.8))
    return Engagement.up(uniform(rng, 0.3, 0.7))


def _transients(job: Job, acceleration: Float64, rate_hz: float, rng: np.random.Generator) -> Float64:
    """Knocks when the tool enters, and chips that jam now and then."""
    t = np.arange(len(acceleration)) / rate_hz
    depth = job.cut.depth
    cutting = depth.at(t) > 0.0
    level = float(np.std(acceleration[cutting])) if cutting.any() else 0.0
    entries = [
        t0 for t0, d0, d1 in zip(depth.times_s, depth.depths_m, depth.depths_m[1:], strict=False) if d0 == 0 < d1
    ]
    chips = rng.uniform(0.0, t[-1], int(rng.poisson(uniform(rng, 0.0, 1.5) * t[-1])))
    out = np.zeros(len(t))
    for at in [*entries, *chips.tolist()]:
        first = int(at * rate_hz)
        n = int(uniform(rng, 0.002, 0.02) * rate_hz)
        piece = out[first : first + n]
        decay = np.exp(-5.0 * np.arange(n) / n) * rng.standard_normal(n)
        piece += (level * uniform(rng, 0.5, 3.0) * decay)[: len(piece)] * cutting[min(first + n, len(t) - 1)]
    return out
