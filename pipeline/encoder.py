"""How a lane makes embeddings of sound: an encoder package with a pooling, or the time mean of the image itself."""

from __future__ import annotations

import hashlib

from models.impact import pooling
from models.packages import Card
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.lineup import LOGMEL
from pipeline.messages import Float32
from pipeline.results import canonical


class Encoder:
    """How a lane makes embeddings with one encoder.

    Attributes:
        digest: of the package, or `LOGMEL`.
        model: name and version, for people.
        settings: hash of package, features and pooling.
        width: numbers in an embedding.
    """

    def __init__(self, digest: str, how: str | None, card: Card | None) -> None:
        self.digest = digest
        self._card = card
        if card is None:
            self.how, self.model, self.width = "", LOGMEL, PAPER.bands
        else:
            self.how, self.model = how or card.pooling, f"{card.name} {card.version}"
            self.width = self._width(card)
        said = {"encoder": digest, "pooling": self.how, "features": PAPER.hash}
        self.settings = hashlib.sha256(canonical(said)).hexdigest()[:16]

    def _width(self, card: Card) -> int:
        if card.kind != "encoder" or card.grid is None:
            raise BadInput(
                "kind", f"'{card.name}' {card.version} is of kind {card.kind}, or without tokens: no encoder"
            )
        card.takes(PAPER)
        if card.input.shape != (1, PAPER.bands, PAPER.frames):
            raise BadInput("shape", f"encoder '{card.name}' reads rows of shape {card.input.shape}, not one image")
        return pooling.width(self.how, card.grid, card.outputs[0].shape[1], PAPER.bands, card.cls)

    def vector(self, image: Float32, tokens: Float32 | None) -> Float32:
        """The embedding (width,) of an image (bands, frames) and of what the encoder made of it (tokens, d)."""
        if self._card is None:
            mean: Float32 = pooling.time_mean(image[None])[0]
            return mean
        assert self._card.grid is not None
        assert tokens is not None
        rows = pooling.pool(tokens[None], self.how, self._card.grid, self._card.cls, image[None])
        vector: Float32 = rows[0]
        return vector
