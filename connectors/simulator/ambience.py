"""What a microphone hears of the rest of the shop: hall noise, bangs, compressed air, warning tones."""

from __future__ import annotations

from math import pi

import numpy as np

from connectors.simulator.noise import shaped, tilt
from connectors.simulator.seeds import generator, log_uniform, uniform
from connectors.simulator.tracks import Cycles, Float64, Mix, Track

_CYCLE_S = 5.0
_LONGEST_S = 2.0


def ambience(rate_hz: float, seed: int, name: str) -> Track:
    """Noise of a hall, standard deviation 1, with events of up to ten times that, about one in four seconds.

    Args:
        rate_hz: samples per second; a multiple of 1/5 Hz.
        seed: of everything.
        name: of the place.
    """
    rng = generator(seed, "ambience", name)
    hall = shaped(rate_hz, seed, f"{name}/hall", tilt(uniform(rng, -6.0, -3.0), uniform(rng, 150.0, 600.0)))
    rate_per_s = uniform(rng, 0.05, 0.4)

    def events(cycle: int) -> Float64:
        chance = generator(seed, "ambience", name, cycle)
        out = np.zeros(round((_CYCLE_S + _LONGEST_S) * rate_hz))
        for start in chance.uniform(0.0, _CYCLE_S, int(chance.poisson(rate_per_s * _CYCLE_S))):
            sound = _EVENTS[int(chance.integers(len(_EVENTS)))](chance, rate_hz)
            first = int(start * rate_hz)
            out[first : first + len(sound)] += log_uniform(chance, 1.0, 10.0) * sound
        return out

    length = round(_CYCLE_S * rate_hz)
    return Mix([(hall, 1.0, 0), (Cycles(rate_hz, length, round(_LONGEST_S * rate_hz), events), 1.0, 0)])


def _bang(rng: np.random.Generator, rate_hz: float) -> Float64:
    """A part falls into a box: decaying tones and noise."""
    t = np.arange(int(0.4 * rate_hz)) / rate_hz
    out = 0.5 * rng.standard_normal(len(t)) * np.exp(-t / uniform(rng, 0.004, 0.03))
    for _ in range(int(rng.integers(2, 6))):
        out += np.sin(2.0 * pi * log_uniform(rng, 200.0, 5000.0) * t) * np.exp(-t / uniform(rng, 0.01, 0.08))
    return out


def _air(rng: np.random.Generator, rate_hz: float) -> Float64:
    """Compressed air: noise with slow edges."""
    n = int(uniform(rng, 0.3, 1.9) * rate_hz)
    edge = np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.05 * rate_hz)
    return 0.7 * np.diff(rng.standard_normal(n + 1)) * np.minimum(edge, 1.0)


def _beeps(rng: np.random.Generator, rate_hz: float) -> Float64:
    """A truck reverses: an interrupted tone."""
    t = np.arange(int(1.8 * rate_hz)) / rate_hz
    on = np.mod(t, 0.6) < 0.3
    tone: Float64 = 0.7 * np.sin(2.0 * pi * uniform(rng, 900.0, 3000.0) * t) * on
    return tone


_EVENTS = (_bang, _bang, _air, _beeps)
