"""What a microphone near a machine hears: structure, spindle, drive, coolant, room, microphone, converter.

Every number that an installation would change is drawn from the seed within the ranges given at `Pickup`, so that
nothing learned from these signals can rest on one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from connectors.simulator.ambience import ambience
from connectors.simulator.modes import Modes
from connectors.simulator.noise import band, high_pass, impulse_response, low_pass, shaped, tilt
from connectors.simulator.rotation import Harmonics, Rotation
from connectors.simulator.seeds import generator, log_uniform, uniform
from connectors.simulator.tracks import BLOCK, Convolved, Float64, Mix, Recent, Track

FULL_SCALE = 32_768.0


@dataclass(frozen=True, slots=True)
class Pickup:
    """A microphone in its place; `draw` gives plausible ones.

    Attributes:
        modes: machine structure between tool and air, 700-6,000 Hz, damping 1-3 %.
        lines: number of spindle harmonics, 6-30, falling with 1/k.
        tilt_db: slope of the background without cutting per octave, -3 to -9.
        coolant_db: level of the coolant (1-8 kHz) against the rest of the background, or None without coolant.
        carrier_hz: switching frequency of the drive, 2-16 kHz, or None if it cannot be heard.
        sideband_db: level of the drive's lines above the rest of the background's level per 100 Hz, 0-40.
        pole_pairs: of the spindle motor.
        slip: of the spindle motor, 0-0.05.
        rt60_s: reverberation time, 0.2-0.6.
        direct: share of direct sound in the response, 0.3-0.8.
        roll_off_hz: corner of the microphone's fourth-order low-pass, 4-16 kHz.
        snr_db: level of normal work over the background, -5 to 30.
        level_dbfs: level of normal work, -26 to -14.
        self_noise_dbfs: noise of the microphone itself.
        agc: whether the recorder levels its gain over the last second.
    """

    modes: Modes
    lines: int
    tilt_db: float
    coolant_db: float | None
    carrier_hz: float | None
    sideband_db: float
    pole_pairs: int
    slip: float
    rt60_s: float
    direct: float
    roll_off_hz: float
    snr_db: float
    level_dbfs: float
    self_noise_dbfs: float
    agc: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, snr_db: tuple[float, float] = (3.0, 20.0)) -> Pickup:
        """One installation, its gain fixed."""
        return cls(
            modes=Modes.draw(rng, int(rng.integers(5, 10)), (700.0, 6000.0), (0.01, 0.03), direct=0.15),
            lines=int(rng.integers(6, 31)),
            tilt_db=uniform(rng, -9.0, -3.0),
            coolant_db=uniform(rng, -12.0, 6.0) if rng.random() < 0.7 else None,
            carrier_hz=log_uniform(rng, 2000.0, 16_000.0) if rng.random() < 0.7 else None,
            sideband_db=uniform(rng, 0.0, 30.0),
            pole_pairs=int(rng.integers(1, 4)),
            slip=uniform(rng, 0.0, 0.05),
            rt60_s=uniform(rng, 0.2, 0.6),
            direct=uniform(rng, 0.3, 0.8),
            roll_off_hz=log_uniform(rng, 4000.0, 16_000.0),
            snr_db=uniform(rng, *snr_db),
            level_dbfs=uniform(rng, -26.0, -14.0),
            self_noise_dbfs=uniform(rng, -84.0, -66.0),
            agc=False,
        )

    def of_start(self, rng: np.random.Generator) -> Pickup:
        """The same installation in another start of its machine: gain, coolant and background are others."""
        return replace(
            self,
            level_dbfs=uniform(rng, -34.0, -22.0),
            coolant_db=uniform(rng, -12.0, 6.0) if rng.random() < 0.6 else None,
            snr_db=self.snr_db + uniform(rng, -4.0, 4.0),
        )


class DriveLines(Track):
    """Lines at carrier ± {2, 4, 6} f_e, with f_e = pole pairs × f_r / (1 - slip)."""

    def __init__(self, rate_hz: float, rotation: Rotation, pickup: Pickup, rng: np.random.Generator) -> None:
        super().__init__(rate_hz)
        assert pickup.carrier_hz is not None
        self._rotation = rotation
        self._carrier = pickup.carrier_hz
        self._electrical = pickup.pole_pairs / (1.0 - pickup.slip)
        self._weights = rng.uniform(0.3, 1.0, 3) * np.exp(2j * pi * rng.random(3))

    def block(self, b: int) -> Float64:
        """A carrier times its even modulation."""
        t = np.arange(b * BLOCK, (b + 1) * BLOCK) / self.rate_hz
        square = np.exp(2j * self._electrical * self._rotation.block(b, self.rate_hz))
        modulation = np.zeros(BLOCK)
        power = np.ones(BLOCK, np.complex128)
        for weight in self._weights:
            power = power * square
            modulation += (weight * power).real
        return np.cos(2.0 * pi * self._carrier * t) * modulation


def background(rate_hz: float, rotation: Rotation, pickup: Pickup, seed: int, name: str) -> Track:
    """Everything that the machine sounds like without cutting, dry, with a standard deviation of about 1."""
    rng = generator(seed, "background", name)
    falling = 1.0 / np.arange(1, pickup.lines + 1) * rng.uniform(0.5, 1.5, pickup.lines)
    lines = Harmonics(rate_hz, rotation, falling, rng.uniform(0.0, 2.0 * pi, pickup.lines))
    floor = uniform(rng, 0.3, 0.9)
    parts: list[tuple[Track, float, int]] = [
        (lines, np.sqrt(2.0 * (1.0 - floor**2) / float(np.sum(falling**2))), 0),
        (shaped(rate_hz, seed, f"{name}/floor", tilt(pickup.tilt_db, uniform(rng, 100.0, 400.0))), floor, 0),
    ]
    if pickup.coolant_db is not None:
        spray = band(uniform(rng, 800.0, 2000.0), uniform(rng, 5000.0, 9000.0))
        parts.append((shaped(rate_hz, seed, f"{name}/coolant", spray), 10.0 ** (pickup.coolant_db / 20.0), 0))
    if pickup.carrier_hz is not None and pickup.carrier_hz < 0.4 * rate_hz:
        local = floor * 10.0 ** (pickup.tilt_db * np.log2(pickup.carrier_hz / 250.0) / 20.0)
        drive = DriveLines(rate_hz, rotation, pickup, rng)
        parts.append((drive, float(local) * 10.0 ** (pickup.sideband_db / 20.0), 0))
    return Mix(parts)


def room(rate_hz: float, pickup: Pickup, seed: int, name: str) -> Float64:
    """Impulse response of room and microphone of about unit energy: a direct path and decaying reflections."""
    rng = generator(seed, "room", name)
    length = min(int(0.75 * pickup.rt60_s * rate_hz), BLOCK - 4096)
    t = np.arange(length) / rate_hz
    tail = rng.standard_normal(length) * np.exp(-6.91 * t / pickup.rt60_s)
    tail[: int(rng.uniform(0.002, 0.01) * rate_hz)] = 0.0
    response = np.sqrt(1.0 - pickup.direct**2) * tail / np.sqrt(np.sum(tail**2))
    response[0] = pickup.direct

    def capsule(f: Float64) -> Float64:
        return low_pass(f, pickup.roll_off_hz, 4) * high_pass(f, 30.0)

    short = impulse_response(rate_hz, capsule)
    heard: Float64 = fftconvolve(response, short)[:BLOCK]
    return heard


class Recorder(Track):
    """Gain, optional levelling, clipping and 16-bit quantisation; the samples are integers in float64."""

    def __init__(self, track: Track, gain: float, *, agc: bool = False) -> None:
        super().__init__(track.rate_hz)
        self._track, self._gain, self._agc = track, gain, agc
        self._frame = BLOCK // 64
        self._energies = Recent(self._energy, 4)

    def block(self, b: int) -> Float64:
        """Clipped and rounded."""
        x = self._gain * self._track.read(b * BLOCK, (b + 1) * BLOCK)
        if self._agc:
            x = x * self._levelling(b)
        return np.clip(np.rint(x * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1.0)

    def _levelling(self, b: int) -> Float64:
        """Gain towards -20 dBFS within ±12 dB from the level over the last 64 frames; linear between frames."""
        before = self._energies(b - 1) if b > 0 else np.repeat(self._energies(0)[:1], 64)
        sums = np.concatenate([[0.0], np.cumsum(np.concatenate([before, self._energies(b)]))])
        level = np.sqrt((sums[64:] - sums[:-64]) / 64.0)
        gains = np.clip(0.1 / np.maximum(level, 1e-6), 0.25, 4.0)
        levelling: Float64 = np.interp(np.arange(BLOCK) / self._frame, np.arange(65), gains)
        return levelling

    def _energy(self, b: int) -> Float64:
        x = self._gain * self._track.read(b * BLOCK, (b + 1) * BLOCK)
        energy: Float64 = np.mean(x.reshape(64, self._frame) ** 2, axis=1)
        return energy


def machine_sound(work: Track, rotation: Rotation, pickup: Pickup, seed: int, name: str) -> Track:
    """Dry sound of a machine: its work, where normal work has a standard deviation of about 1, over its background."""
    quiet = background(work.rate_hz, rotation, pickup, seed, name)
    return Mix([(work, 1.0, 0), (quiet, 10.0 ** (-pickup.snr_db / 20.0), 0)])


class Microphone:
    """The way from a machine's dry sound to 16-bit samples.

    Args:
        dry: from `machine_sound`.
        pickup: machine, place and microphone.
        seed: of all noise.
        name: of the microphone.
        others: further dry sound at the microphone (neighbours, shop), in units of normal work.

    Attributes:
        track: 16-bit samples as integers in float64, shape (n,).
    """

    def __init__(
        self,
        dry: Track,
        pickup: Pickup,
        *,
        seed: int,
        name: str,
        others: tuple[tuple[Track, float, int], ...] = (),
    ) -> None:
        rate = dry.rate_hz
        heard = Mix([(dry, 1.0, 0), *others]) if others else dry
        wet = Convolved(heard, room(rate, pickup, seed, name))
        gain = 10.0 ** (pickup.level_dbfs / 20.0)
        own = 10.0 ** ((pickup.self_noise_dbfs - pickup.level_dbfs) / 20.0)
        noisy = Mix([(wet, 1.0, 0), (shaped(rate, seed, f"{name}/self", tilt(0.0, 100.0)), own, 0)])
        self.track = Recorder(noisy, gain, agc=pickup.agc)

    def read(self, n0: int, n1: int) -> NDArray[np.int16]:
        """Samples [n0, n1), int16, shape (n,)."""
        return self.track.read(n0, n1).astype(np.int16)


def record(
    work: Track, rpm: float, pickup: Pickup, rng: np.random.Generator, *, seed: int, name: str, length: int
) -> NDArray[np.int16]:
    """The first samples of one machine in a hall that is 3 dB louder to 8 dB softer than the machine's background.

    Args:
        work: dry, normal work with a standard deviation of about 1.
        rpm: of the spindle.
        pickup: machine, place and microphone.
        rng: gives the level of the hall.
        seed: of all noise.
        name: of the recording.
        length: samples.

    Returns:
        int16, shape (length,).
    """
    hall = 10.0 ** (-(pickup.snr_db + uniform(rng, -3.0, 8.0)) / 20.0)
    dry = machine_sound(work, Rotation(rpm, 0.002, seed, name), pickup, seed, name)
    others = ((ambience(work.rate_hz, seed, name), hall, 0),)
    return Microphone(dry, pickup, seed=seed, name=name, others=others).read(0, length)
