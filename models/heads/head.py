"""A trained head: affine layers with ReLU between them, whose first layer has the standardisation baked in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.messages import Float32

Kind: TypeAlias = Literal["linear", "two_layer", "prototypes"]
KINDS: tuple[Kind, ...] = ("linear", "two_layer", "prototypes")
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]
Layer: TypeAlias = tuple[Floats, Floats]
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """Mean and standard deviation of the training part, (k,) each; a constant feature keeps its scale."""

    mean: Floats
    std: Floats

    def __call__(self, x: Float32) -> Floats:
        """Standardised features (n, k)."""
        z: Floats = (np.asarray(x, np.float64) - self.mean) / self.std
        return z

    def into(self, layer: Layer) -> Layer:
        """The layer that does to raw features what `layer` does to standardised ones."""
        weight, bias = layer
        scaled = weight / self.std[:, None]
        return scaled, bias - self.mean @ scaled


def standard(x: Float32) -> Standard:
    """The standardisation of features (n, k): fitted on the training part and on nothing else."""
    x64 = np.asarray(x, np.float64)
    std = x64.std(axis=0)
    return Standard(x64.mean(axis=0), np.where(std < _LEAST_SPREAD, 1.0, std))


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Raw features in, logits out.

    Attributes:
        kind: how it was learned.
        labels: class names, in the order of the logits.
        layers: (weight (k_in, k_out), bias (k_out,)) each; ReLU between them.
    """

    kind: Kind
    labels: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def inputs(self) -> int:
        """Length of the feature vector."""
        return int(self.layers[0][0].shape[0])

    def logits(self, x: Float32) -> Floats:
        """Logits (n, classes) of features (n, k)."""
        h: Floats = np.asarray(x, np.float64)
        for weight, bias in self.layers[:-1]:
            h = np.maximum(h @ weight + bias, 0.0)
        weight, bias = self.layers[-1]
        return h @ weight + bias

    def at_temperature(self, temperature: float) -> Head:
        """The head whose logits are divided by `temperature`: same decisions, other confidence."""
        weight, bias = self.layers[-1]
        return replace(self, layers=(*self.layers[:-1], (weight / temperature, bias / temperature)))


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p: Floats = e / e.sum(axis=-1, keepdims=True)
    return p
