"""Prototypes: class means drawn towards the mean of all, for one to five clips per class."""

from __future__ import annotations

import math

import numpy as np

from models.heads.head import Floats, Head, Ints, standard
from pipeline.messages import Float32

SHRINKAGE = 0.3
_SURE = 0.9
_LEAST = 1e-9


def fit_prototypes(x: Float32, y: Ints, labels: tuple[str, ...], shrinkage: float = SHRINKAGE) -> Head:
    """Learn prototypes; nearest in standardised Euclidean distance is the answer, so the head is linear.

    Distances become confidences by a temperature at which a clip that lies on a prototype has a probability of
    0.9 against another one at the mean distance; calibration on left-out clips replaces it where there are enough.

    Args:
        x: features (n, k).
        y: class of each, (n,), indices into `labels`; every class has a clip.
        labels: class names.
        shrinkage: share of the mean of all classes in each prototype.
    """
    scale = standard(x)
    z = scale(x)
    means = np.stack([z[y == c].mean(axis=0) for c in range(len(labels))])
    means = (1.0 - shrinkage) * means + shrinkage * means.mean(axis=0)
    temperature = max(_mean_square_distance(means) / (2.0 * math.log(_SURE / (1.0 - _SURE))), _LEAST)
    layer = (means.T / temperature, -(means * means).sum(axis=1) / (2.0 * temperature))
    return Head("prototypes", labels, (scale.into(layer),))


def _mean_square_distance(means: Floats) -> float:
    n = len(means)
    if n < 2:
        return 0.0
    centred = means - means.mean(axis=0)
    return float(2.0 * (centred * centred).sum() / (n - 1))
