"""Strokes of a head of many drills as its microphones hear them: jamming chips, reflections, coolant and the hall.

Each bit is noise that its lips modulate, with bursts of jammed chips, through the modes of its lot. It reaches each
microphone directly (1/r, r/c) and through the enclosure, whose reflections are a decaying random response per lot and
microphone. The background is coolant at each microphone, on its own, and the hall from one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from connectors.simulator.ambience import ambience
from connectors.simulator.drill_head import Break, Head
from connectors.simulator.drilling import Damage, Hole, drill
from connectors.simulator.modes import Modes
from connectors.simulator.noise import band, shaped
from connectors.simulator.seeds import derived, generator, uniform
from connectors.simulator.tracks import Float64

Float32 = NDArray[np.float32]
Complex = NDArray[np.complex128]

_REFERENCE_M_S = 343.0
_TAPS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A head with its microphones in a machine, as it is from one start to the next.

    Attributes:
        head: bits and microphones, where they really are.
        name: tells the noise of one place from that of another.
        sound_speed_m_s: of the day; it follows the temperature, 0.6 m/s per kelvin.
        levels: amplitude of each bit against the mean one: feed, grinding, wear.
        sensitivity: of each microphone.
        reflected: amplitude of what comes by the enclosure against what comes directly, at the mean microphone.
        rt60_s: reverberation time of the enclosure.
        coolant: share of the background's power that is the coolant at each microphone; the rest is the hall.
    """

    head: Head
    name: str
    sound_speed_m_s: float
    levels: Float64
    sensitivity: Float64
    reflected: float
    rt60_s: float
    coolant: float

    @classmethod
    def draw(cls, seed: int, start: int, bits: int = 90, microphones: int = 4) -> Place:
        """One machine and day."""
        rng = generator(seed, "head place", start)
        head = Head.draw(rng, bits, microphones)
        head = replace(head, bit=replace(head.bit, jams_per_s=uniform(rng, 2.0, 10.0)))
        return cls(
            head=head,
            name=f"head-{start}",
            sound_speed_m_s=uniform(rng, 340.0, 347.0),
            levels=10.0 ** (rng.normal(0.0, 1.0, bits) / 20.0),
            sensitivity=10.0 ** (rng.normal(0.0, 1.0, microphones) / 20.0),
            reflected=10.0 ** (uniform(rng, -10.0, 0.0) / 20.0),
            rt60_s=uniform(rng, 0.15, 0.4),
            coolant=uniform(rng, 0.3, 0.8),
        )

    def paths(self, rate_hz: float) -> tuple[Float64, NDArray[np.int64]]:
        """Gain and delay in samples from each bit to each microphone, both of shape (bits, microphones)."""
        gains, delays = self.head.paths()
        delays = delays * (_REFERENCE_M_S / self.sound_speed_m_s)
        scale = 1.0 / np.sqrt(float(np.mean(np.sum((gains * self.levels[:, None]) ** 2, axis=0))))
        return gains * scale * self.sensitivity, np.rint((delays - delays.min()) * rate_hz).astype(np.int64)

    def stroke(
        self,
        hole: Hole,
        broken: Sequence[Break] = (),
        *,
        rate_hz: float,
        length: int,
        seed: int,
        spread_db: float = 0.5,
    ) -> Float64:
        """Sound of one stroke, without background.

        Args:
            hole: times of the stroke.
            broken: bits that break in this stroke, or came broken.
            rate_hz: samples per second.
            length: samples.
            seed: of the stroke's noise.
            spread_db: standard deviation of each bit's level from stroke to stroke.

        Returns:
            Shape (length, microphones), float64; steady cutting has a standard deviation of about 1 directly.
        """
        rng = generator(seed, "head stroke")
        levels = self.levels * 10.0 ** (rng.normal(0.0, spread_db, len(self.levels)) / 20.0)
        direct, whole = self._excitation(hole, broken, levels, rate_hz, length, seed)
        size = fft.next_fast_len(length + _TAPS, real=True)
        out = np.zeros((size // 2 + 1, direct.shape[1]), np.complex128)
        for lot, modes in enumerate(self.head.modes):
            colour = fft.rfft(_ringing(modes, rate_hz), size)[:, None]
            heard = fft.rfft(direct[lot], size, axis=1).T
            out += colour * (heard + fft.rfft(whole[lot], size)[:, None] * self._enclosure(lot, rate_hz, size))
        return np.asarray(fft.irfft(out, size, axis=0)[:length], np.float64)

    def _excitation(
        self, hole: Hole, broken: Sequence[Break], levels: Float64, rate_hz: float, length: int, seed: int
    ) -> tuple[Float32, Float32]:
        """What drives the modes: (lots, microphones, length) directly and (lots, length) into the enclosure."""
        gains, shifts = self.paths(rate_hz)
        lots, count = len(self.head.modes), gains.shape[1]
        direct, whole = np.zeros((lots, count, length), np.float32), np.zeros((lots, length), np.float32)
        size = float(np.sqrt(np.mean(gains**2)))
        bits = _Bits(self.head, hole, rate_hz, length, seed)
        hurt = {one.spindle: one.damage for one in broken}
        for i, level in enumerate(levels):
            dry = np.float32(level) * (bits.damaged(i, hurt[i]) if i in hurt else bits.whole(i))
            lot = int(self.head.lot[i])
            whole[lot] += size * dry
            for k in range(count):
                s = shifts[i, k]
                direct[lot, k, s:] += np.float32(gains[i, k]) * dry[: length - s]
        return direct, whole

    def _enclosure(self, lot: int, rate_hz: float, size: int) -> Complex:
        """Transfer functions by the enclosure's walls to each microphone, shape (frequencies, microphones)."""
        rng = generator(derived(0, self.name), "enclosure", lot)
        n = min(int(0.7 * self.rt60_s * rate_hz), size // 2)
        tails = (
            rng.standard_normal((n, len(self.sensitivity)))
            * np.exp(-6.91 * np.arange(n) / rate_hz / self.rt60_s)[:, None]
        )
        tails[: int(0.002 * rate_hz)] = 0.0
        tails *= self.reflected * self.sensitivity / np.sqrt(np.sum(tails**2, axis=0))
        spectrum: Complex = fft.rfft(tails, size, axis=0)
        return spectrum

    def background(self, *, rate_hz: float, length: int, seed: int) -> Float64:
        """Coolant and hall, of standard deviation about 1 at each microphone but for the hall's bangs and air.

        Args:
            rate_hz: samples per second; a multiple of 1/5 Hz.
            length: samples.
            seed: of the noise.
        """
        rng = generator(seed, "head background")
        bearing, count = uniform(rng, 0.0, 2.0 * pi), len(self.sensitivity)
        lead = self.head.microphones_m @ np.array([np.cos(bearing), np.sin(bearing)]) / self.sound_speed_m_s
        late = np.rint((lead - lead.min()) * rate_hz).astype(int)
        first, lag = int(uniform(rng, 0.0, 3.0) * rate_hz), int(late.max())
        hall = ambience(rate_hz, seed, self.name).read(first, first + lag + length)
        spray = band(uniform(rng, 800.0, 2000.0), uniform(rng, 6000.0, 12_000.0))
        out = np.empty((length, count))
        for k in range(count):
            own = shaped(rate_hz, seed, f"{self.name}/coolant/{k}", spray).read(0, length)
            afar = hall[lag - late[k] : lag - late[k] + length]
            out[:, k] = np.sqrt(self.coolant) * own + np.sqrt(1.0 - self.coolant) * afar
        return out * self.sensitivity


class _Bits:
    """The excitations of a head's bits in one stroke."""

    def __init__(self, head: Head, hole: Hole, rate_hz: float, length: int, seed: int) -> None:
        self._head, self._hole, self._rate, self._length, self._seed = head, hole, rate_hz, length, seed
        self._share = hole.envelope(np.arange(length) / rate_hz).astype(np.float32)
        self._turn = ((2.0 * pi * head.bit.rpm / 30.0 / rate_hz) * np.arange(length)).astype(np.float32)
        self._starts = generator(seed, "head stroke", "starts").uniform(0.0, 0.01, len(head.speeds))

    def whole(self, i: int) -> Float32:
        """Noise that the lips modulate, with bursts of jammed chips, shape (length,)."""
        rng, head = generator(self._seed, "head stroke", "bit", i), self._head
        noise = rng.standard_normal(self._length, dtype=np.float32)
        phase = self._turn * np.float32(head.speeds[i]) + np.float32(rng.uniform(0.0, 2.0 * pi))
        noise *= self._share * (1.0 + np.float32(head.bit.lips) * np.cos(phase))
        self._jam(noise, rng)
        late = int(self._starts[i] * self._rate)
        return np.concatenate([np.zeros(late, np.float32), noise[: self._length - late]])

    def _jam(self, out: Float32, rng: np.random.Generator) -> None:
        """Bursts as a single drill has them (`drilling`): 1-3 ms, of 0.5 to 2.5 times the level of cutting."""
        hole = self._hole
        count = int(rng.poisson(self._head.bit.jams_per_s * (hole.through_s - hole.touch_s)))
        for start in rng.uniform(hole.touch_s, hole.through_s, count):
            first, n = int(start * self._rate), int(rng.uniform(1e-3, 3e-3) * self._rate)
            burst = rng.uniform(0.5, 2.5) * np.hanning(n) * rng.standard_normal(n)
            piece = out[first : first + n]
            piece += burst[: len(piece)].astype(np.float32)

    def damaged(self, i: int, damage: Damage) -> Float32:
        """The same of the bit at fault: what a single drill (`drilling`) does, before its lot's modes."""
        modes = self._head.modes[int(self._head.lot[i])]
        bit, seed = replace(self._head.bit, modes=modes), derived(self._seed, "bit", i)
        dry = drill(bit, self._hole, damage, rate_hz=self._rate, length=self._length, seed=seed) / bit.level
        size = fft.next_fast_len(self._length + _TAPS, real=True)
        driving = fft.irfft(fft.rfft(dry, size) / fft.rfft(_ringing(modes, self._rate), size), size)
        return np.asarray(driving[: self._length], np.float32)


def _ringing(modes: Modes, rate_hz: float) -> Float64:
    """Impulse response of modes, of unit energy."""
    impulse = modes.apply(np.concatenate([[1.0], np.zeros(_TAPS - 1)]), rate_hz)
    return np.asarray(impulse / np.sqrt(np.sum(impulse**2)), np.float64)
