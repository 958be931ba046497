"""The amplitude of a line: a limit cycle keeps it, a mode that noise rings does not; what an on-delay makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from operators.chatter import ChatterFeatures
from operators.chatter_detector import STEADY, ChatterDetector
from operators.chatter_lines import wavering
from operators.chatter_plan import plan
from operators.spindle import GivenSpeed
from pipeline.messages import NS, Float32, Score
from tests.operators.pieces import column, run, segments, stream

RATE, RPM, TEETH = 48_000, 9000.0, 3  # multiples of 150 Hz, tooth passing 450 Hz
MILL = stream(RATE)
LINE_HZ = 1270.0


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """White, of unit variance."""
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def rung(seconds: float, half_width_hz: float = 10.0, seed: int = 0) -> np.ndarray:
    """A mode at the line that noise rings: narrow-band Gaussian noise of unit variance."""
    pole = np.exp((-2 * np.pi * half_width_hz + 2j * np.pi * LINE_HZ) / RATE)
    x = lfilter([1.0], [1.0, -2.0 * pole.real, abs(pole) ** 2], noise(seconds + 1.0, seed))[RATE:]
    return np.asarray(x / np.std(x))


def cycle(seconds: float) -> np.ndarray:
    """A limit cycle of unit variance at the same place."""
    return np.sqrt(2.0) * np.sin(2 * np.pi * LINE_HZ * np.arange(round(seconds * RATE)) / RATE)


def of(x: np.ndarray) -> float:
    """`wavering` of a long window."""
    made = plan(RATE, RPM, TEETH, 0.4)
    return wavering(column(x[: made.samples]), LINE_HZ, made, RATE)


def test_a_sine_is_steady_and_noise_is_not() -> None:
    """1 for a sine, (1 + 3m² + 3m⁴/8)/(1 + m²/2)² with amplitude modulation m, 2 for noise in the mean."""
    t = np.arange(RATE) / RATE
    assert of(cycle(0.5)) == pytest.approx(1.0, abs=0.002)
    for m in (0.3, 0.8):
        slow = (1.0 + m * np.sin(2 * np.pi * 20.0 * t[: RATE // 2] + 1.0)) * cycle(0.5)
        squares = (1.0 + m**2 / 2.0) ** 2
        assert of(slow) == pytest.approx((1.0 + 3.0 * m**2 + 3.0 * m**4 / 8.0) / squares, rel=0.02)
    found = [of(rung(0.5, 40.0, seed)) for seed in range(60)]
    assert np.mean(found) == pytest.approx(2.0, abs=0.2)
    assert min(found) > STEADY
    assert of(np.zeros(RATE)) == 1.0


def test_neighbours_gain_and_channels_do_not_matter() -> None:
    """Harmonics of the rotation on both sides, twice the gain, a second channel that holds the same."""
    t = np.arange(RATE) / RATE
    turning = sum(np.sin(2 * np.pi * k * RPM / 60.0 * t + k) for k in (7, 8, 9, 10))
    alone = of(rung(1.0))
    assert of(rung(1.0) + turning) == pytest.approx(alone, rel=0.03)
    made = plan(RATE, RPM, TEETH, 0.4)
    two = np.stack([rung(1.0), 2.0 * rung(1.0)], axis=1)[: made.samples].astype(np.float32)
    assert wavering(two, LINE_HZ, made, RATE) == pytest.approx(alone, rel=1e-4)


def first_alarm_s(x: np.ndarray, on_delay_s: float) -> float | None:
    """When the score becomes abnormal, of 2 s of air, then x."""
    samples: Float32 = column(np.concatenate([1e-3 * noise(2.0, 9), x + 1e-3 * noise(len(x) / RATE, 8)]))
    hops = run(ChatterFeatures(MILL, GivenSpeed(RPM), TEETH, RPM), segments(MILL, samples))
    detector = ChatterDetector(TEETH, 2 * RPM, on_delay_s=on_delay_s)
    scores = [s for hop in hops for s in detector.process(hop) if isinstance(s, Score) and s.detector == "chatter"]
    return next(((s.t_end_ns - scores[0].t_end_ns) / NS for s in scores if s.abnormal), None)


def test_an_on_delay_ends_early_where_the_line_is_steady() -> None:
    """The limit cycle within the long window, long before the second that the rung mode must last."""
    t = np.arange(3 * RATE) / RATE
    cutting = sum(0.02 * np.sin(2 * np.pi * k * TEETH * RPM / 60.0 * t + k) for k in range(1, 8))
    teeth = 1.0 + 0.8 * np.sin(2 * np.pi * TEETH * RPM / 60.0 * t)  # neighbours a tooth passing away
    steady, wavers = ((0.3 * teeth * x + cutting) for x in (cycle(3.0), rung(3.0, 8.0)))
    at_once = [first_alarm_s(x, 0.0) for x in (steady, wavers)]
    late = [first_alarm_s(x, 1.0) for x in (steady, wavers)]
    assert at_once[0] is not None and late[0] is not None and at_once[1] is not None
    assert late[0] < at_once[0] + 0.45
    assert late[1] is None or late[1] > at_once[1] + 0.9
