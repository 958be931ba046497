"""Signals on an infinite sample grid that can be read anywhere: the answer never depends on how it was asked for.

A `Track` makes its samples in blocks at multiples of its block length, each a pure function of its number. Whoever
reads on after a restart therefore gets the same bits as one who never stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Float64 = NDArray[np.float64]
BLOCK = 32_768
"""Samples per block."""

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """The last few results of a pure function of an integer."""

    def __init__(self, make: Callable[[int], _T], keep: int) -> None:
        self._make = make
        self._keep = keep
        self._made: OrderedDict[int, _T] = OrderedDict()

    def __call__(self, index: int) -> _T:
        """The result for `index`, made if it is not among those kept."""
        if index in self._made:
            self._made.move_to_end(index)
            return self._made[index]
        made = self._made[index] = self._make(index)
        while len(self._made) > self._keep:
            self._made.popitem(last=False)
        return made


class Track(ABC):
    """A signal, shape (samples, channels) or (samples,), float64; silent before sample 0."""

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._blocks = Recent(self.block, 4)

    @abstractmethod
    def block(self, b: int) -> Float64:
        """Samples [b * BLOCK, (b + 1) * BLOCK), for b >= 0."""

    def read(self, n0: int, n1: int) -> Float64:
        """Samples [n0, n1)."""
        if n1 <= n0:
            return self._blocks(max(n0, 0) // BLOCK)[:0].copy()
        parts = []
        for b in range(n0 // BLOCK, (n1 - 1) // BLOCK + 1):
            lo, hi = max(n0 - b * BLOCK, 0), min(n1 - b * BLOCK, BLOCK)
            whole = self._blocks(b) if b >= 0 else np.zeros_like(self._blocks(0))
            parts.append(whole[lo:hi])
        return np.concatenate(parts)


class Mix(Track):
    """Sum of tracks of one rate, each with a gain and a delay in samples."""

    def __init__(self, parts: Sequence[tuple[Track, float, int]]) -> None:
        super().__init__(parts[0][0].rate_hz)
        self._parts = tuple(parts)

    def block(self, b: int) -> Float64:
        """Sum in the order given."""
        total: Float64 | None = None
        for track, gain, delay in self._parts:
            part = gain * track.read(b * BLOCK - delay, (b + 1) * BLOCK - delay)
            total = part if total is None else total + part
        assert total is not None
        return total


class Convolved(Track):
    """A track of one channel through a finite impulse response of at most `BLOCK` taps (overlap-add).

    The transforms are in single precision: their rounding lies 40 dB below that of a 16-bit converter.
    """

    def __init__(self, track: Track, response: Float64) -> None:
        if len(response) > BLOCK:
            raise ValueError(f"an impulse response has at most {BLOCK} taps, not {len(response)}")
        super().__init__(track.rate_hz)
        self._track = track
        self._size = fft.next_fast_len(BLOCK + len(response) - 1, real=True)
        self._length = BLOCK + len(response) - 1
        self._spectrum = fft.rfft(response.astype(np.float32), self._size)
        self._spread = Recent(self._one, 2)

    def block(self, b: int) -> Float64:
        """Head of this block's response and tail of the one before."""
        tail = self._spread(b - 1)[BLOCK:] if b > 0 else None
        out = self._spread(b)[:BLOCK].astype(np.float64)
        if tail is not None:
            out[: len(tail)] += tail
        return out

    def _one(self, b: int) -> NDArray[np.float32]:
        x = self._track.read(b * BLOCK, (b + 1) * BLOCK).astype(np.float32)
        spread: NDArray[np.float32] = fft.irfft(fft.rfft(x, self._size) * self._spectrum, self._size)[: self._length]
        return spread


class Cycles(Track):
    """Work that repeats every `length` samples; cycle c may ring on into later cycles.

    Args:
        rate_hz: samples per second.
        length: samples from one cycle's start to the next.
        tail: samples at most that a cycle's signal goes on after its end.
        render: pure function of the cycle's number (0, 1, …) giving its samples, at most length + tail, float64.
    """

    def __init__(self, rate_hz: float, length: int, tail: int, render: Callable[[int], Float64]) -> None:
        super().__init__(rate_hz)
        self._length = length
        self._tail = tail
        self.cycle = Recent(render, 3)

    def block(self, b: int) -> Float64:
        """Sum of the cycles that sound in this block."""
        n0, n1 = b * BLOCK, (b + 1) * BLOCK
        first = max((n0 - self._tail) // self._length, 0)
        out: Float64 | None = None
        for c in range(first, (n1 - 1) // self._length + 1):
            x, start = self.cycle(c), c * self._length
            if out is None:
                out = np.zeros((BLOCK, *x.shape[1:]))
            lo, hi = max(n0, start), min(n1, start + len(x))
            if lo < hi:
                out[lo - n0 : hi - n0] += x[lo - start : hi - start]
        assert out is not None
        return out


class Given(Track):
    """An array as a track, shape (n,) or (n, channels); zeros after its end."""

    def __init__(self, samples: Float64, rate_hz: float) -> None:
        super().__init__(rate_hz)
        self._samples = samples

    def block(self, b: int) -> Float64:
        """The samples there are, then zeros."""
        out = np.zeros((BLOCK, *self._samples.shape[1:]))
        part = self._samples[b * BLOCK : (b + 1) * BLOCK]
        out[: len(part)] = part
        return out
