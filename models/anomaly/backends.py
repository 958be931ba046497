"""How far a vector lies from a bank of normal ones: four distances, all in standardised units.

Every back-end compares one vector at a time against arrays of fixed shape with numpy's own loops (einsum, not BLAS),
so that a score depends neither on batching nor on the number of threads. The Euclidean distances to the bank, which
several of them and the explanation need, are computed once, by `Bank`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pipeline.errors import StateError
from pipeline.messages import Float32

_TWO = np.float32(2.0)
_ZERO = np.float32(0.0)


class Bank:
    """Normal vectors in standardised units, shape (n, d), float32."""

    def __init__(self, vectors: Float32) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self._squares: Float32 = np.einsum("ij,ij->i", self.vectors, self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def distances(self, x: Float32) -> Float32:
        """Euclidean distance of x (d,) to each of them, (n,)."""
        square = np.einsum("i,i->", x, x)
        product: Float32 = np.einsum("ij,j->i", self.vectors, x)
        product *= _TWO
        squared: Float32 = self._squares + square
        squared -= product
        np.maximum(squared, _ZERO, out=squared)
        return np.sqrt(squared, out=squared)


class BackEnd(ABC):
    """A distance from normal. `fields` names the arrays that define it; `fit` makes them, `__init__` takes them."""

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    def __init__(self, **arrays: Float32) -> None:
        if set(arrays) != set(self.fields):
            raise StateError(f"back-end {self.name} needs the arrays {self.fields}, not {tuple(sorted(arrays))}")
        self.arrays: Mapping[str, Float32] = {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}

    @classmethod
    @abstractmethod
    def fit(cls, bank: Bank, everything: Float32) -> BackEnd:
        """Learn from the bank, or from all standardised normal vectors (n, d) that it was thinned from."""

    @abstractmethod
    def score(self, x: Float32, apart: Float32) -> float:
        """Distance of one standardised vector (d,), whose distances to the bank are `apart` (n,)."""


class KnnL2(BackEnd):
    """Mean Euclidean distance to the k nearest bank vectors; k = 1 below 200 of them, else 3."""

    name = "knn_l2"
    fields = ()

    @classmethod
    def fit(cls, bank: Bank, everything: Float32) -> KnnL2:  # noqa: ARG003
        """Nothing but the bank is needed."""
        return cls()

    def score(self, x: Float32, apart: Float32) -> float:  # noqa: ARG002
        """In standardised units."""
        return _nearest_mean(apart, _k(len(apart)))


class Maha(BackEnd):
    """Mahalanobis distance with the shrunk covariance S = (1 − a)·Ŝ + a·tr(Ŝ)/d·I, a = 0.3.

    The square root is taken, so that it grows with the deviation as the other back-ends do and their z can be
    compared; the ranking is that of the squared form.
    """

    name = "maha"
    fields = ("mean", "whiten")
    shrinkage: ClassVar[float] = 0.3

    @classmethod
    def fit(cls, bank: Bank, everything: Float32) -> Maha:  # noqa: ARG003
        """Whitening matrix W with W'·W = S⁻¹ from the eigenvectors of S."""
        x = everything.astype(np.float64)
        mean = x.mean(axis=0)
        centred = x - mean
        cov = centred.T @ centred / max(len(x) - 1, 1)
        d = len(cov)
        shrunk = (1.0 - cls.shrinkage) * cov + cls.shrinkage * max(float(np.trace(cov)) / d, 1e-6) * np.eye(d)
        values, vectors = np.linalg.eigh(shrunk)
        return cls(mean=mean.astype(np.float32), whiten=(vectors / np.sqrt(values)).T.astype(np.float32))

    def score(self, x: Float32, apart: Float32) -> float:  # noqa: ARG002
        """In standard deviations of the shrunk normal distribution."""
        y = np.einsum("ij,j->i", self.arrays["whiten"], x - self.arrays["mean"])
        return float(np.sqrt(np.einsum("i,i->", y, y)))


class PcaRes(BackEnd):
    """Norm of what the leading components of normal do not explain: ‖x − μ − V·V'(x − μ)‖.

    V keeps 95 % of the variance with at most n/2 components.
    """

    name = "pca_res"
    fields = ("mean", "components")
    kept: ClassVar[float] = 0.95

    @classmethod
    def fit(cls, bank: Bank, everything: Float32) -> PcaRes:  # noqa: ARG003
        """Principal components from the eigenvectors of the covariance."""
        x = everything.astype(np.float64)
        mean = x.mean(axis=0)
        centred = x - mean
        values, vectors = np.linalg.eigh(centred.T @ centred)
        variance = np.maximum(values[::-1], 0.0)
        share = np.cumsum(variance) / max(float(variance.sum()), 1e-12)
        most = max(1, min(len(x) // 2, x.shape[1] - 1))
        count = min(int(np.searchsorted(share, cls.kept)) + 1, most)
        components = np.ascontiguousarray(vectors[:, ::-1].T[:count])
        return cls(mean=mean.astype(np.float32), components=components.astype(np.float32))

    def score(self, x: Float32, apart: Float32) -> float:  # noqa: ARG002
        """In standardised units."""
        centred = x - self.arrays["mean"]
        components = self.arrays["components"]
        rest = centred - np.einsum("ij,i->j", components, np.einsum("ij,j->i", components, centred))
        return float(np.sqrt(np.einsum("i,i->", rest, rest)))


class Ldn(BackEnd):
    """Local density normalisation: min over y of D(x, y) / mean distance of y to its 4 nearest bank vectors.

    Never used alone: with few normals of one occasion the local density is an artefact (arXiv 2509.10951,
    2602.18777). It joins the fusion when a regime has at least three starts, and no density counts as more than twice
    or less than half the median one: else one lonely vector of the bank would vouch for all that lies around it.
    """

    name = "ldn"
    fields = ("density",)
    neighbours: ClassVar[int] = 4
    believed: ClassVar[float] = 2.0

    @classmethod
    def fit(cls, bank: Bank, everything: Float32) -> Ldn:  # noqa: ARG003
        """Mean distance to the nearest others within the bank."""
        k = min(cls.neighbours, len(bank) - 1)
        density = np.ones(len(bank), np.float32)
        for i, y in enumerate(bank.vectors):
            apart = bank.distances(y)
            apart[i] = np.inf
            if k > 0:
                density[i] = np.partition(apart, k - 1)[:k].mean()
        typical = max(float(np.median(density)), 1e-3)
        return cls(density=np.clip(density, typical / cls.believed, typical * cls.believed))

    def score(self, x: Float32, apart: Float32) -> float:  # noqa: ARG002
        """About 1 inside the bank."""
        return float(np.minimum.reduce(apart / self.arrays["density"]))


BACK_ENDS: Mapping[str, type[BackEnd]] = {b.name: b for b in (KnnL2, Maha, PcaRes, Ldn)}


def _k(n: int) -> int:
    return 1 if n < 200 else 3


def _nearest_mean(d: Float32, k: int) -> float:
    if k == 1:
        return float(np.minimum.reduce(d))
    nearest = d.copy()
    nearest.partition(k - 1)
    nearest = nearest[:k]
    nearest.sort()
    return float(np.add.reduce(nearest) / np.float32(k))
