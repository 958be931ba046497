"""Multinomial logistic regression with an L2 penalty: the baseline that every learned model is shown beside.

Minimises  Σ cross-entropy + |W|² / (2C)  with free biases (the objective of scikit-learn's `LogisticRegression`) by
L-BFGS. With fewer clips than features the problem is solved in the span of the clips, which holds its solution.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from models.heads.head import Floats, Head, Ints, softmax, standard
from pipeline.messages import Float32

_STEPS = 500
_GRADIENT = 1e-5


def fit_logistic(x: Float32, y: Ints, labels: tuple[str, ...], c: float = 1.0) -> Head:
    """Learn a linear head.

    Args:
        x: features (n, k).
        y: class of each, (n,), indices into `labels`.
        labels: class names; those without a clip get what the penalty leaves them.
        c: inverse strength of the penalty on standardised features (C = 1 as recommended for few labels).
    """
    scale = standard(x)
    z = scale(x)
    back = None
    if z.shape[0] < z.shape[1]:
        u, s, vt = np.linalg.svd(z, full_matrices=False)
        z, back = u * s, vt
    weight, bias = _minimum(z, np.eye(len(labels))[y], c)
    if back is not None:
        weight = back.T @ weight
    return Head("linear", labels, (scale.into((weight, bias)),))


def _minimum(z: Floats, truth: Floats, c: float) -> tuple[Floats, Floats]:
    n, k = z.shape
    classes = truth.shape[1]

    def objective(flat: Floats) -> tuple[float, Floats]:
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
        options={"maxiter": _STEPS, "gtol": _GRADIENT},
    )  # fmt: skip
    return found.x[: k * classes].reshape(k, classes), found.x[k * classes :]
