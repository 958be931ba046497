"""The honest baseline: logistic regression on the levels of 21 bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.drill.data import Float64

_STEPS = 100
_CLOSE = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """A fitted model: standardise, weigh, add.

    Attributes:
        mean: of the features, shape (d,).
        scale: of the features, shape (d,).
        weights: shape (d,).
        bias: of the logit.
    """

    mean: Float64
    scale: Float64
    weights: Float64
    bias: float

    def logit(self, x: Float64) -> Float64:
        """Log odds of class 1 of features (n, d), shape (n,)."""
        z: Float64 = (x - self.mean) / self.scale @ self.weights + self.bias
        return z

    def probability(self, x: Float64) -> Float64:
        """Probability of class 1 of features (n, d), shape (n,)."""
        p: Float64 = _sigmoid(self.logit(x))
        return p


def _sigmoid(z: Float64) -> Float64:
    p: Float64 = 0.5 * (1.0 + np.tanh(0.5 * z))
    return p


def fit_logistic(x: Float64, target: Float64, c: float) -> Logistic:
    """Minimise |w|²/2 + c × (sum of cross-entropies) by Newton's method; the bias is not penalised.

    Args:
        x: features, shape (n, d).
        target: probabilities of class 1, shape (n,), 0-1; mixed sounds have others than 0 and 1.
        c: inverse of the penalty.
    """
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    A = np.column_stack([(x - mean) / scale, np.ones(len(x))])
    penalty = np.ones(A.shape[1])
    penalty[-1] = 1e-9
    w = np.zeros(A.shape[1])

    def cost(v: Float64) -> float:
        z = A @ v
        return float(0.5 * np.sum(penalty * v * v) + c * np.sum(np.logaddexp(0.0, z) - target * z))

    now = cost(w)
    for _ in range(_STEPS):
        p = _sigmoid(A @ w)
        gradient = penalty * w + c * (A.T @ (p - target))
        step = np.linalg.solve((A.T * (c * p * (1.0 - p))) @ A + np.diag(penalty), gradient)
        size = 1.0
        while size > 1e-6 and (then := cost(w - size * step)) > now:
            size *= 0.5
        w = w - size * step
        if now - then < _CLOSE * max(abs(now), 1.0):
            break
        now = then
    return Logistic(mean, scale, w[:-1], float(w[-1]))
