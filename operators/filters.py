"""Band, high and low passes whose memory is finite, and the level of a stream.

`Fir` has linear phase, and its delay is compensated: an output sample carries the event time of its input sample.
`Sos` is causal; it starts from zero at every block of the sample grid, a fixed warm-up before the block, which is then
discarded. What the impulse response still holds after the warm-up is a millionth of it: by so little (-120 dB of the
largest sample) can the result differ from a filter that never restarts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from math import ceil, inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from operators.base import Windowed
from operators.blockfilter import BlockFilter
from operators.grid import Grid
from operators.rewindow import end_ns
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Span, Stream

Float64 = NDArray[np.float64]

BLOCK_S = 0.02
SETTLED = 1e-6  # of the summed magnitude of the impulse response, -120 dB


def fir_taps(rate_hz: float, low_hz: float | None, high_hz: float | None, transition_hz: float,
             attenuation_db: float = 80.0) -> Float64:  # fmt: skip
    """Kaiser-window design of odd length, symmetric: unit gain in the band, -6 dB at each edge.

    Args:
        rate_hz: sample rate.
        low_hz: lower edge of the band; None: a low pass.
        high_hz: upper edge of the band; None: a high pass.
        transition_hz: width of the transition, centred on each edge.
        attenuation_db: least attenuation in the stop band.

    Returns:
        float64 taps (Kaiser 1974, as in Oppenheim and Schafer, section 7.5.3).

    Raises:
        ValueError: edges or transition that do not fit between 0 and half the rate.
    """
    edges = band_edges(rate_hz, low_hz, high_hz)
    room = min([2 * edges[0], rate_hz - 2 * edges[-1]] + [upper - lower for lower, upper in pairwise(edges)])
    if not 0 < transition_hz <= room:
        raise ValueError(f"a transition of {transition_hz:g} Hz does not fit around {edges} Hz at {rate_hz:g} Hz")
    level = attenuation_db + 6 * (len(edges) - 1)  # the ripples of two edges add up
    from scipy.signal import firwin, kaiserord  # half a second to import, and the lanes do not need it

    length, beta = kaiserord(level, transition_hz / (rate_hz / 2))
    taps: Float64 = firwin(length | 1, edges, window=("kaiser", beta), pass_zero=low_hz is None, fs=rate_hz)
    return taps


def butterworth(rate_hz: float, low_hz: float | None, high_hz: float | None, order: int = 4) -> Float64:
    """Second-order sections of a Butterworth filter, -3 dB at each edge, shape (sections, 6).

    Args:
        rate_hz: sample rate.
        low_hz: lower edge of the band; None: a low pass.
        high_hz: upper edge of the band; None: a high pass.
        order: of the low-pass prototype; a band pass has twice as many poles.

    Raises:
        ValueError: edges not between 0 and half the rate, or an order not within 1 to 12.
    """
    edges = band_edges(rate_hz, low_hz, high_hz)
    if not 1 <= order <= 12:
        raise ValueError(f"the order must be 1 to 12, not {order}")
    kind = "bandpass" if len(edges) == 2 else "lowpass" if low_hz is None else "highpass"
    from scipy.signal import butter

    sos: Float64 = butter(order, edges if len(edges) == 2 else edges[0], kind, fs=rate_hz, output="sos")
    return sos


def band_edges(rate_hz: float, low_hz: float | None, high_hz: float | None) -> list[float]:
    """The edges that were given, in order.

    Raises:
        ValueError: none given, not in order, or not between 0 and half the rate.
    """
    edges = [edge for edge in (low_hz, high_hz) if edge is not None]
    if not edges:
        raise ValueError("a filter needs a lower edge, an upper edge or both")
    for edge in edges:
        if not 0 < edge < rate_hz / 2:
            raise ValueError(f"the band edge {edge:g} Hz must lie between 0 and half the rate, {rate_hz / 2:g} Hz")
    if len(edges) == 2 and edges[0] >= edges[1]:
        raise ValueError(f"the lower edge {edges[0]:g} Hz must lie below the upper one, {edges[1]:g} Hz")
    return edges


def warm_up(sos: Float64) -> int:
    """Samples after which the rest of the impulse response sums, in magnitude, to less than `SETTLED` of the whole.

    Raises:
        ValueError: the filter is not stable.
    """
    poles = np.concatenate([np.roots(section[3:]) for section in sos])
    radius = float(np.max(np.abs(poles)))
    if radius >= 1:
        raise ValueError("the filter is not stable")
    length = 64 if radius == 0 else ceil(4 * np.log(SETTLED) / np.log(radius)) + 64  # poles of near radii add up
    impulse = np.zeros(length)
    impulse[0] = 1
    from scipy.signal import sosfilt

    rest = np.cumsum(np.abs(sosfilt(sos, impulse))[::-1])[::-1]  # magnitude from each sample on
    return int(np.flatnonzero(rest > SETTLED * rest[0])[-1]) + 1


class Fir(BlockFilter):
    """`Segment` and `Gap` of one stream → the same, filtered; event times are kept.

    The convolution is a product of spectra of one fixed length per block.

    Args:
        stream: the stream to filter.
        taps: symmetric or antisymmetric impulse response of odd length.
        block_s: about how many seconds are computed at once.

    Raises:
        ValueError: an even number of taps, or more than a second of them.
    """

    memory_s: ClassVar[float] = 1.0

    def __init__(self, stream: Stream, taps: Float64, block_s: float = BLOCK_S) -> None:
        if taps.ndim != 1 or len(taps) % 2 == 0:
            raise ValueError(f"the taps must be an odd number in one dimension, not of shape {taps.shape}")
        half = len(taps) // 2
        super().__init__(stream, Fraction(1), half, max(1, round(block_s * stream.rate.hz)), half)
        self._length = next_fast_len(self.before + self.block + self.after, real=True)
        self._spectrum = rfft(taps, self._length).astype(np.complex64)[:, None]
        self._settled = slice(2 * half, 2 * half + self.block)

    def apply(self, x: Float32, n0: int, m0: int, m1: int) -> Float32:  # noqa: ARG002  blocks are all alike
        """One block; what the circular convolution wraps around is discarded."""
        y: Float32 = irfft(rfft(x, self._length, axis=0) * self._spectrum, self._length, axis=0)
        return np.ascontiguousarray(y[self._settled])


class Sos(BlockFilter):
    """`Segment` and `Gap` of one stream → the same, filtered by second-order sections.

    Args:
        stream: the stream to filter.
        sos: second-order sections, shape (sections, 6), such as `butterworth` gives.
        block_s: about how many seconds are computed at once; None: a quarter of the warm-up, at least 20 ms, which
            makes the work at most five times that of a filter that never restarts.

    Raises:
        ValueError: an unstable filter, or one that needs more than two seconds to settle.
    """

    memory_s: ClassVar[float] = 2.0

    def __init__(self, stream: Stream, sos: Float64, block_s: float | None = None) -> None:
        before = warm_up(sos)
        seconds = max(BLOCK_S, before / stream.rate.hz / 4) if block_s is None else block_s
        super().__init__(stream, Fraction(1), before, max(1, round(seconds * stream.rate.hz)), 0)
        self._sos = np.array(sos, np.float64)

    def apply(self, x: Float32, n0: int, m0: int, m1: int) -> Float32:  # noqa: ARG002  blocks are all alike
        """One block, in double precision from zero state."""
        from scipy.signal import sosfilt

        y: Float32 = sosfilt(self._sos, x.astype(np.float64), axis=0)[self.before :].astype(np.float32)
        return y


class Level(Windowed):
    """`Segment` and `Gap` of one stream → `Feature` named ``level``: the RMS of each channel, in the stream's unit.

    Values are named ``ch0.rms``, ``ch1.rms``, ... and, over all channels, ``rms``. Where samples are missing, one
    incomplete feature stands for all windows that are lost.

    Args:
        stream: the stream to measure.
        length: samples per window.
        hop: samples between window starts.
    """

    memory_s: ClassVar[float] = 1.0

    def __init__(self, stream: Stream, length: int, hop: int) -> None:
        if length > self.memory_s * stream.rate.hz:
            raise ValueError(f"a window of {length} samples is longer than {self.memory_s:g} s")
        self.stream = stream
        self._grid = Grid(length, hop, stream.channels)

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Start of the next window."""
        n = self._grid.needs_from()
        return {} if n is None else {self.stream.key: n}

    def process(self, message: Message) -> Iterable[Message]:
        """Measure the windows that this message completes."""
        if isinstance(message, Segment):
            return [self._feature(message, n0, n0 + len(x), self._values(x)) for n0, x in self._grid.feed(message)]
        if isinstance(message, Gap):
            lost = self._grid.gap(message)
            return [] if lost is None else [self._feature(message, *lost, None)]
        raise TypeError(f"Level takes Segment and Gap, not {type(message).__name__}")

    @staticmethod
    def _values(x: Float32) -> dict[str, float]:
        power = rms(x) ** 2
        return {f"ch{c}.rms": float(np.sqrt(p)) for c, p in enumerate(power)} | {"rms": float(np.sqrt(power.mean()))}

    def _feature(self, message: Segment | Gap, n0: int, n1: int, values: Mapping[str, float] | None) -> Feature:
        t_end = end_ns(message.anchor, n1, self.stream)
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        return Feature(
            self.stream.machine, (self.stream.sensor,), "level", t_end, values or {}, values is not None, (span,)
        )


def rms(x: NDArray[np.floating]) -> Float64:
    """Root mean square per channel of x, shape (n, channels); float64, in double precision."""
    wide = x.astype(np.float64)
    result: Float64 = np.sqrt(np.mean(wide * wide, axis=0))
    return result


def decibels(ratio: float) -> float:
    """20 log10 of an amplitude ratio; minus infinity for nothing."""
    return float(20 * np.log10(ratio)) if ratio > 0 else -inf
