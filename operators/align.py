"""How far the clocks of a machine's sensors are apart, from what they hear in common.

Within windows of event time the 1 ms power envelopes of two sensors are cross-correlated (`AlignEstimate`); a tracker
takes the median of the last estimates and their drift (`AlignTrack`). An offset is positive when the sensor's events
appear later than the reference's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import fsum, sqrt
from statistics import median
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.base import Stateful, Windowed
from operators.envelope import CELL_NS, power
from operators.order import Order
from operators.spectral import hann
from operators.tracks import Tracks
from pipeline.messages import NS, Feature, Gap, Message, Segment, Span

Float64 = NDArray[np.float64]

LEAST_PEAK = 0.5
RIVAL = 0.9
"""A second maximum of so much of the peak: sound that repeats itself matches as well whole periods away."""
ESTIMATE = "align_estimate"
RECENT = 10  # accepted estimates that the median runs over
HISTORY = 32  # medians that the drift is fitted to
HISTORY_NS = 20 * NS  # from one of them to the next
STEP_MS = 5.0  # a median so far from their line, and three times the spread: a clock has been set, no drift


class Correlation(NamedTuple):
    """Lag of the best match in samples of the envelope, its coefficient, whether it can be trusted, or has a rival."""

    lag: float
    peak: float
    accepted: bool
    ambiguous: bool = False


def correlate(a: Float64, b: Float64, max_lag: int, apart: int = 0) -> Correlation:
    """Normalised cross-correlation of two envelopes of one length, searched within ±max_lag.

    ``r(l) = Σ (a - mean a)(b_l - mean b_l) / sqrt(Σ (a - mean a)² · Σ (b_l - mean b_l)²)``, where a is the middle of
    the first envelope and b_l the equally long part of the second, l samples later. The peak is interpolated by a
    parabola. It is not accepted below 0.5, nor at the border of the search, nor where it is ambiguous: where another
    maximum, more than `apart` lags away, comes within a tenth of it. Such a one is looked for twice as far as the peak:
    of an offset beyond the search, a sound that repeats itself shows another match within.
    """
    r = _coefficients(a, b, max_lag)
    best = int(np.argmax(r))
    peak = float(r[best])
    if best in (0, 2 * max_lag):
        return Correlation(float(best - max_lag), peak, False)
    before, after = float(r[best - 1]), float(r[best + 1])
    curvature = before - 2 * peak + after
    shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    reach = min(2 * max_lag, len(a) // 4)
    wide = _coefficients(a, b, reach)
    beyond = np.concatenate([[-1.0], wide, [-1.0]])  # the border counts where r rises towards it
    maximum = (wide >= beyond[:-2]) & (wide >= beyond[2:])
    far = np.abs(np.arange(-reach, reach + 1) - (best - max_lag)) > apart
    ambiguous = peak >= LEAST_PEAK and bool((wide[maximum & far] >= RIVAL * peak).any())
    return Correlation(best - max_lag + shift, peak, peak >= LEAST_PEAK and not ambiguous, ambiguous)


def _coefficients(a: Float64, b: Float64, max_lag: int) -> Float64:
    """The coefficients of `correlate` for each lag from minus to plus `max_lag`."""
    middle = a[max_lag : len(a) - max_lag]
    n = len(middle)
    middle = middle - middle.mean()
    b = b - b.mean()  # without this the running sums would lose digits
    cross = np.correlate(b, middle, "valid")
    total, square = (np.concatenate([[0.0], np.cumsum(x)]) for x in (b, b * b))
    energy = square[n:] - square[:-n] - (total[n:] - total[:-n]) ** 2 / n
    scale = np.sqrt(np.maximum(energy, 0) * (middle @ middle))
    r: Float64 = np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 1e-12 * square[-1])
    return r


class AlignEstimate(Windowed):
    """`Segment` and `Gap` of several sensors of a machine, in any interleaving → `Feature` named ``align_estimate``.

    One feature per window and sensor other than the reference, ``sensors = (reference, sensor)``, with the values
    ``offset_ms``, ``peak`` (the correlation coefficient), ``accepted`` and ``ambiguous`` (1 or 0): of a machine that
    only repeats itself, twice the search may hold more than one match. Windows begin at multiples of the hop since
    1970, the first one where all sensors have begun. A window closes when each sensor has passed its end, by samples
    or by a gap, or is two minutes behind another; where samples are missing the feature is incomplete. A stream that
    has ended holds nothing up. Windows in which no sensor has anything at all are left out.

    A sensor that begins anew more than two minutes before it stopped had a clock that was ahead. What came under that
    clock is told first; windows then begin anew where all sensors have something that no window held yet.

    Args:
        machine: its name.
        sensors: the reference first; at least two, each at 1000 Hz or more.
        window_ms: length of a window.
        hop_ms: time between window starts.
        max_lag_ms: the search goes from minus to plus this.
        smooth_ms: length of the Hann window that smooths the power, odd: without it the envelope of a noise-like
            sensor of 2 kHz is mostly chance.
        centre_ms: offsets already known by sensor; the search is centred on them.

    Raises:
        ValueError: fewer than two different sensors, or lengths that leave nothing to correlate.
    """

    memory_s: ClassVar[float] = 5.0

    def __init__(
        self,
        machine: str,
        sensors: Sequence[str],
        *,
        window_ms: int = 2000,
        hop_ms: int = 1000,
        max_lag_ms: int = 50,
        smooth_ms: int = 9,
        centre_ms: Mapping[str, int] | None = None,
    ) -> None:
        if len(sensors) < 2 or len(set(sensors)) != len(sensors):
            raise ValueError(f"an alignment needs at least two different sensors, not {list(sensors)}")
        if min(hop_ms, max_lag_ms, smooth_ms) < 1 or smooth_ms % 2 == 0:
            raise ValueError("hop and lag must be positive, and the smoothing an odd number of milliseconds")
        if not 4 * max_lag_ms + smooth_ms <= window_ms <= 1000 * self.memory_s:
            raise ValueError(f"a window of {window_ms} ms does not suit a lag of {max_lag_ms} ms: at least four times "
                             f"it, at most {1000 * self.memory_s:g} ms")  # fmt: skip
        self.machine = machine
        self.sensors = tuple(sensors)
        self._window, self._hop, self._max_lag = window_ms, hop_ms, max_lag_ms
        taper = hann(smooth_ms + 1)[1:]
        self._smooth: Float64 = taper / taper.sum()
        self._centre = {sensor: int((centre_ms or {}).get(sensor, 0)) for sensor in sensors}
        self._tracks = Tracks(self._centre)
        self._next: int | None = None  # first cell of the next window; None until every sensor has begun

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Per stream, the first sample of the next window, and two milliseconds before it."""
        return self._tracks.needs_from(self._next)

    def process(self, message: Message) -> Iterable[Message]:
        """Take one sensor's samples or gap in; other sensors of the machine are passed over."""
        if not isinstance(message, (Segment, Gap)):
            raise TypeError(f"AlignEstimate takes Segment and Gap, not {type(message).__name__}")
        return list(self._close()) if self._tracks.take(message) else []

    def _close(self) -> Iterator[Feature]:
        while True:
            if self._next is None:
                first = self._tracks.begin()
                if first is None:
                    return
                self._next = -(-first // self._hop) * self._hop
            known = self._tracks.known(self._next)
            while self._next + self._window <= known.cells and (known.end is None or self._next < known.end):
                if self._anything(self._next):
                    yield from self._features(self._next)
                    self._next += self._hop
                else:
                    self._next = self._skip(self._next, known.cells)
            self._tracks.forget(self._next)
            if not known.done or (known.end is not None and self._next < known.end):
                return
            self._tracks.go_on(known.done)
            self._next = None

    def _anything(self, first: int) -> bool:
        earliest = self._tracks.any_cell(first)
        return earliest is not None and earliest < first + self._window

    def _skip(self, first: int, known: int) -> int:
        """The first window after `first` that holds anything or that is not known yet."""
        earliest = self._tracks.any_cell(first)
        until = known if earliest is None else min(known, earliest)
        return first + max(1, -(-(until + 1 - self._window - first) // self._hop)) * self._hop

    def _features(self, first: int) -> Iterator[Feature]:
        reference, *others = self.sensors
        a = self._envelope(reference, first)
        for sensor in others:
            b = self._envelope(sensor, first)
            values: dict[str, float] = {}
            if a is not None and b is not None:
                found = correlate(a, b, self._max_lag, len(self._smooth))
                values = {
                    "offset_ms": self._centre[sensor] - self._centre[reference] + found.lag,
                    "peak": found.peak,
                    "accepted": float(found.accepted),
                    "ambiguous": float(found.ambiguous),
                }
            t_end = (first + self._window) * CELL_NS
            spans = (*self._spans(reference, first), *self._spans(sensor, first))
            yield Feature(self.machine, (reference, sensor), ESTIMATE, t_end, values, bool(values), spans)

    def _envelope(self, sensor: str, first: int) -> Float64 | None:
        """RMS per millisecond of the window, or None where samples are missing."""
        at = first + self._centre[sensor]
        cells = self._tracks[sensor].moments(at, at + self._window)
        return None if cells is None else np.sqrt(np.maximum(np.convolve(power(cells), self._smooth, "valid"), 0))

    def _spans(self, sensor: str, first: int) -> list[Span]:
        at = (first + self._centre[sensor]) * CELL_NS
        return self._tracks[sensor].spans(at, at + self._window * CELL_NS)


@dataclass(slots=True)
class _Pair:
    """What is known of one sensor against its reference; points are (event time in ns, offset in ms)."""

    sensors: tuple[str, str]
    t_ns: int
    epochs: list[tuple[str, int]] = field(default_factory=list)
    recent: list[tuple[int, float]] = field(default_factory=list)
    history: list[tuple[int, float]] = field(default_factory=list)

    def add(self, t_ns: int, offset_ms: float) -> None:
        """Take an accepted estimate in."""
        self.recent = [*self.recent[1 - RECENT :], (t_ns, offset_ms)]
        if len(self.recent) < RECENT:
            return
        offsets, expected = [offset for _, offset in self.recent], self.line[2]
        now = median(offsets)
        if expected is not None and abs(now - expected) > max(STEP_MS, 3 * _spread(offsets)):
            self.history = []
        if not self.history or t_ns - self.history[-1][0] >= HISTORY_NS:
            self.history = [*self.history[1 - HISTORY :], (t_ns, now)]

    @property
    def line(self) -> tuple[float, float, float | None]:
        """Drift in ms per second, its standard error, and the offset now: least squares over three points or more."""
        if len(self.history) < 3:
            return 0.0, 0.0, None
        seconds = [(t - self.t_ns) / NS for t, _ in self.history]
        mean_s = fsum(seconds) / len(seconds)
        mean_ms = fsum(offset for _, offset in self.history) / len(seconds)
        moment = fsum((s - mean_s) * (o - mean_ms) for s, (_, o) in zip(seconds, self.history, strict=True))
        square = fsum((s - mean_s) ** 2 for s in seconds)
        slope = moment / square
        off = fsum((o - mean_ms - slope * (s - mean_s)) ** 2 for s, (_, o) in zip(seconds, self.history, strict=True))
        return slope, sqrt(off / (len(seconds) - 2) / square), mean_ms - slope * mean_s

    def carried(self, t_ns: int) -> list[float]:
        """The recent estimates, carried on to an event time by the drift."""
        slope = self.line[0]
        return [offset + slope * (t_ns - t) / NS for t, offset in self.recent]


def _spread(values: Sequence[float]) -> float:
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


class AlignTrack(Stateful):
    """`Feature` ``align_estimate`` → `Feature` ``alignment`` of the same sensors, window and lineage.

    Values: ``offset_ms``, the median of the last ten accepted estimates, carried on by the drift; ``drift_ppm``, fitted
    to medians of the last ten minutes (0 during the first), anew when a clock was set; ``error_ms``, the larger of the
    estimates' spread (1.4826 times the median deviation) and the distance of this window's own estimate, where it has
    none the spread and what the drift's standard error has made of it since the last one; ``peak``, ``accepted`` and
    ``ambiguous`` of this window; ``age_s`` since the last accepted estimate and their number, ``estimates``. Incomplete
    while there is no accepted estimate (what this window says is told all the same), and where the estimate is. A new
    stream of either sensor starts afresh.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, ...], _Pair] = {}

    def process(self, message: Message) -> Iterable[Message]:
        """Track one estimate; what is already included is passed over."""
        if not isinstance(message, Feature) or message.name != ESTIMATE:
            raise TypeError(f"AlignTrack takes the feature {ESTIMATE}, not {type(message).__name__}")
        reference, sensor = message.sensors
        pair = self._pairs.setdefault(message.sensors, _Pair((reference, sensor), -1))
        order = Order()
        order.restore(pair.t_ns, dict(pair.epochs))
        if not order.behind(message.t_end_ns, message.lineage):
            return []
        order.take(message.t_end_ns, message.lineage)
        if order.epochs != dict(pair.epochs):
            pair.recent, pair.history = [], []
        pair.t_ns, pair.epochs = message.t_end_ns, list(order.epochs.items())
        values = self._follow(pair, message) if message.complete else {}
        return [Feature(message.machine, message.sensors, "alignment", message.t_end_ns, values, "offset_ms" in values,
                        message.lineage)]  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """The points behind median and drift, about 2 kB per pair of sensors."""
        return {"pairs": [asdict(self._pairs[sensors]) for sensors in sorted(self._pairs)]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the tracker that gave this snapshot."""
        self._pairs = {}
        for saved in state["pairs"]:
            reference, sensor = saved["sensors"]
            points = {key: [(first, second) for first, second in saved[key]] for key in ("epochs", "recent", "history")}
            self._pairs[reference, sensor] = _Pair((reference, sensor), saved["t_ns"], **points)

    @staticmethod
    def _follow(pair: _Pair, estimate: Feature) -> dict[str, float]:
        t_ns, own = estimate.t_end_ns, estimate.values["offset_ms"]
        accepted = estimate.values["accepted"] > 0
        if accepted:
            pair.add(t_ns, own)
        said = {key: estimate.values[key] for key in ("peak", "accepted", "ambiguous")}
        if not pair.recent:
            return said
        carried = pair.carried(t_ns)
        offset = median(carried)
        slope, doubt, _ = pair.line
        spread, age_s = _spread(carried), (t_ns - pair.recent[-1][0]) / NS
        return {
            "offset_ms": offset,
            "drift_ppm": 1000 * slope,
            "error_ms": max(spread, abs(own - offset)) if accepted else spread + doubt * age_s,
            **said,
            "age_s": age_s,
            "estimates": float(len(carried)),
        }
