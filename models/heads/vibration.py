"""What a head reads of an accelerometer: one vector a window, by one code while it is taught, judged and run.

Encoders hear sound. Of vibration a head reads what the anomaly detector compares: of each axis the time mean of the
log-Mel less its own mean, and the level, crest, kurtosis and octave bands that this takes away (`Extraction`). Levels
are decibels of the sensor's unit, so that a head is bound to the unit that it was taught in.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from models.anomaly.vectors import Extraction
from models.packages import VIBRATION, Card
from pipeline.messages import Float32, Rate, Window

UNIT = "unit"
"""Key of a card's `training` under which the unit of the samples stands that a head was taught in."""


def vector(features: Extraction, window: Window) -> Float32 | None:
    """The vector (k,), float32, of a window; None where it is incomplete, silent, or not what the features are made of.

    Args:
        features: of the sensor.
        window: a log-Mel image, or one second of samples for sensors too slow for one.
    """
    found = features.vectors(window)
    return np.concatenate([found[detector] for detector in sorted(found)]) if found else None


def width(features: Extraction) -> int:
    """Numbers in a vector."""
    return sum(len(dimensions) for dimensions in features.dimensions.values())


def _same(card: Card, features: Extraction) -> bool:
    """Whether a head was taught on these features; 1666.667 Hz was once that decimal, and is 5,000/3 Hz now."""
    hz = card.input.rate_hz
    if card.input.features == features.hash or not abs(hz - features.rate.hz) <= 1e-6 * features.rate.hz:
        return card.input.features == features.hash
    decimal = Rate(*Fraction(hz).limit_denominator(1_000_000).as_integer_ratio())
    return card.input.features == replace(features, rate=decimal).hash


def misfit(card: Card, features: Extraction, unit: str) -> str | None:
    """Why a head cannot read an accelerometer, or None if it can.

    Args:
        card: of the head.
        features: of the sensor.
        unit: of the sensor's samples.
    """
    if card.encoder != VIBRATION:
        return "it reads sound"
    if card.input.shape != (width(features),) or not _same(card, features):
        return f"it reads {card.input.preset}"
    taught = card.training.get(UNIT)
    if not taught:
        return "it was taught on numbers of no unit: add the column unit to its manifest and train it again"
    return None if taught == unit else f"it was taught in {taught}"
