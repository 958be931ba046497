"""The two-layer head of the paper's probe: Linear(k, 256), ReLU, Linear(256, C), trained by AdamW.

Values as published with DINOS (arXiv 2507.06481 and its code): rate 5·10⁻⁴ falling as a cosine to 10⁻⁶, weight decay
0.05, batches of 32, at most 200 epochs, gradient norm clipped to 1, patience 10. The patience looks at a fifth of the
training part that is held out for it, never at the test part. Plain numpy in float32: small enough to need no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.heads.head import Head, Ints, standard
from pipeline.messages import Float32

HIDDEN, BATCH, EPOCHS, PATIENCE = 256, 32, 200, 10
RATE, LAST_RATE, DECAY, CLIP = 5e-4, 1e-6, 0.05, 1.0
HELD_OUT = 0.2


def fit_two_layer(x: Float32, y: Ints, labels: tuple[str, ...], groups: Sequence[str], seed: int = 0) -> Head:
    """Learn the head.

    Args:
        x: features (n, k).
        y: class of each, (n,), indices into `labels`.
        labels: class names.
        groups: of each clip: whole groups are held out where every class has two, else single clips.
        seed: of initial weights, order and hold-out.
    """
    rng = np.random.default_rng(seed)
    scale = standard(x)
    z = scale(x).astype(np.float32)
    learn, watch = _held_out(y, groups, HELD_OUT, rng)
    net = Net.start(z.shape[1], HIDDEN, len(labels), rng)
    optimiser = AdamW(net.parameters, DECAY)
    best, best_loss, bad = [p.copy() for p in net.parameters], math.inf, 0
    for epoch in range(EPOCHS):
        rate = LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
        for rows in _batches(learn, BATCH, rng):
            optimiser.step(clipped(net.gradients(z[rows], y[rows]), CLIP), rate)
        loss = net.loss(z[watch], y[watch])
        if loss < best_loss:
            best, best_loss, bad = [p.copy() for p in net.parameters], loss, 0
        else:
            bad += 1
            if bad >= PATIENCE:
                break
    w1, b1, w2, b2 = (p.astype(np.float64) for p in best)
    return Head("two_layer", labels, (scale.into((w1, b1)), (w2, b2)))


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """Parameters w1 (k, h), b1 (h,), w2 (h, C), b2 (C,), float32, and the derivatives of the mean cross-entropy."""

    parameters: list[Float32]

    @classmethod
    def start(cls, k: int, hidden: int, classes: int, rng: np.random.Generator) -> Net:
        """Uniform in ±1/√(inputs), as PyTorch's `Linear` begins."""

        def layer(inputs: int, outputs: int) -> list[Float32]:
            bound = 1.0 / math.sqrt(inputs)
            shapes = ((inputs, outputs), (outputs,))
            return [rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes]

        return cls([*layer(k, hidden), *layer(hidden, classes)])

    def loss(self, z: Float32, y: Ints) -> float:
        """Mean cross-entropy."""
        p = self._forward(z)[1]
        return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())

    def gradients(self, z: Float32, y: Ints) -> list[Float32]:
        """Derivatives by each parameter."""
        hidden, p = self._forward(z)
        p[np.arange(len(y)), y] -= 1.0
        p /= len(y)
        inner = (p @ self.parameters[2].T) * (hidden > 0)
        return [z.T @ inner, inner.sum(axis=0), hidden.T @ p, p.sum(axis=0)]

    def _forward(self, z: Float32) -> tuple[Float32, Float32]:
        w1, b1, w2, b2 = self.parameters
        hidden = np.maximum(z @ w1 + b1, np.float32(0.0))
        logits = hidden @ w2 + b2
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return hidden, e / e.sum(axis=1, keepdims=True)


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019) on arrays that it changes in place."""

    def __init__(self, parameters: Sequence[Float32], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Float32], rate: float) -> None:
        """One step of size `rate`, with β = (0.9, 0.999) and ε = 10⁻⁸."""
        self._steps += 1
        first_share, second_share = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        keep = np.float32(1 - rate * self._decay)
        for p, g, m, v in zip(self._parameters, gradients, self._first, self._second, strict=True):
            np.add(m, np.float32(0.1) * (g - m), out=m)
            np.add(v, np.float32(0.001) * (g * g - v), out=v)
            length = np.sqrt(v / np.float32(second_share)) + np.float32(1e-8)
            np.subtract(p * keep, np.float32(rate / first_share) * m / length, out=p)


def clipped(gradients: list[Float32], norm: float) -> list[Float32]:
    """The gradients, shortened together to this norm where they are longer."""
    length = math.sqrt(sum(float((g * g).sum()) for g in gradients))
    return gradients if length <= norm else [g * np.float32(norm / (length + 1e-6)) for g in gradients]


def _batches(rows: Ints, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    order = rng.permutation(rows)
    yield from (order[i : i + size] for i in range(0, len(order), size))


def _held_out(y: Ints, groups: Sequence[str], share: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Rows to learn from and rows to watch; with a class of one clip only, both are everything."""
    names = np.asarray(groups, dtype=str)
    watch = np.zeros(len(y), bool)
    by_group = all(len(np.unique(names[y == c])) >= 2 for c in np.unique(y))
    for c in np.unique(y):
        mine = np.flatnonzero(y == c)
        if by_group:
            own = rng.permutation(np.unique(names[mine]))
            watch |= np.isin(names, own[: max(1, round(share * len(own)))])
        elif len(mine) >= 2:
            watch[rng.permutation(mine)[: max(1, round(share * len(mine)))]] = True
    whole = np.arange(len(y))
    if not watch.any() or set(np.unique(y[~watch])) != set(np.unique(y)):
        return whole, whole
    return np.flatnonzero(~watch), np.flatnonzero(watch)
