"""The embedding beside the log-Mel: which part it plays is decided on normal data of starts that were left out.

It is a detector of its own with its own threshold, never a replacement: what the log-Mel sees stays seen. It joins a
baseline only where starts that it had not heard raise no more alarms by it than by the log-Mel, and look about as
familiar (`strangeness`); with one start nobody can tell, and it stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from models.anomaly.baseline import Baseline, Cell, counted
from models.anomaly.scale import MAD_TO_SIGMA, fit_scale
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import EMBEDDING
from pipeline.messages import Float32, Message, Window

BATCH = 32
"""Images that are embedded at once while commissioning."""
STRANGER = 1.25
"""How much stranger than by the log-Mel a start may look by the embedding that joins."""
_FLOOR = 0.25
_COMPARED = 400
_TINY = 1e-6


class Embedder(Protocol):
    """An encoder with its pooling."""

    @property
    def encoder(self) -> str:
        """Digest of the package."""

    @property
    def pooling(self) -> str:
        """How its tokens become one vector."""

    def vectors(self, images: Float32) -> Float32:
        """Log-Mel images (n, bands, frames) → embeddings (n, k)."""


def joins(cells: Sequence[tuple[Cell, Cell]], strange: tuple[float, float]) -> tuple[bool, str]:
    """Whether the embedding judges beside the log-Mel, and a sentence that tells why.

    Args:
        cells: of each state, by log-Mel and by embedding, learned from the same windows.
        strange: `strangeness` by log-Mel and by embedding.
    """
    if any(embedding.starts < 2 for _, embedding in cells):
        return False, "The embedding was left out: from one start nobody can tell what another start does to it."
    own = sum(embedding.false_alarms.count for _, embedding in cells)
    other = sum(logmel.false_alarms.count for logmel, _ in cells)
    counts = (
        f"{counted(own, 'alarm')} on left-out starts, {other} by the log-Mel; such a start looks {strange[1]:.2f} "
        f"times as far away as the own one, {strange[0]:.2f} times by the log-Mel"
    )
    if own > other or strange[1] > STRANGER * strange[0]:
        return False, f"The embedding was left out: {counts}."
    return True, f"The embedding judges beside the log-Mel: {counts}."


def strangeness(x: Float32, starts: Sequence[str], floor: Float32) -> float:
    """How many times farther a window's nearest neighbour lies in other starts than in its own; 1 if starts are alike.

    Args:
        x: normal vectors (n, d) in time order; of many, some hundred are looked at, evenly over time.
        starts: of each, at least two.
        floor: smallest spread per dimension, see `fit_scale`.
    """
    step = -(-len(x) // _COMPARED)
    z, start = fit_scale(x, floor)(x[::step]), np.asarray(starts, dtype=str)[::step]
    square = (z * z).sum(axis=1)
    apart = np.sqrt(np.maximum(square[:, None] + square[None] - 2.0 * (z @ z.T), 0.0))
    same = start[:, None] == start[None]
    near = np.abs(np.arange(len(z))[:, None] - np.arange(len(z))[None]) <= 1  # windows overlap
    own = np.where(same & ~near, apart, np.inf).min(axis=1)
    other = np.where(~same, apart, np.inf).min(axis=1)
    there = np.isfinite(own) & np.isfinite(other)
    return float(other[there].mean() / max(float(own[there].mean()), _TINY)) if there.any() else 1.0


def floor_of(x: Float32) -> Float32:
    """Smallest believed spread of each number of an embedding (n, k): a quarter of that of a typical number.

    Embeddings have no unit in which a repeatability could be known; a number that happens to stand still while
    commissioning must not outshout the others.
    """
    spread = MAD_TO_SIGMA * np.median(np.abs(x - np.median(x, axis=0)), axis=0)
    return np.full(x.shape[1], max(_FLOOR * float(np.median(spread)), _TINY), np.float32)


class EmbeddingScore(AnomalyScore):
    """`Window` of an embedding, values (k,) → one `Score` of the detector ``embedding``; each window stands for itself.

    Incomplete and silent windows give no score, nor does a baseline that was learned without an embedding.

    Args:
        baseline: what was learned.
        encoder: digest of the package that makes the embeddings.
        pooling: of the embeddings.
        state_of: as in `AnomalyScore`.

    Raises:
        BadInput: the baseline was learned with another front-end, encoder or pooling.
    """

    def __init__(
        self, baseline: Baseline, encoder: str, pooling: str, state_of: Callable[[int], str | None] | None = None
    ) -> None:
        super().__init__(baseline, state_of)
        baseline.check_encoder(encoder, pooling)

    def process(self, message: Message) -> Iterable[Message]:
        """Judge one embedding."""
        if not isinstance(message, Window) or message.values.ndim != 1:
            raise TypeError("EmbeddingScore takes a Window of an embedding")
        if not self.baseline.encoder or not message.complete or message.side.get("silent"):
            return []
        state = None if self._state_of is None else self._state_of(message.t_end_ns)
        return [self._score(message, EMBEDDING, {EMBEDDING: np.asarray(message.values, np.float32)}, state)]

    def _judge(
        self,
        cell: Cell,
        detector: str,
        vectors: Mapping[str, Float32],
        state: str | None,  # noqa: ARG002
    ) -> tuple[float, dict[str, Any]]:
        """The numbers of an embedding mean nothing to a person; how far it lies from any normal one does."""
        fused = cell.fusion.score(vectors[detector])
        text = f"sounds unlike anything commissioned ({fused.decided_by})"
        why: dict[str, Any] = {"back_end": fused.decided_by, "z": fused.z, "distance": float(fused.apart.min())}
        return fused.value, why | ({"text": text} if fused.value > cell.threshold else {})
