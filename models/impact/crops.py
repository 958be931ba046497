"""One-second crops of recordings of any rate, drawn and varied as functions of (seed, number): nothing to save."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.impact.settings import Mixing
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.messages import Float32, Rate

RATE = Rate(int(PAPER.rate_hz))
CLIP = int(PAPER.rate_hz)
SHORTEST_S = 0.25
"""Shorter recordings are refused; between this and a second they are filled with zeros, as any clip is."""
SILENT = 1e-5
_TRIES = 300
"""So many silent crops in a row mean silence: a sensor that speaks a tenth of the time never gives them by chance."""
_MARGIN_S = 0.02
"""Read on both sides of a crop for the resampler's memory."""


@dataclass(frozen=True)
class Take:
    """A stretch of one sensor's samples that crops may come from.

    Attributes:
        name: for errors and cards.
        sensor: takes of a sensor share its weight: every sensor is drawn equally often.
        rate: samples per second.
        samples: length.
        channels: one of which is drawn for vibration; sound is averaged.
        read: samples [n0, n1), float32, shape (n, channels).
        source: where it comes from, for the hours on a card.
        average: whether channels are averaged.
        full_scale: largest amplitude, for the silence guard.
        first: of the recording, the sample that is this stretch's first.
        content: fingerprint of the recording, so that another of the same name and length is not taken for it.
    """

    name: str
    sensor: str
    rate: Rate
    samples: int
    channels: int
    read: Callable[[int, int], Float32] = field(repr=False)
    source: str = ""
    average: bool = True
    full_scale: float = 1.0
    first: int = 0
    content: str = ""

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples / self.rate.hz


class Crops:
    """Clip number i, of any i: a crop of a take, resampled to 48 kHz, mixed and with noise.

    Args:
        takes: where crops come from.
        mixing: variations.
        seed: of everything.

    Raises:
        BadInput: no takes, or one is too short.
    """

    def __init__(self, takes: Sequence[Take], mixing: Mixing | None = None, seed: int = 0) -> None:
        if not takes:
            raise BadInput("empty", "there is no recording to learn from")
        for take in takes:
            if take.seconds < SHORTEST_S:
                raise BadInput("short", f"{take.name}: {take.seconds:.2f} s is shorter than {SHORTEST_S} s")
        self.takes, self.mixing, self.seed = list(takes), mixing or Mixing(), seed
        self._sensors: dict[str, list[Take]] = {}
        for take in takes:
            self._sensors.setdefault(take.sensor, []).append(take)
        self._names = sorted(self._sensors)

    @property
    def sensors(self) -> list[str]:
        """Names of the sensors, each drawn equally often."""
        return list(self._names)

    @property
    def digest(self) -> str:
        """Hash of takes, mixing and seed: equal digests give equal clips, as far as a take's fingerprint tells."""
        takes = [
            (t.name, t.sensor, t.rate, t.samples, t.channels, t.average, t.first, t.content) for t in self.takes
        ]  # fmt: skip
        text = repr((takes, asdict(self.mixing), self.seed, PAPER.hash))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def hours(self) -> dict[str, float]:
        """Hours of recording by source."""
        total: dict[str, float] = {}
        for take in self.takes:
            total[take.source] = total.get(take.source, 0.0) + take.seconds / 3600
        return total

    def clip(self, i: int) -> Float32:
        """Clip i at 48 kHz, float32, shape (48000,), of unit RMS before mixing.

        Raises:
            BadInput: only silence was found, or samples are not finite.
        """
        rng = np.random.default_rng([self.seed, i])
        x = self._sound(rng)
        m = self.mixing
        if rng.random() < m.mix_share:
            x = x + np.float32(10 ** (rng.uniform(*m.mix_db) / 20)) * self._sound(rng)
        if rng.random() < m.noise_share:
            x = x + np.float32(10 ** (rng.uniform(*m.noise_db) / 20)) * coloured(rng, len(x))
        return x

    def _sound(self, rng: np.random.Generator) -> Float32:
        """A crop of unit RMS; silent ones are drawn again."""
        name = ""
        for _ in range(_TRIES):
            takes = self._sensors[self._names[rng.integers(len(self._names))]]
            lengths = np.array([take.samples / take.rate.hz for take in takes])
            take = takes[rng.choice(len(takes), p=lengths / lengths.sum())]
            name, x = take.name, crop(take, rng)
            rms = float(x.std())
            if rms >= SILENT * take.full_scale:
                out: Float32 = (x - x.mean()) / np.float32(rms)
                return out
        raise BadInput("silent", f"{_TRIES} crops in a row, the last of {name}, hold only silence")


def crop(take: Take, rng: np.random.Generator) -> Float32:
    """A random second of a take at 48 kHz, float32, shape (48000,).

    Raises:
        BadInput: samples are not finite.
    """
    margin = 0 if take.rate == RATE else round(_MARGIN_S * take.rate.hz)
    length = round(take.rate.hz)
    start = int(rng.integers(0, max(1, take.samples - length + 1)))
    n0, n1 = max(0, start - margin), min(take.samples, start + length + margin)
    x = take.read(n0, n1)
    if not np.isfinite(x).all():
        raise BadInput("not_finite", f"{take.name}: holds infinite or not-a-number samples")
    column = 0 if take.channels == 1 else int(rng.integers(take.channels))
    mono = x.mean(axis=1, dtype=np.float32) if take.average and take.channels > 1 else x[:, column]
    if take.rate != RATE:
        import soxr

        at = round((start - n0) * RATE.hz / take.rate.hz)
        mono = soxr.resample(np.ascontiguousarray(mono), take.rate.hz, RATE.hz)[at:]
    mono = mono[:CLIP]
    out: Float32 = np.pad(mono, (0, CLIP - len(mono)))
    return out


def coloured(rng: np.random.Generator, samples: int) -> Float32:
    """Noise of unit RMS whose power falls by 0 to 6 dB an octave, float32, shape (samples,)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    f = np.arange(1, len(spectrum) + 1)
    x = np.fft.irfft(spectrum * f ** -rng.uniform(0.0, 1.0), samples)
    out: NDArray[Any] = x / x.std()
    return out.astype(np.float32)
