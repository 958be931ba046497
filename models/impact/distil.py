"""Distillation of a small encoder: it learns the teacher's band-pooled, standardised features of the same image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from models.impact.checkpoint import load_encoder
from models.impact.images import Batches
from models.impact.monitors import monitor
from models.impact.network import Encoder, Size
from models.impact.pooling import pool
from models.impact.settings import Pretraining
from models.impact.training import Trainer
from operators.mel import PAPER
from pipeline.errors import BadInput
from pipeline.messages import Float32

STANDARDISED_ON = 512
"""Images that the teacher's means and standard deviations are taken over."""


class Teacher(NamedTuple):
    """What is imitated.

    Attributes:
        name: for the card.
        tokens: images (B, 1, 128, 128) → tokens (B, T, d), float32.
        grid: rows and columns of the tokens.
        cls: whether the first token is a class token.
        digest: of package or weights, which tells two of one name apart.
    """

    name: str
    tokens: Callable[[Float32], Float32]
    grid: tuple[int, int]
    cls: bool
    digest: str = ""

    def features(self, images: Float32) -> Float32:
        """Band-pooled features, images (B, 128, 128) → (B, rows · d)."""
        return pool(self.tokens(images[:, None]), "band", self.grid, self.cls)


def teacher_from(path: Path) -> Teacher:
    """A teacher from the folder of a training run, one of its checkpoints, or an encoder package.

    Raises:
        BadInput: the folder is none of them, or the package holds no encoder of the front end `PAPER`.
        StateError: it is damaged.
    """
    if (path / "card.json").is_file():
        from models.packages import load

        package = load(path)
        grid = package.card.grid
        if package.card.kind != "encoder" or grid is None:
            raise BadInput("kind", f"{path}: is a package of kind '{package.card.kind}'; a teacher must be an encoder")
        package.card.takes(PAPER)
        session, output = package.session(), package.card.outputs[0].name
        name = f"{package.card.name} {package.card.version}"
        return Teacher(name, lambda x: session.run(x)[output], grid, package.card.cls, package.digest)
    encoder, facts = load_encoder(path)

    @torch.no_grad()
    def tokens(x: Float32) -> Float32:
        made: Float32 = encoder(torch.from_numpy(x)).numpy()
        return made

    return Teacher(f"{encoder.size.name}, step {facts['step']}", tokens, encoder.grid, encoder.cls, facts["sha256"])


class Pupil(nn.Module):
    """The small encoder and a linear map from each group of its frequency rows to a row of the teacher's.

    Args:
        size: of the encoder.
        rows: of the teacher's grid; a divisor of the encoder's.
        features: of the teacher's band-pooled vector.
    """

    def __init__(self, size: Size, rows: int, features: int) -> None:
        super().__init__()
        self.encoder = Encoder(size)
        if self.encoder.grid[0] % rows:
            raise ValueError(f"{self.encoder.grid[0]} frequency rows cannot be grouped into the teacher's {rows}")
        self.map = nn.Conv1d(self.encoder.grid[0] * size.width, features, 1, groups=rows)

    def bands(self, images: Tensor) -> Tensor:
        """Tokens averaged over time, rows concatenated: (B, 1, 128, 128) → (B, rows · width)."""
        tokens = self.encoder(images)[:, int(self.encoder.cls) :]
        bands: Tensor = tokens.reshape(len(tokens), *self.encoder.grid, -1).mean(2).flatten(1)
        return bands

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Own band-pooled features, and the teacher's as predicted from them."""
        bands = self.bands(images)
        return bands, self.map(bands[..., None])[..., 0]


class Distiller(Trainer):
    """One run of distillation; see `training.Trainer`. The teacher is not part of its checkpoints."""

    def __init__(
        self,
        settings: Pretraining,
        size: Size,
        batches: Batches,
        folder: Path,
        teacher: Teacher,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.teacher = teacher
        steps = -(-STANDARDISED_ON // settings.batch)
        found = np.concatenate([teacher.features(batches.make(settings.steps + i)) for i in range(steps)])
        self._mean, self._std = found.mean(0), found.std(0) + np.float32(1e-6)
        told = {"teacher": teacher.name, "teacher_digest": teacher.digest}
        super().__init__(settings, size, batches, folder, {**(about or {}), **told})

    def build(self) -> dict[str, nn.Module]:
        """The pupil, named as a student so that `checkpoint.load_encoder` finds its encoder."""
        return {"student": Pupil(self.size, self.teacher.grid[0], len(self._mean))}

    @property
    def encoder(self) -> Encoder:
        """What learns."""
        return cast(Pupil, self.modules["student"]).encoder

    def losses(self, images: Tensor, step: int) -> tuple[Tensor, Callable[[], dict[str, Any]]]:
        """Mean squared error of the standardised features; 1 − loss is the share of variance explained."""
        del step
        wanted = torch.from_numpy((self.teacher.features(images[:, 0].cpu().numpy()) - self._mean) / self._std)
        bands, made = self.modules["student"](images)
        loss = mse_loss(made, wanted.to(self.device))

        def figures() -> dict[str, Any]:
            watched = monitor(made.detach(), wanted.to(self.device))
            rank = monitor(bands.detach(), bands.detach()).effective_rank
            return watched._asdict() | {"effective_rank": rank, "alarms": watched.alarms}

        return loss, figures
