"""Milling with chatter: one flexible mode, regenerating surface, teeth that leave the cut.

m x'' + c x' + k x = -w sum_j g(phi_j) h_j (K_t cos phi_j + K_n sin phi_j)
h_j = (f_z + x(t) - x_s) sin phi_j + (ro_j - ro_s), nothing where h_j < 0

x_s and ro_s are displacement and runout of the tooth that last cut at this angle; a tooth that misses leaves the wall
where it was (multiple regeneration after Tlusty and Ismail, CIRP Annals 30, 1981). Each tooth period is an equal
number of semi-implicit Euler steps, 80 per period of the mode at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, pi

import numpy as np

from connectors.simulator.cutting import Engagement, Tool
from connectors.simulator.jit import compiled
from connectors.simulator.milling_kernel import cut, interpolate
from connectors.simulator.seeds import generator
from connectors.simulator.tracks import Float64

_STEPS_PER_MODE_PERIOD = 80
_STEPS_PER_BLOCK = 8192
_PHASES = 256
_HALF_TAPS = 16


@dataclass(frozen=True, slots=True)
class Depth:
    """Depth of cut over time, linear between corners and constant outside them.

    Attributes:
        times_s: corners, rising.
        depths_m: depth at each corner in m; 0 is air.
    """

    times_s: tuple[float, ...]
    depths_m: tuple[float, ...]

    @classmethod
    def constant(cls, depth_m: float) -> Depth:
        """One depth from the start."""
        return cls((0.0,), (depth_m,))

    def later(self, seconds: float) -> Depth:
        """The same, `seconds` later."""
        return Depth(tuple(t + seconds for t in self.times_s), self.depths_m)

    def at(self, t: Float64) -> Float64:
        """Depth in m at times `t` in s."""
        depth: Float64 = np.interp(t, self.times_s, self.depths_m)
        return depth

    def reaches(self, depth_m: float) -> float | None:
        """First time in s at which the depth is at least `depth_m`, or None."""
        if self.depths_m[0] >= depth_m:
            return self.times_s[0]
        for (t0, d0), (t1, d1) in pairwise(zip(self.times_s, self.depths_m, strict=True)):
            if d1 >= depth_m:
                return t0 + (t1 - t0) * (depth_m - d0) / (d1 - d0)
        return None


@dataclass(frozen=True, slots=True)
class Cut:
    """One run of a milling tool at constant spindle speed.

    Attributes:
        tool: mode, teeth and force.
        engagement: angles of the cut.
        rpm: spindle speed.
        depth: axial depth over time.
        feed_m: feed per tooth in m.
        runout_m: radial error of each tooth in m; empty for none.
        force_noise: standard deviation of the relative error of the force.
        linear: teeth never leave the cut; what remains is the linear delay equation.
        lost: tooth that breaks off, and when in s; from the next block of steps on it cuts nothing, and the tooth
            behind it takes the chip of both.
        missed_feed: a tooth that misses leaves its feed to the next one, which then takes the chip of both. Off, as
            in the benchmarks: flip chatter of two teeth then becomes quasi-periodic instead of staying period two.
        x0_m: displacement at the start in m.
        largest_m: displacement at which the tool would be broken and the simulation is held, in m.
    """

    tool: Tool
    engagement: Engagement
    rpm: float
    depth: Depth
    feed_m: float = 0.1e-3
    runout_m: tuple[float, ...] = ()
    force_noise: float = 0.0
    linear: bool = False
    lost: tuple[int, float] | None = None
    missed_feed: bool = False
    x0_m: float = 0.0
    largest_m: float = 5e-3


class Milling:
    """Streaming simulation of a `Cut`; the same bits however it is read.

    Use either `steps` (every step of the integration) or `read` (acceleration at a fixed rate), not both.

    Args:
        run: what is cut, and how.
        seed: of the force noise.
        rate_hz: samples per second of `read`.

    Attributes:
        broken: whether the displacement exceeded its largest value; from then on the tool rests.

    Raises:
        MissingExtra: numba is not installed.
    """

    def __init__(self, run: Cut, seed: int, rate_hz: float = 48_000.0) -> None:
        tool = run.tool
        tau = tool.tooth_period(run.rpm)
        spacing = ceil(tau * tool.f0_hz * _STEPS_PER_MODE_PERIOD)
        self.run = run
        self.rate_hz = rate_hz
        self.revolution = spacing * tool.teeth
        self.dt = tau / spacing
        self.broken = False
        phi = 2.0 * pi * np.arange(self.revolution) / self.revolution
        self._sines = np.sin(phi)
        gate = run.engagement.gate(phi, 2.0 * pi / self.revolution)
        self._forces = gate * (tool.kt * np.cos(phi) + tool.kn * np.sin(phi))
        self._runout = np.array(run.runout_m or (0.0,) * tool.teeth)
        if len(self._runout) != tool.teeth:
            raise ValueError(f"{tool.teeth} teeth need as many runouts, not {len(self._runout)}")
        damping = 2.0 * tool.zeta * tool.omega
        self._lag = run.feed_m if run.missed_feed else 0.0
        self._constants = np.array([1.0 / tool.mass_kg, damping, tool.omega**2, self.dt])
        self._state = np.array([run.x0_m, 0.0])
        self._surface = np.zeros(self.revolution)
        self._rng = generator(seed, "milling", "force")
        self._block = self.revolution * max(1, _STEPS_PER_BLOCK // self.revolution)
        self._done = 0
        self._cut, self._interpolate = compiled(cut), compiled(interpolate)
        self._ratio = 1.0 / (self.dt * rate_hz)
        self._table = _sinc_table(min(1.0, 1.0 / self._ratio))
        half = self._table.shape[1] // 2
        self._history, self._first = np.zeros(half), -half
        self._read = 0
        self._revolutions: list[Float64] = []

    def steps(self) -> tuple[Float64, Float64]:
        """The next whole revolutions: displacement in m and acceleration in m/s² at each step of `dt`."""
        n = self._block
        x, a = np.zeros(n), np.zeros(n)
        if not self.broken:
            self._lose()
            depth = self.run.depth.at(np.arange(self._done, self._done + n, dtype=np.float64) * self.dt)
            noise = self.run.force_noise * self._rng.standard_normal(n)
            self._cut(
                self._state,
                self._surface,
                self._sines,
                self._forces,
                self._runout,
                self._done % self.revolution,
                depth,
                noise,
                self.run.feed_m,
                self._lag,
                self.run.linear,
                self._constants,
                x,
                a,
            )
            if not np.max(np.abs(x)) <= self.run.largest_m:
                self.broken = True
                x, a = np.zeros(n), np.zeros(n)
        self._done += n
        turns = x.reshape(-1, self.revolution)
        self._revolutions.append(np.stack([turns[:, 0], turns.mean(axis=1), np.mean(turns**2, axis=1)], axis=1))
        return x, a

    def _lose(self) -> None:
        lost = self.run.lost
        if lost is not None and self._done * self.dt >= lost[1]:
            self._runout[lost[0]] = -1.0  # m: out of reach
            self._lag = self.run.feed_m

    def read(self, n: int) -> Float64:
        """The next `n` samples of the tool's acceleration in m/s² at `rate_hz`, float64."""
        out = np.empty(n)
        half = self._table.shape[1] // 2
        needed = int((self._read + n) * self._ratio) + half + 1
        parts = [self._history]
        while self._done < needed:
            parts.append(self.steps()[1])
        history = np.concatenate(parts)
        self._interpolate(history, self._first, self._read, self._ratio, self._table, out)
        self._read += n
        keep = int(self._read * self._ratio) - half - self._first
        self._history, self._first = history[keep:].copy(), self._first + keep
        return out

    def once_per_revolution(self, revolutions: int = 8) -> tuple[Float64, Float64]:
        """How far the displacement is from repeating with each revolution, of all simulated so far.

        Returns:
            End times in s, and std(x once per revolution) / std(x) over the last `revolutions` at each; near 0 for a
            stable cut, 0.4 to 1.2 for quasi-periodic chatter. Both float64 of equal shape.
        """
        if not self._revolutions:
            return np.empty(0), np.empty(0)
        each = np.concatenate(self._revolutions)
        if len(each) < revolutions:
            return np.empty(0), np.empty(0)
        views = np.lib.stride_tricks.sliding_window_view(each, revolutions, axis=0)
        spread: Float64 = views[:, 0].std(axis=1)
        total = np.sqrt(np.maximum(views[:, 2].mean(axis=1) - views[:, 1].mean(axis=1) ** 2, 0.0))
        times = np.arange(revolutions, revolutions + len(total), dtype=np.float64) * (self.revolution * self.dt)
        ratio: Float64 = np.divide(spread, total, out=np.zeros_like(spread), where=total > 1e-9)
        return times, ratio


def _sinc_table(cutoff: float) -> Float64:
    """Windowed sinc for `interpolate`; `cutoff` is the pass band relative to half the rate of the signal."""
    half = ceil(_HALF_TAPS / cutoff)
    edge = 0.92 * cutoff
    offsets = np.arange(-half + 1, half + 1)[None] - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(9.0 * np.sqrt(np.maximum(1.0 - (offsets / half) ** 2, 0.0))) / np.i0(9.0)
    table = edge * np.sinc(edge * offsets) * window
    normalised: Float64 = table / table.sum(axis=1, keepdims=True)
    return normalised
