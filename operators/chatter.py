"""The windowed half of the chatter detector: samples and spindle speed → the chatter indicators of each 10 ms hop.

What it learned in time (idle level, baseline, persistence) is in `chatter_detector`. Works on sound, stethoscope and
acceleration alike: levels are relative, and several channels count by their sum. Latency: none beyond the window,
thirteen revolutions or 100 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log10
from typing import ClassVar

import numpy as np

from operators.chatter_lines import band_power, energy_ratio, lines, noise_floor, power, tooth_levels, wavering
from operators.chatter_plan import LEAST_S, Plan, plan, window_s
from operators.gated import Gated
from operators.grid import Grid
from operators.revolutions import once_per_revolution, residual_ratio, turns
from operators.rewindow import end_ns
from operators.spindle import Doubt, Reading, Speed
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Span, Stream

CHATTER = "chatter_lines"
HOP_S = 0.01
LONG = 4
"""The long window, which sees lines close to a harmonic, in short ones; it is judged every fifth hop."""
LONGEST_S = 2.0
DOUBTS: tuple[Doubt, ...] = ("", "missing", "stale", "zero", "changing", "out_of_range", "unclear")
"""Reasons for a feature without values, as its value ``doubt`` numbers them."""
SLOW = 5
"""Hops from one long window to the next."""
_TURNS = 16
_CLIPPED = 0.999


class ChatterFeatures(Gated):
    """`Segment` and `Gap` of one stream → `Feature` ``chatter_lines`` every 10 ms.

    Values of each hop, over thirteen revolutions and at least 100 ms: ``rpm``, ``level_db`` (100-6,000 Hz, re 1 unit²),
    ``er`` and ``er_noise`` (what white noise would give), ``tonal``, ``line_hz``, ``line_db``, ``pair_db``,
    ``side_db``, ``surprise`` (see `Lines`), ``cutting`` (1, 0, or -1 where the machine does not say), ``clipped``
    (share of samples at full scale). Every fifth hop also, over a window four times as long (2 s at most):
    ``long_tonal``, ``long_line_hz``, ``long_line_db``, ``long_pair_db``, ``long_side_db``, ``coherent``,
    ``contradicts_rpm``, ``forced_db``, ``wavering``, ``tooth_db``, ``half_tooth_db``, ``turn_db`` (see
    `tooth_levels`), and over its last 16 revolutions ``opr`` and ``residual``.

    A window without a usable speed gives an incomplete feature with the value ``doubt`` (where the spindle is said to
    stand, ``level_db`` and ``cutting`` too), missing samples one without values. A hop needs the long window's samples,
    so that all values of it stand on one ground.

    Args:
        stream: the stream.
        speed: where the spindle speed comes from.
        teeth: of the tool.
        slowest_rpm: lowest speed that is judged; it sets the memory.

    Raises:
        ValueError: no teeth, or a speed so low that a window would exceed 2 s.
    """

    memory_s: ClassVar[float] = 5.0

    def __init__(self, stream: Stream, speed: Speed, teeth: int, slowest_rpm: float) -> None:
        if teeth < 1:
            raise ValueError(f"a tool has at least one tooth, not {teeth}")
        if not slowest_rpm > 0.0 or window_s(slowest_rpm) > LONGEST_S:
            raise ValueError(f"{slowest_rpm:g} rpm is too slow: {LONGEST_S:g} s must hold thirteen revolutions")
        super().__init__(stream, speed)
        self._teeth = teeth
        self._slowest = slowest_rpm
        self._rate = stream.rate.hz
        longest = min(LONG * window_s(slowest_rpm), LONGEST_S)
        self._hop = max(1, round(HOP_S * self._rate))
        self._grid = Grid(round(longest * self._rate), self._hop, stream.channels)
        counts = {"<i2": 2.0**15, "<i4": 2.0**31}.get(stream.dtype)
        full = counts * stream.scale if counts else (1.0 if stream.unit == "FS" else np.inf)
        self._clip = np.float32(full * _CLIPPED)

    def first(self) -> int | None:
        """Start of the next long window."""
        return self._grid.needs_from()

    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """Judge the hops that this message completes."""
        if isinstance(message, Segment):
            return [self._judge(message, n0, x) for n0, x in self._grid.feed(message)]
        lost = self._grid.gap(message)
        return [] if lost is None else [self._feature(message, *lost, {}, complete=False)]

    def _judge(self, segment: Segment, n0: int, x: Float32) -> Feature:
        n1 = n0 + len(x)
        reading = self.speed.at(end_ns(segment.anchor, n1, self.stream))
        doubt: Doubt = reading.doubt or ("out_of_range" if reading.rpm < self._slowest else "")
        if doubt:
            values = {"doubt": float(DOUBTS.index(doubt))}
            if doubt == "zero":
                last = x[len(x) - round(LEAST_S * self._rate) :]
                values |= {"level_db": _level(band_power(last, self._rate)), "cutting": _told(reading)}
            return self._feature(segment, n0, n1, values, complete=False)
        values = self._short(x, reading)
        if reading.good:
            values["good"] = 1.0
        if (n0 // self._hop) % SLOW == 0:
            values |= self._long(x, reading)
        return self._feature(segment, n0, n1, values, complete=True)

    def _plan(self, reading: Reading, windows: int) -> Plan:
        rpm = float(f"{reading.rpm:.5g}")  # a wandering tachometer must not make a plan an hop
        longest = self._grid.length / self._rate
        return plan(self._rate, rpm, self._teeth, min(windows * window_s(rpm), longest))

    def _short(self, x: Float32, reading: Reading) -> dict[str, float]:
        made = self._plan(reading, 1)
        part = x[len(x) - made.samples :]
        p = power(part, made)
        found = lines(p, noise_floor(p, made), made, family=False)
        return {
            "rpm": reading.rpm,
            "level_db": _level(float(p.sum())),
            "er": energy_ratio(p, made),
            "er_noise": made.noise_ratio,
            "tonal": found.tonal,
            "line_hz": found.line_hz,
            "line_db": found.line_db,
            "pair_db": found.pair_db,
            "side_db": found.side_db,
            "surprise": found.surprise,
            "cutting": _told(reading),
            "clipped": float(np.mean(np.abs(part) >= self._clip)),
        }

    def _long(self, x: Float32, reading: Reading) -> dict[str, float]:
        made = self._plan(reading, LONG)
        p = power(x[len(x) - made.samples :], made)
        floor = noise_floor(p, made)
        found = lines(p, floor, made)
        tooth, half, turn = tooth_levels(p, floor, made)
        y = turns(x, self._rate, reading.rpm, _TURNS)
        return {
            "long_tonal": found.tonal,
            "long_line_hz": found.line_hz,
            "long_line_db": found.line_db,
            "long_pair_db": found.pair_db,
            "long_side_db": found.side_db,
            "coherent": found.coherent,
            "contradicts_rpm": found.contradicts_rpm,
            "forced_db": found.forced_db,
            "wavering": wavering(x[len(x) - made.samples :], found.line_hz, made, self._rate),
            "tooth_db": tooth,
            "half_tooth_db": half,
            "turn_db": turn,
            "opr": once_per_revolution(y),
            "residual": residual_ratio(y),
        }

    def _feature(
        self, source: Segment | Gap, n0: int, n1: int, values: Mapping[str, float], *, complete: bool
    ) -> Feature:
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        t_end = end_ns(source.anchor, n1, self.stream)
        return Feature(self.stream.machine, (self.stream.sensor,), CHATTER, t_end, values, complete, (span,))


def _level(power: float) -> float:
    return 10.0 * log10(max(power, 1e-30))


def _told(reading: Reading) -> float:
    return -1.0 if reading.cutting is None else float(reading.cutting)
