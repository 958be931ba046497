"""A simulated machine for the tests: noise shaped by a spectrum that differs a little from start to start."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.anomaly.commission import Normal
from pipeline.messages import Anchor, Rate, Segment, Stream

ACC = Stream("lathe", "acc", 0, "vibration", Rate(2000), 2, "<f4", "mg")
SLOW = Stream("fan", "acc", 0, "vibration", Rate(50), 3, "<f4", "g")
MIC = Stream("lathe", "mic", 0, "acoustic", Rate(48_000), 1, "<f4", "FS")


def running(
    stream: Stream, seconds: float, start: int, *, gain: float = 1.0, tone_hz: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Samples (n, channels): two lines and noise; each start has its own small change of colour and level."""
    rng = np.random.default_rng([start, seed])
    own = np.random.default_rng(1000 + start)
    rate = stream.rate.hz
    t = np.arange(round(seconds * rate)) / rate
    level = 0.1 * gain * 10 ** (own.normal(0, 0.5) / 20)
    channels = []
    for c in range(stream.channels):
        noise = np.convolve(rng.normal(size=len(t)), [1.0, own.normal(0.6, 0.02)], "same")
        lines = 0.8 * np.sin(2 * np.pi * 0.02 * rate * t + c) + 0.4 * np.sin(2 * np.pi * 0.11 * rate * t)
        extra = 1.5 * np.sin(2 * np.pi * tone_hz * t) if tone_hz else 0.0
        channels.append(level * (noise + lines + extra))
    return np.stack(channels, axis=1).astype(np.float32)


@dataclass
class Part:
    """Samples as a stretch that commissioning takes, cut into pieces of `step` samples."""

    stream: Stream
    x: np.ndarray
    step: int = 1 << 30

    def segments(self) -> Iterator[Segment]:
        for at in range(0, len(self.x), self.step):
            yield Segment(self.stream, Anchor(0, 0), at, self.x[at : at + self.step])


def normals(stream: Stream, starts: int, seconds: float = 12.0, state: str = "", first: int = 0) -> list[Normal]:
    """Recordings of normal running, one per start."""
    return [
        Normal(f"r{i}", f"s{i}", state, [Part(stream, running(stream, seconds, i))])
        for i in range(first, first + starts)
    ]
