"""Inner loops of the milling simulator; plain Python that numba compiles."""

from __future__ import annotations

from connectors.simulator.tracks import Float64


def cut(
    state: Float64,
    surface: Float64,
    sines: Float64,
    forces: Float64,
    runout: Float64,
    first: int,
    depth: Float64,
    noise: Float64,
    feed: float,
    lag: float,
    linear: bool,
    constants: Float64,
    x_out: Float64,
    a_out: Float64,
) -> None:
    """Semi-implicit Euler steps of the tool, with the surface that each tooth leaves behind.

    Args:
        state: displacement in m and velocity in m/s; advanced in place.
        surface: radial position of the wall at each angle of the grid in m, relative to an undisturbed tool with
            perfect teeth one tooth period earlier; advanced in place, shape (steps per revolution,).
        sines: sin(phi) on the angle grid.
        forces: cutting coefficient in feed direction on the grid in N/m², 0 outside the cut.
        runout: radial error of each tooth in m.
        first: index on the angle grid of tooth 0 at the first step.
        depth: depth of cut per step in m.
        noise: relative error of the force per step.
        feed: feed per tooth in m.
        lag: how far the wall falls behind when a tooth misses, in m.
        linear: teeth stay in the cut even where the chip would be negative.
        constants: 1/m, c/m, k/m, time step in s.
        x_out: displacement in m per step.
        a_out: acceleration in m/s² per step.
    """
    x, v = state[0], state[1]
    inverse_mass, damping, stiffness, dt = constants[0], constants[1], constants[2], constants[3]
    revolution, teeth = len(surface), len(runout)
    spacing = revolution // teeth
    at = first
    for i in range(len(depth)):
        total = 0.0
        for j in range(teeth):
            q = at + j * spacing
            if q >= revolution:
                q -= revolution
            if forces[q] != 0.0:
                reach = x * sines[q] + runout[j]
                chip = feed * sines[q] + reach - surface[q]
                if linear or chip > 0.0:
                    total += chip * forces[q]
                    surface[q] = reach
                else:  # this tooth misses and leaves the wall to the next one
                    surface[q] -= lag * sines[q]
        a = -depth[i] * total * (1.0 + noise[i]) * inverse_mass - damping * v - stiffness * x
        v += a * dt
        x += v * dt
        x_out[i] = x
        a_out[i] = a
        at += 1
        if at == revolution:
            at = 0
    state[0], state[1] = x, v


def interpolate(history: Float64, first: int, start: int, ratio: float, table: Float64, out: Float64) -> None:
    """Values of a band-limited signal between its samples, by a windowed sinc.

    Args:
        history: samples of the signal.
        first: index of history[0].
        start: index of the first output sample; output sample m lies at m * ratio samples of the signal.
        ratio: rate of the signal over rate of the output.
        table: windowed sinc, shape (phases + 1, taps); row p is for a fraction of p/phases of a sample.
        out: result.
    """
    phases, taps = table.shape[0] - 1, table.shape[1]
    half = taps // 2
    for i in range(len(out)):
        position = (start + i) * ratio
        whole = int(position)
        fraction = (position - whole) * phases
        row = int(fraction)
        weight = fraction - row
        at = whole - first - half + 1
        total = 0.0
        for k in range(taps):
            total += history[at + k] * (table[row, k] + weight * (table[row + 1, k] - table[row, k]))
        out[i] = total
