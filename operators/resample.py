"""From one sample rate to another by a polyphase filter of finite memory, linear phase and no delay in event time.

The filter is a Kaiser-windowed sinc: flat to 0.45 of the lower rate (ripple below 0.001 dB), down by more than 100 dB
from 0.5 of it, so that nothing folds. Each polyphase branch sums to one: a constant stays a constant. (Oppenheim and
Schafer, Discrete-Time Signal Processing, 3rd ed., sections 4.6 and 7.5.3.) Latency: 68 samples of the lower rate and
one block of about 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from operators.blockfilter import BlockFilter
from pipeline.messages import Float32, Gap, Message, Rate, Segment, Stream

PASSBAND = 0.45  # of the lower rate
STOPBAND = 0.5
ATTENUATION_DB = 105.0
BLOCK_S = 0.02
_PRODUCT = 1 << 18  # multiply-adds up to which BLAS stays in one thread
_TABLE = 1 << 24  # largest table of polyphase branches, in elements


class Polyphase:
    """The filter bank between two rates. Its coefficients are computed when the first block is.

    Args:
        ratio: output rate by input rate.

    Raises:
        ValueError: the ratio's terms are so large that its branches would need more than 64 MB.
    """

    def __init__(self, ratio: Fraction) -> None:
        self._up, self._down = ratio.as_integer_ratio()
        self._ratio = ratio
        self.reach = half_length(ratio)  # an output at position p depends on the inputs with |k - p| < reach
        if self._up * 2 * self.reach > _TABLE:
            raise ValueError(f"the ratio {ratio} of the two rates has terms too large to resample by")
        self._step = self._best_step()
        self.before = -(-self.reach // self._down) * self._down if self._step else self.reach

    def block(self, samples: float) -> int:
        """The block length nearest to `samples` that the bank takes."""
        if not self._step:
            return max(1, round(samples))
        return self._step * max(1, min(round(samples / self._step), _PRODUCT // (self._rows * self._outputs)))

    @property
    def _rows(self) -> int:
        """Inputs of one row of the matrix product."""
        return self._step + 2 * self.reach

    @property
    def _outputs(self) -> int:
        """Outputs of one row of the matrix product."""
        return self._step // self._down * self._up

    def _best_step(self) -> int:
        """Inputs per row of the matrix product: near `reach`, where it wastes least; 0 if the matrix were too large."""
        steps = max(1, round(self.reach / self._down))
        while steps and 2 * steps * self._up * (steps * self._down + 2 * self.reach) > _PRODUCT:
            steps -= 1
        return steps * self._down

    def apply(self, x: Float32, first: int, m0: int, m1: int) -> Float32:
        """Outputs [m0, m1) of x, whose row 0 is the input sample `first`; float32 (m1 - m0, channels).

        x must hold `reach` samples on both sides of the outputs' positions, and, where the ratio is simple, whole
        steps from a multiple of the ratio's denominator on.
        """
        columns = [self._apply(np.ascontiguousarray(x[:, c]), first, m0, m1) for c in range(x.shape[1])]
        return np.stack(columns, axis=1) if len(columns) > 1 else columns[0][:, None]

    def _apply(self, x: Float32, first: int, m0: int, m1: int) -> Float32:
        if not self._step:
            return self._by_branch(x, first, m0, m1)
        at = m0 // self._up * self._down - self.reach - first
        rows = (m1 - m0) // self._up * self._down // self._step
        frames = np.empty((rows, self._rows), np.float32)
        for row in frames:
            row[:] = x[at : at + len(row)]
            at += self._step
        y: Float32 = frames @ self._matrix
        return y.reshape(-1)

    def _by_branch(self, x: Float32, first: int, m0: int, m1: int) -> Float32:
        turns, start = divmod(m0, self._up)  # whole turns are taken off first: m0 times a large term exceeds 64 bits
        position = np.arange(start, start + m1 - m0) * self._down
        taps = self._table[position % self._up]
        row = turns * self._down - self.reach + 1 - first
        windows = sliding_window_view(x, 2 * self.reach)[position // self._up + row]
        y: Float32 = (windows[:, None, :] @ taps[:, :, None])[:, 0, 0]  # one product of fixed length per output
        return y

    @cached_property
    def _table(self) -> Float32:
        """Row q: the taps of an output that lies q / numerator samples after its input; columns from -reach + 1 on."""
        rows = self._up
        k = np.arange(-self.reach + 1, self.reach + 1)
        table = np.empty((rows, len(k)), np.float32)
        for lo in range(0, rows, 256):
            phase = np.arange(lo, min(lo + 256, rows)) / rows
            h = impulse_response(phase[:, None] - k, self._ratio)
            table[lo : lo + 256] = h / h.sum(axis=1, keepdims=True)
        return table

    @cached_property
    def _matrix(self) -> Float32:
        """Shape (step + 2 reach, outputs): the outputs of one step from its inputs and `reach` on both sides."""
        matrix = np.zeros((self._rows, self._outputs), np.float32)
        for j in range(self._outputs):
            n, phase = divmod(j * self._down, self._up)
            matrix[n + 1 : n + 1 + 2 * self.reach, j] = self._table[phase]
        return matrix


class Resample(BlockFilter):
    """`Segment` and `Gap` of one stream → the same at another rate; samples keep their event time.

    Args:
        stream: the input stream.
        rate: the output rate, at least about 300 Hz.
        block_s: about how many seconds are computed at once: longer is cheaper and later.

    Raises:
        ValueError: rates too low for the memory of half a second, or a ratio with terms too large.
    """

    memory_s: ClassVar[float] = 0.5

    def __init__(self, stream: Stream, rate: Rate, block_s: float = BLOCK_S) -> None:
        ratio = Fraction(rate.num, rate.den) / Fraction(stream.rate.num, stream.rate.den)
        self._bank = None if ratio == 1 else Polyphase(ratio)
        if self._bank is None:
            super().__init__(stream, ratio, 0, 1, 0)
            return
        block = self._bank.block(block_s * stream.rate.hz)
        super().__init__(stream, ratio, self._bank.before, block, self._bank.reach)

    def apply(self, x: Float32, n0: int, m0: int, m1: int) -> Float32:
        """One block of outputs."""
        assert self._bank is not None
        return self._bank.apply(x, n0, m0, m1)

    def process(self, message: Message) -> Iterable[Message]:
        """Resample what this message completes; at equal rates it passes as it is."""
        if self._bank is None and isinstance(message, (Segment, Gap)):
            return [message]
        return super().process(message)


def resampled(x: Float32, rate_in: Rate, rate_out: Rate) -> Float32:
    """A whole clip at another rate, silence assumed before and after it: the batch form of `Resample`.

    Args:
        x: samples, shape (n, channels).
        rate_in: rate of `x`.
        rate_out: rate wanted.

    Returns:
        float32, shape (ceil(n · rate_out / rate_in), channels).
    """
    ratio = Fraction(rate_out.num, rate_out.den) / Fraction(rate_in.num, rate_in.den)
    if ratio == 1:
        return np.array(x, np.float32)
    bank = Polyphase(ratio)
    block = bank.block(BLOCK_S * rate_in.hz)
    total = ceil(len(x) * ratio)
    padded = np.zeros((2 * bank.reach + -(-len(x) // block) * block, x.shape[1]), np.float32)
    padded[bank.reach : bank.reach + len(x)] = x
    blocks = [np.empty((0, x.shape[1]), np.float32)]
    for n in range(0, len(x), block):
        m0, m1 = ceil(n * ratio), ceil((n + block) * ratio)
        blocks.append(bank.apply(padded[n : n + block + 2 * bank.reach], n - bank.reach, m0, m1))
    return np.concatenate(blocks)[:total]


def half_length(ratio: Fraction) -> int:
    """Half the length of the impulse response in input samples, by Kaiser's formula."""
    lower = min(1.0, float(ratio))
    return ceil((ATTENUATION_DB - 7.95) / (2.285 * 2 * np.pi * (STOPBAND - PASSBAND) * lower) / 2)


def impulse_response(t: NDArray[np.float64], ratio: Fraction) -> NDArray[np.float64]:
    """The continuous impulse response at `t` input samples from its centre; zero beyond `half_length`."""
    cutoff = (PASSBAND + STOPBAND) * min(1.0, float(ratio))  # twice the centre of the transition band
    inside = np.clip(1 - (t / half_length(ratio)) ** 2, 0, None)
    beta = 0.1102 * (ATTENUATION_DB - 8.7)
    window = np.where(inside > 0, np.i0(beta * np.sqrt(inside)) / np.i0(beta), 0.0)
    response: NDArray[np.float64] = cutoff * np.sinc(cutoff * t) * window
    return response
