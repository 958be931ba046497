"""How far a vector lies from a bank of normal ones: five distances, all in standardised units.

Every back-end compares one vector at a time against arrays of fixed shape with numpy's own loops (einsum, not BLAS),
so that a score depends neither on batching nor on the number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StateError
from pipeline.messages import Float32

Arrays = Mapping[str, Float32]
_TINY = np.float32(1e-12)


class BackEnd(ABC):
    """A distance from normal. `fields` names the arrays that define it; `fit` makes them, `__init__` takes them."""

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]

    def __init__(self, **arrays: Float32) -> None:
        if set(arrays) != set(self.fields):
            raise StateError(f"back-end {self.name} needs the arrays {self.fields}, not {tuple(sorted(arrays))}")
        self.arrays: Arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}

    @classmethod
    @abstractmethod
    def fit(cls, bank: Float32) -> BackEnd:
        """Learn from standardised normal vectors (n, d)."""

    @abstractmethod
    def score(self, x: Float32) -> float:
        """Distance of one standardised vector (d,)."""


class KnnCos(BackEnd):
    """Mean of 1 − cos(x, y) over the k nearest bank vectors; k = 1 below 200 of them, else 3."""

    name = "knn_cos"
    fields = ("unit",)

    @classmethod
    def fit(cls, bank: Float32) -> KnnCos:
        """Keep the directions of the bank."""
        return cls(unit=_unit(bank))

    def score(self, x: Float32) -> float:
        """Between 0 (same direction) and 2."""
        unit = self.arrays["unit"]
        cos = np.einsum("ij,j->i", unit, _unit(x[None, :])[0])
        return _nearest_mean(np.float32(1.0) - cos, _k(len(unit)))


class KnnL2(BackEnd):
    """Mean Euclidean distance to the k nearest bank vectors; k as for `KnnCos`."""

    name = "knn_l2"
    fields = ("bank",)

    @classmethod
    def fit(cls, bank: Float32) -> KnnL2:
        """Keep the bank."""
        return cls(bank=bank)

    def score(self, x: Float32) -> float:
        """In standardised units."""
        bank = self.arrays["bank"]
        return _nearest_mean(distances(bank, x), _k(len(bank)))


class Maha(BackEnd):
    """Mahalanobis distance with the shrunk covariance S = (1 − a)·Ŝ + a·tr(Ŝ)/d·I, a = 0.3.

    The square root is taken, so that it grows with the deviation as the other back-ends do and their z can be
    compared; the ranking is that of the squared form.
    """

    name = "maha"
    fields = ("mean", "whiten")
    shrinkage: ClassVar[float] = 0.3

    @classmethod
    def fit(cls, bank: Float32) -> Maha:
        """Whitening matrix W with W·W' = S⁻¹ from the eigenvectors of S."""
        x = bank.astype(np.float64)
        mean = x.mean(axis=0)
        centred = x - mean
        cov = centred.T @ centred / max(len(x) - 1, 1)
        d = len(cov)
        shrunk = (1.0 - cls.shrinkage) * cov + cls.shrinkage * max(float(np.trace(cov)) / d, 1e-6) * np.eye(d)
        values, vectors = np.linalg.eigh(shrunk)
        whiten = (vectors / np.sqrt(values)).T
        return cls(mean=mean.astype(np.float32), whiten=whiten.astype(np.float32))

    def score(self, x: Float32) -> float:
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
    def fit(cls, bank: Float32) -> PcaRes:
        """Principal components by singular value decomposition."""
        x = bank.astype(np.float64)
        mean = x.mean(axis=0)
        _, s, vt = np.linalg.svd(x - mean, full_matrices=False)
        share = np.cumsum(s**2) / max(float(np.sum(s**2)), 1e-12)
        most = max(1, min(len(x) // 2, x.shape[1] - 1))
        count = min(int(np.searchsorted(share, cls.kept)) + 1, most)
        return cls(mean=mean.astype(np.float32), components=vt[:count].astype(np.float32))

    def score(self, x: Float32) -> float:
        """In standardised units."""
        centred = x - self.arrays["mean"]
        components = self.arrays["components"]
        rest = centred - np.einsum("ij,i->j", components, np.einsum("ij,j->i", components, centred))
        return float(np.sqrt(np.einsum("i,i->", rest, rest)))


class Ldn(BackEnd):
    """Local density normalisation: min over y of D(x, y) / mean distance of y to its 4 nearest bank vectors.

    Never used alone: with few normals of one occasion the local density is an artefact (arXiv 2509.10951,
    2602.18777). It joins the fusion when a regime has at least three starts.
    """

    name = "ldn"
    fields = ("bank", "density")
    neighbours: ClassVar[int] = 4

    @classmethod
    def fit(cls, bank: Float32) -> Ldn:
        """Distances within the bank."""
        k = min(cls.neighbours, len(bank) - 1)
        density = np.ones(len(bank), np.float32)
        for i, y in enumerate(bank):
            d = distances(bank, y)
            d[i] = np.inf
            if k > 0:
                density[i] = np.partition(d, k - 1)[:k].mean()
        return cls(bank=bank, density=np.maximum(density, np.float32(1e-3)))

    def score(self, x: Float32) -> float:
        """About 1 inside the bank."""
        return float((distances(self.arrays["bank"], x) / self.arrays["density"]).min())


BACK_ENDS: Mapping[str, type[BackEnd]] = {b.name: b for b in (KnnCos, KnnL2, Maha, PcaRes, Ldn)}


def distances(bank: Float32, x: Float32) -> Float32:
    """Euclidean distance of x (d,) to every row of bank (n, d)."""
    difference = bank - x
    squared: Float32 = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(squared)


def _unit(x: Float32) -> Float32:
    norm = np.sqrt(np.einsum("ij,ij->i", x, x))
    return (x / np.maximum(norm, _TINY)[:, None]).astype(np.float32)


def _k(n: int) -> int:
    return 1 if n < 200 else 3


def _nearest_mean(d: NDArray[np.float32], k: int) -> float:
    return float(d.min()) if k == 1 else float(np.sort(np.partition(d, k - 1)[:k]).mean())
