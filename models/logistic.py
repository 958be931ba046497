"""Logistic regression with an L2 penalty: the plain model that every learned one is shown beside.

Two classes with probabilities as targets, by Newton's method; any number of classes, by L-BFGS. Both minimise what
scikit-learn's `LogisticRegression` does, c × Σ cross-entropy + |W|²/2 with free biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.heads.head import softmax

Float64: TypeAlias = NDArray[np.float64]

_NEWTON_STEPS = 100
_CLOSE = 1e-8
_LBFGS_STEPS = 500
_GRADIENT = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """A fitted model of two classes: standardise, weigh, add.

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
    for _ in range(_NEWTON_STEPS):
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


def fit_multinomial(z: Float64, truth: Float64, c: float) -> tuple[Float64, Float64]:
    """Minimise Σ cross-entropy + |W|² / (2c) with free biases by L-BFGS.

    With fewer rows than features the problem is solved in the span of the rows, which holds its solution.

    Args:
        z: standardised features, shape (n, k).
        truth: probabilities of the classes, shape (n, classes).
        c: inverse of the penalty.

    Returns:
        Weights (k, classes) and biases (classes,).
    """
    if z.shape[0] >= z.shape[1]:
        return _minimum(z, truth, c)
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    weight, bias = _minimum(u * s, truth, c)
    return vt.T @ weight, bias


def _minimum(z: Float64, truth: Float64, c: float) -> tuple[Float64, Float64]:
    n, k = z.shape
    classes = truth.shape[1]

    def objective(flat: Float64) -> tuple[float, Float64]:
        weight, bias = flat[: k * classes].reshape(k, classes), flat[k * classes :]
        logits = z @ weight + bias
        top = logits.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
        loss = float(log_sum.sum() - (logits * truth).sum()) + float((weight * weight).sum()) / (2 * c)
        error = softmax(logits) - truth
        gradient = np.concatenate([(z.T @ error + weight / c).ravel(), error.sum(axis=0)])
        return loss / n, gradient / n

    found = minimize(
        objective, np.zeros((k + 1) * classes), jac=True, method="L-BFGS-B",
        options={"maxiter": _LBFGS_STEPS, "gtol": _GRADIENT},
    )  # fmt: skip
    return found.x[: k * classes].reshape(k, classes), found.x[k * classes :]
