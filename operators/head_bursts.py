"""Bursts from one bit of a head: whitened microphones, steered at each bit, against what steady cutting gives there.

For a burst of unknown waveform in noise that is white and independent at the microphones, the generalised likelihood
ratio is the energy of the delay-and-sum beam whose weights are the bit's amplitudes over the noise (Kay, Fundamentals
of Statistical Signal Processing II, §7.3 and §9.5). Each microphone is therefore divided by its amplitude spectrum,
which takes sensitivities, modes and coolant out, and the beam of each bit is compared with its own mean before. Energy
over T of noise of bandwidth B is chi-square with 2BT degrees of freedom; its cube root is nearly normal (Wilson and
Hilferty 1931), which makes the durations comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from operators.head_geometry import HeadGeometry

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

LOW_HZ, HIGH_HZ = 1500.0, 18_000.0
BLOCK_S = 0.0005
BLOCKS = (2, 4, 8)
"""Durations looked at: 1, 2 and 4 ms."""
_FINE_HZ = 90_000.0


@dataclass(frozen=True, slots=True)
class Burst:
    """The burst of a hop that stands out most.

    Attributes:
        z: by how many standard deviations of steady cutting, on the scale on which noise is nearly normal.
        outside: the same of the energy of all microphones around that time, not steered.
        contrast: how many times more of its standard deviation the steered energy exceeds its mean than the energy that
            is not steered, whose excess counts as 1 at least. It is at most the square root of the number of
            microphones for a burst from one bit, and about 1 for a bang in the hall.
        spindle: the bit, counted from 0.
        second: the bit that fits next best.
        margin: z of the bit less that of the second.
        at: first sample of the burst within the hop, at the bit less its way to the nearest microphone.
    """

    z: float
    outside: float
    contrast: float
    spindle: int
    second: int
    margin: float
    at: int


class Beams:
    """Steers at each bit of a head.

    Args:
        geometry: of the head.
        rate_hz: of the samples.
        hop: samples that are judged at a time.
    """

    def __init__(self, geometry: HeadGeometry, rate_hz: float, hop: int) -> None:
        self._up = max(1, ceil(_FINE_HZ / rate_hz))
        delays = geometry.delays_s()
        self._lead = np.rint((delays - delays.min()) * rate_hz * self._up).astype(int)
        self.after = -(-int(self._lead.max()) // self._up) + 1
        weights = geometry.weights()
        self._weights = (weights / np.sqrt(np.sum(weights**2, axis=1, keepdims=True))).astype(np.float32)
        self.block = max(1, round(BLOCK_S * rate_hz))
        self._hop = hop // self.block * self.block
        self._band = min(HIGH_HZ, 0.45 * rate_hz) - LOW_HZ
        self._rate = rate_hz

    def energies(self, x: Float64, amplitude: Float64, first: int) -> tuple[Float32, Float32]:
        """Mean square by block of each beam and of each microphone, whitened.

        Args:
            x: samples, shape (n, microphones), with a margin of `after` behind the hop.
            amplitude: square root of the power spectrum to divide by, shape (n // 2 + 1, microphones).
            first: where the hop begins in `x`.

        Returns:
            Shapes (bits, blocks) and (microphones, blocks).
        """
        fine = self._whitened(x, amplitude)
        n = self._hop
        own = np.stack([z[0, first : first + n] for z in fine])
        beams = np.empty((len(self._weights), n), np.float32)
        part = np.empty(n, np.float32)
        for beam, weights, lead in zip(beams, self._weights, self._lead, strict=True):
            beam.fill(0.0)
            for z, weight, late in zip(fine, weights, lead.tolist(), strict=True):
                whole, phase = divmod(late, self._up)
                np.multiply(z[phase, first + whole : first + whole + n], weight, out=part)
                np.add(beam, part, out=beam)
        shape = (-1, n // self.block, self.block)
        return np.square(beams).reshape(shape).mean(axis=2), np.square(own).reshape(shape).mean(axis=2)

    def _whitened(self, x: Float64, amplitude: Float64) -> list[Float32]:
        """Per microphone its samples at `up` times the rate, by phase: shape (up, n)."""
        n = len(x)
        f = np.arange(n // 2 + 1) * (self._rate / n)
        inside = ((f >= LOW_HZ) & (f <= LOW_HZ + self._band))[:, None]
        spectrum = np.where(inside, fft.rfft(x, axis=0) / amplitude, 0.0)
        fine = fft.irfft(spectrum, n * self._up, axis=0) * self._up
        return [np.ascontiguousarray(column.reshape(n, self._up).T, np.float32) for column in fine.T]

    def judge(self, energies: Float32, own: Float32, mean: Float64, floor: Float64) -> Burst:
        """The burst that stands out most.

        Args:
            energies: of the beams by block, shape (bits, blocks).
            own: of the microphones by block, shape (microphones, blocks).
            mean: of each beam in steady cutting, shape (bits,).
            floor: of each microphone in steady cutting, shape (microphones,).
        """
        over = (energies / mean[:, None]).astype(np.float32)
        found = [self._best(over, blocks) for blocks in BLOCKS]
        z, at, ranking, steered = max(found, key=lambda one: one[0])
        first, second = (int(k) for k in np.argsort(-ranking, kind="stable")[:2])
        near = slice(max(0, at - max(BLOCKS)), at + 2 * max(BLOCKS))
        outside, excess = self.unsteered(own[:, near], floor)
        return Burst(
            z,
            outside,
            steered / max(excess, 1.0),
            first,
            second,
            float(ranking[first] - ranking[second]),
            at * self.block,
        )

    def unsteered(self, own: Float32, floor: Float64) -> tuple[float, float]:
        """The burst that stands out most in the energy of all microphones together: z, and its excess.

        Args:
            own: of the microphones by block, shape (microphones, blocks).
            floor: of each microphone in steady cutting, shape (microphones,).
        """
        over = np.mean(own / floor[:, None], axis=0, keepdims=True).astype(np.float32)
        found = [self._best(over, blocks, len(own)) for blocks in BLOCKS]
        return max(one[0] for one in found), max(one[3] for one in found)

    def _best(self, over: Float32, blocks: int, rows: int = 1) -> tuple[float, int, Float64, float]:
        """Largest normal value of means over so many blocks, where it is, those of all rows there, and its excess.

        The excess is that of the energy over its mean, in standard deviations: not bent as z is.
        """
        freedom = 2.0 * self._band * blocks * self.block * rows / self._rate
        mean = moving_mean(over, blocks)
        z = normal(mean, freedom)
        k, at = divmod(int(np.argmax(z)), z.shape[1])
        return float(z[k, at]), at, z[:, at], float((mean[k, at] - 1.0) * np.sqrt(0.5 * freedom))


def normal(ratio: NDArray[np.floating], freedom: float) -> Float64:
    """Chi-square over its mean as standard normal values, (ratio^(1/3) - 1 + 2/(9n)) / sqrt(2/(9n)).

    Args:
        ratio: energies over their mean.
        freedom: degrees of freedom n.
    """
    part = 2.0 / (9.0 * freedom)
    z: Float64 = (np.cbrt(ratio) - (1.0 - part)) / np.sqrt(part)
    return z


def moving_mean(x: Float32, blocks: int) -> Float32:
    """Mean of so many consecutive columns, shape (rows, columns - blocks + 1)."""
    out = x[:, : x.shape[1] - blocks + 1].copy()
    for shift in range(1, blocks):
        out += x[:, shift : x.shape[1] - blocks + 1 + shift]
    return out / np.float32(blocks)
