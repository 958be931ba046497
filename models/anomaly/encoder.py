"""A model package as the embedder of commissioning."""

from __future__ import annotations

from models.impact.pooling import pool
from models.packages import Package
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.messages import Float32


class PackageEmbedder:
    """An encoder package with a pooling.

    Args:
        package: of kind ``encoder``, on images of `PAPER`.
        pooling: one of `models.impact.pooling.POOLINGS`; ``"band"`` keeps where in the spectrum energy lies.

    Raises:
        BadInput: another kind of package, another front end, or a pooling that it does not have.
    """

    def __init__(self, package: Package, pooling: str = "band") -> None:
        card = package.card
        if card.kind != "encoder" or card.grid is None:
            raise BadInput("package", f"model '{card.name}' is no encoder with a grid of tokens")
        card.takes(PAPER)
        self.encoder, self.pooling = package.digest, pooling
        self._session, self._grid, self._cls = package.session(), card.grid, card.cls

    def vectors(self, images: Float32) -> Float32:
        """Log-Mel images (n, 128, 128) → embeddings (n, k)."""
        tokens = self._session.first(images[:, None])
        return pool(tokens, self.pooling, self._grid, self._cls, images)
