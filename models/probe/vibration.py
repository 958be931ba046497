"""Recordings of vibration as one feature vector a window: the commissioned detector's own, so that both see alike.

Encoders hear sound; on an accelerometer the baseline is all there is, and what a running machine's heads read
(`models.heads.vibration`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.anomaly.chain import windows
from models.anomaly.vectors import Extraction, extraction
from models.heads.vibration import vector
from models.probe.seconds import Part
from pipeline.errors import BadInput
from pipeline.messages import NS, Float32


@dataclass(frozen=True, slots=True, eq=False)
class Shake:
    """One second of vibration.

    Attributes:
        start_s: where it begins in the recording.
        vector: features (k,), float32.
        silent: never true: a window without a vector is none.
        clipped: not known of vibration, false.
    """

    start_s: float
    vector: Float32
    silent: bool = False
    clipped: bool = False


def shakes(part: Part) -> Iterator[Shake]:
    """The windows of a part, half a second apart; incomplete and silent ones are left out.

    Raises:
        BadInput: it is no vibration.
    """
    if part.stream.modality != "vibration":
        raise BadInput("modality", f"a recording of modality '{part.stream.modality}' is no vibration")
    features = extraction(part.stream)
    for window in windows(part.stream, features, part.segments()):
        if (found := vector(features, window)) is not None:
            yield Shake(part.t0_ns / NS + max(0.0, window.n0 / part.stream.rate.hz), found)


class VibrationMean:
    """The features of one kind of accelerometer as an extractor of probes and heads.

    Args:
        features: of the sensor.
    """

    name = "logmel"

    def __init__(self, features: Extraction) -> None:
        self.features = features
        self.digest = f"vibration {features.hash}"

    def vectors(self, clips: Sequence[Shake]) -> dict[str, Float32]:
        """Features (n, k)."""
        return {"": np.stack([c.vector for c in clips])}
