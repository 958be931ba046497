"""Linear stability of milling: where chatter begins.

Semi-discretisation after Insperger and Stepan (Int. J. Numer. Meth. Engng 61, 2004, 117-141): the cutting coefficient
is averaged over steps of the tooth period, the state at one tooth period maps linearly on that of the next (Floquet
transition matrix), and the cut is stable while all multipliers lie within the unit circle. The delayed term is a cubic
through four steps (higher orders: Insperger, Stepan and Turi, J. Sound Vib. 313, 2008, 334-341); held constant over a
step, as it often is, it needs hundreds of steps where several waves of the mode lie between two teeth.
"""

from __future__ import annotations

from math import ceil, pi
from typing import Literal, NamedTuple

import numpy as np

from connectors.simulator.cutting import Engagement, Tool, directional
from connectors.simulator.tracks import Float64

_TAYLOR = 20
_QUADRATURE = 16
_STEPS = 60
_STEPS_PER_WAVE = 8.0
"""Of the mode, of which several lie between two teeth at low speed."""
_PLACES = np.array([-1.0, 0.0, 1.0, 2.0])
"""Where the cubic meets the delayed motion, in steps from the beginning of a step."""
_CUBIC: Float64 = np.linalg.inv(np.vander(_PLACES, increasing=True))
"""Coefficients of a cubic from its values there."""


class Limit(NamedTuple):
    """Depth of cut at which the first Floquet multiplier leaves the unit circle.

    Attributes:
        depth_m: in m; infinite if the cut is stable up to the largest depth tried.
        family: ``"hopf"`` (quasi-periodic) or ``"flip"`` (period two).
        frequency_hz: line of the chatter family nearest the tool's mode.
    """

    depth_m: float
    family: Literal["hopf", "flip"]
    frequency_hz: float


def multiplier(tool: Tool, engagement: Engagement, rpm: float, depth_m: float, steps: int | None = None) -> complex:
    """The Floquet multiplier of largest modulus.

    Args:
        tool: mode, teeth and force.
        engagement: angles of the cut.
        rpm: spindle speed.
        depth_m: axial depth of cut in m.
        steps: steps per tooth period; left out, eight for each wave of the mode in it, and 60 at least.
    """
    tau = tool.tooth_period(rpm)
    steps = steps or max(_STEPS, ceil(_STEPS_PER_WAVE * tool.f0_hz * tau))
    coefficient = _stepwise(tool, engagement, steps) * depth_m / (tool.mass_kg * tool.omega**2)
    own, past = _transition(coefficient, tool.zeta, tool.omega * tau / steps)
    # Rows are what x and v are made of: [v, x_0, x_-1, ..., x_-steps-1] at the start of the tooth period.
    size = steps + 3
    x = np.zeros((2 * steps + 2, size))  # row r is x at step r - steps - 1
    x[np.arange(steps + 2), size - 1 - np.arange(steps + 2)] = 1.0
    v = np.zeros(size)
    v[0] = 1.0
    for i in range(steps):
        now, delayed = x[steps + 1 + i], past[i] @ x[i : i + len(_PLACES)]
        (a, b), (c, d) = own[i]
        x[steps + 2 + i] = a * now + b * v + delayed[0]
        v = c * now + d * v + delayed[1]
    phi = np.concatenate([v[None], x[: steps - 1 : -1]])
    multipliers = np.linalg.eigvals(phi)
    return complex(multipliers[np.argmax(np.abs(multipliers))])


def limit(
    tool: Tool,
    engagement: Engagement,
    rpm: float,
    *,
    start_m: float = 0.05e-3,
    growth: float = 0.0,
    largest_m: float = 10e-3,
) -> Limit:
    """First depth at which the cut becomes unstable, to 0.5 µm.

    Depths are tried from `start_m` in steps of ``max(start_m, growth * depth)``; an island of instability narrower
    than a step can be missed.
    """
    stable, depth = 0.0, start_m
    while abs(mu := multiplier(tool, engagement, rpm, depth)) <= 1.0:
        stable, depth = depth, depth + max(start_m, growth * depth)
        if depth > largest_m:
            return Limit(float("inf"), "hopf", tool.f0_hz)
    unstable = depth
    while unstable - stable > 0.5e-6:
        middle = 0.5 * (stable + unstable)
        at_middle = multiplier(tool, engagement, rpm, middle)
        if abs(at_middle) > 1.0:
            unstable, mu = middle, at_middle
        else:
            stable = middle
    tau = tool.tooth_period(rpm)
    lines = (np.array([1.0, -1.0])[:, None] * np.angle(mu) / (2.0 * pi) + np.arange(0, 200)) / tau
    nearest = float(lines.flat[np.argmin(np.abs(lines - tool.f0_hz))])
    flip = mu.real < 0.0 and abs(mu.imag) < 1e-6
    return Limit(unstable, "flip" if flip else "hopf", nearest)


def pocket_distance(tool: Tool, rpm: float) -> float:
    """Relative distance of a speed from the nearest at which a harmonic of the tooth passing meets the mode."""
    ratio = 60.0 * tool.f0_hz / (tool.teeth * rpm)
    j = max(1, round(ratio))
    return abs(j / ratio - 1.0)


def _stepwise(tool: Tool, engagement: Engagement, steps: int) -> Float64:
    """Mean cutting coefficient of all teeth over each step, in N/m², shape (steps,)."""
    fine = (np.arange(steps * _QUADRATURE) + 0.5) / (steps * _QUADRATURE)
    width = 2.0 * pi / (tool.teeth * steps * _QUADRATURE)
    total = np.zeros(steps * _QUADRATURE)
    for j in range(tool.teeth):
        total += directional(tool, engagement, 2.0 * pi * (fine + j) / tool.teeth, width)
    mean: Float64 = total.reshape(steps, _QUADRATURE).mean(axis=1)
    return mean


def _transition(coefficient: Float64, zeta: float, h: float) -> tuple[Float64, Float64]:
    """Exact steps of x'' + 2 zeta x' + (1 + K) x = K x_delayed in time scaled by omega.

    Returns:
        What the state (x, v) adds to the next one, shape (steps, 2, 2), and what the delayed motion at `_PLACES` adds,
        shape (steps, 2, 4).
    """
    order = len(_PLACES)
    a = np.zeros((len(coefficient), 2 + order, 2 + order))  # the state, then the delayed term's cubic in t / h
    a[:, 0, 1] = h
    a[:, 1, 0] = -h * (1.0 + coefficient)
    a[:, 1, 1] = -2.0 * h * zeta
    a[:, 1, 2] = h * coefficient
    powers = np.arange(1, order)
    a[:, 1 + powers, 2 + powers] = powers
    halvings = max(0, int(np.ceil(np.log2(float(np.max(np.abs(a)))))))
    a /= 2**halvings
    total: Float64 = np.broadcast_to(np.eye(2 + order), a.shape).copy()
    for n in range(_TAYLOR, 0, -1):
        total = np.eye(2 + order) + a @ total / n
    for _ in range(halvings):
        total = total @ total
    return total[:, :2, :2], total[:, :2, 2:] @ _CUBIC
