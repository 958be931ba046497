"""The windowed half of the head detector: every 50 ms the loudest burst with its bit, and what each bit has in the cut.

One converter hears a drilling head of up to 120 bits with two to eight microphones. A frame says which bit the burst
that stands out most came from (`head_bursts`) and how much each bit has in the noise between the microphones
(`head_shares`). What was learned of good strokes is in `head_detector`. Latency: the hop and about 20 ms around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.gated import Gated
from operators.grid import Grid
from operators.head_bursts import LOW_HZ, Beams
from operators.head_geometry import HeadGeometry
from operators.head_shares import Shares, smoothed
from operators.quality import FLAT_RATIO
from operators.rewindow import end_ns
from operators.spindle import GivenSpeed, Speed
from pipeline.messages import Feature, Float32, Gap, Message, Segment, Span, Stream

Float64 = NDArray[np.float64]

FRAME = "head_frame"
HOP_S = 0.05
LEAST_HZ = 16_000.0
PAST = 8
"""Hops that steady cutting is measured over: 0.4 s."""
_MARGIN_S = 0.006
_SMOOTH = 2
_DEAD = 1e-12
_TINY = 1e-30


class HeadFrames(Gated):
    """`Segment` and `Gap` of one stream → `Feature` ``head_frame`` every 50 ms.

    Values: ``level`` (mean square above 1.5 kHz over the microphones, unit²), ``burst`` and ``outside`` (standard
    deviations, steered at a bit and not), ``contrast`` (how many times more it stands out steered), ``spindle``,
    ``second`` (bits counted from 0), ``margin``, ``cutting`` (1, 0, or -1 where the machine does not say), ``flat``
    (sum of 2^k over the microphones k, from 0, that give no signal), ``m0``, ``m1``, … (level of each microphone), and
    ``a0``, ``a1``, … (share of each bit, about 1 in good cutting without background). Bursts are measured against the
    0.4 s before, whose spectra are in turn divided by those of the 0.4 s before that; frames without so much past are
    not given. Missing samples give one incomplete feature.

    Args:
        stream: the stream; its channels are the geometry's microphones, in order.
        geometry: of the head.
        state: where the operating state comes from, if anywhere; its speed is not used.

    Raises:
        ValueError: a number of channels that is not that of the microphones, or a rate below 16 kHz.
    """

    memory_s: ClassVar[float] = HOP_S * (2 * PAST + 1) + 0.05

    def __init__(self, stream: Stream, geometry: HeadGeometry, state: Speed | None = None) -> None:
        count = len(geometry.microphones_m)
        if stream.channels != count:
            raise ValueError(
                f"sensor '{stream.sensor}' has {stream.channels} channels, the drilling head {count} microphones: "
                "name one place per channel, in the order of the channels"
            )
        if stream.rate.hz < LEAST_HZ:
            raise ValueError(f"a drilling head needs a rate of at least {LEAST_HZ:g} Hz, not {stream.rate.hz:g}")
        super().__init__(stream, GivenSpeed(1.0) if state is None else state)
        rate = stream.rate.hz
        self._hop, self._margin = round(HOP_S * rate), round(_MARGIN_S * rate)
        self._beams = Beams(geometry, rate, self._hop)
        self._shares = Shares(geometry, rate)
        length = fft.next_fast_len(self._margin + self._hop + self._beams.after + self._margin, real=True)
        self._grid = Grid(length, self._hop, count)
        self._low = round(LOW_HZ * self._shares.frame / rate)
        fine, coarse = np.arange(length // 2 + 1) * (1.0 / length), self._shares.frame
        self._places = fine * coarse
        self._density = float(length / (0.375 * coarse))
        self._spectra: deque[Float64] = deque(maxlen=PAST)
        self._means: deque[tuple[Float64, Float64]] = deque(maxlen=PAST)
        self._begun = 0

    def first(self) -> int | None:
        """Start of the oldest window that the next frame depends on."""
        start = self._grid.needs_from()
        return None if start is None else max(self._begun, start - 2 * PAST * self._hop)

    def take(self, message: Segment | Gap) -> Iterable[Message]:
        """Measure the frames that this message completes."""
        fresh = self._grid.needs_from() is None
        if isinstance(message, Segment):
            if fresh:
                self._begin(message.n0)
            frames = self._grid.feed(message)
            found = [self._frame(message, n0, x) for n0, x in frames]
            return [frame for frame in found if frame is not None]
        lost = self._grid.gap(message)
        if fresh or lost is not None:
            self._begin(message.n1)
        return [] if lost is None else [self._feature(message, *lost, None)]

    def _begin(self, n: int) -> None:
        """Forget the past: a start, or missing samples."""
        self._begun = n
        self._spectra.clear()
        self._means.clear()

    def _frame(self, segment: Segment, n0: int, x: Float32) -> Feature | None:
        samples = x.astype(np.float64)
        spectra = self._shares.spectra(samples)
        power = np.mean(np.square(spectra.real) + np.square(spectra.imag), axis=0)
        values: dict[str, float] | None = None
        if len(self._spectra) == PAST:
            energies, own = self._beams.energies(samples, self._amplitude(), self._margin)
            if len(self._means) == PAST:
                mean, floor = (np.mean([m[i] for m in self._means], axis=0) for i in (0, 1))
                burst = self._beams.judge(energies, own, mean, floor)
                levels = np.mean(power[self._low :], axis=0) / self._shares.frame
                values = {
                    "level": float(np.mean(levels)), "flat": _flat(x),
                    "burst": burst.z, "outside": burst.outside, "contrast": burst.contrast,
                    "spindle": float(burst.spindle), "second": float(burst.second), "margin": burst.margin,
                    "cutting": self._cutting(segment, n0 + len(x)),
                }  # fmt: skip
                values |= {f"m{k}": level for k, level in enumerate(levels.tolist())}
                shares = np.round(self._shares.fit(spectra), 4).tolist()
                values |= {f"a{k}": share for k, share in enumerate(shares)}
            least = _TINY if own.any() else np.inf  # nothing stands out from what a dead array hears
            self._means.append(
                (energies.mean(axis=1, dtype=np.float64) + least, own.mean(axis=1, dtype=np.float64) + least)
            )
        self._spectra.append(power)
        return None if values is None else self._feature(segment, n0, n0 + len(x), values)

    def _amplitude(self) -> Float64:
        """Amplitude spectra of the hops before at the frequencies of a window, shape (frequencies, microphones)."""
        power = np.mean(list(self._spectra), axis=0)
        past = np.sqrt(smoothed(power, _SMOOTH) * self._density) + _TINY
        loudest = power[self._low :].max(axis=0)  # of a constant, rounding is left
        past[:, loudest <= _DEAD * loudest.max()] = np.inf  # a microphone that was dead: nothing is known of its noise
        return np.stack([np.interp(self._places, np.arange(len(past)), column) for column in past.T], axis=1)

    def _cutting(self, segment: Segment, n1: int) -> float:
        cutting = self.speed.at(end_ns(segment.anchor, n1, self.stream)).cutting
        return -1.0 if cutting is None else float(cutting)

    def _feature(self, source: Segment | Gap, n0: int, n1: int, values: Mapping[str, float] | None) -> Feature:
        span = Span(self.stream.sensor, self.stream.epoch, n0, n1)
        t_end = end_ns(source.anchor, n1, self.stream)
        return Feature(
            self.stream.machine, (self.stream.sensor,), FRAME, t_end, values or {}, values is not None, (span,)
        )


def _flat(x: Float32) -> float:
    """Microphones that give no signal, as a sum of powers of two."""
    ranges = np.ptp(x, axis=0)
    dead = np.flatnonzero(ranges <= FLAT_RATIO * float(np.max(np.abs(x))))
    return float(np.sum(2.0**dead))
