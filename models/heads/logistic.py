"""Multinomial logistic regression as a head."""

from __future__ import annotations

import numpy as np

from models.heads.head import Head, Ints, standard
from models.logistic import fit_multinomial
from pipeline.messages import Float32


def fit_logistic(x: Float32, y: Ints, labels: tuple[str, ...], c: float = 1.0) -> Head:
    """Learn a linear head.

    Args:
        x: features (n, k).
        y: class of each, (n,), indices into `labels`.
        labels: class names; those without a clip get what the penalty leaves them.
        c: inverse strength of the penalty on standardised features (C = 1 as recommended for few labels).
    """
    scale = standard(x)
    return Head("linear", labels, (scale.into(fit_multinomial(scale(x), np.eye(len(labels))[y], c)),))
