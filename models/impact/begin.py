"""Where a run begins: at another run, or at a package; of the same size, or of half the width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from models.impact.checkpoint import load_encoder
from models.impact.network import Encoder, Size
from models.impact.read_back import read_back, settle
from models.impact.widen import doubles, widen
from models.packages import load
from models.packages.checks import CARD
from operators.mel import PAPER
from pipeline.errors import BadInput


class Beginning:
    """Weights to begin from.

    Args:
        path: folder of a training run or checkpoint, or of an encoder package.

    Attributes:
        name: what it is, for the card of what begins from it.
        encoder: with its weights.

    Raises:
        BadInput: it is none of them, or a package of another kind or front end.
        StateError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._folded = (path / CARD).is_file()
        if self._folded:
            package = load(path)
            card = package.card
            if card.kind != "encoder":
                raise BadInput("kind", f"{path}: is a package of kind '{card.kind}'; a run begins from an encoder")
            card.takes(PAPER)
            self.encoder = read_back(package.model, str(path))
            self.name = f"{card.name} {card.version} ({package.digest[:16]})"
        else:
            self.encoder, facts = load_encoder(path)
            self.name = f"{self.encoder.size.name}, step {facts['step']}"

    def check(self, size: Size) -> None:
        """Refuse what cannot begin here.

        Args:
            size: of what is to begin.

        Raises:
            BadInput: it is neither of the same shape, but for the name, nor of twice the width.
        """
        mine = self.encoder.size
        if replace(mine, name="") != replace(size, name="") and not doubles(mine, size):
            raise BadInput(
                "size",
                f"{self.name}: has {mine.width} channels and {mine.depth} blocks, '{size.name}' {size.width} and "
                f"{size.depth}; a run begins at its own size or at half its width: choose another --size or --begin",
            )

    def give(self, encoder: Encoder, images: Tensor, seed: int = 0) -> None:
        """Set the weights of `encoder`, which has the same shape, or twice the width and at least the depth.

        Args:
            encoder: set in place.
            images: typical ones, (B, 1, 128, 128).
            seed: of the shares where channels become two.

        Raises:
            BadInput: the sizes do not fit.
        """
        self.check(encoder.size)
        if self._folded:
            settle(self.encoder, images)
        if self.encoder.width != encoder.width:
            widen(self.encoder, encoder, seed)
        else:
            encoder.load_state_dict(self.encoder.state_dict())
