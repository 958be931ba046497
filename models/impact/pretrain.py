"""Self-supervised pretraining: a student that sees a few tokens learns what a teacher saw of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.impact.begin import Beginning
from models.impact.images import Batches
from models.impact.masking import draw, patch_dispersion
from models.impact.monitors import monitor
from models.impact.network import Encoder, Size
from models.impact.settings import Pretraining
from models.impact.student import Losses, Student
from models.impact.teacher import decay_after, follow, teacher_of
from models.impact.training import Trainer
from pipeline.errors import BadInput

_MOST = 512
"""Vectors that the monitors look at, at most."""


class Pretrainer(Trainer):
    """Student and teacher of one run; see `training.Trainer`.

    Args:
        settings: of the run.
        size: of the encoder.
        batches: images of each step.
        folder: of the run.
        about: of the data.
        beginning: weights to begin from; by default they are drawn.
    """

    def __init__(
        self,
        settings: Pretraining,
        size: Size,
        batches: Batches,
        folder: Path,
        about: Mapping[str, Any] | None = None,
        beginning: Beginning | None = None,
    ) -> None:
        self._beginning = beginning
        try:  # before a step is taken: what cannot be drawn once never can
            s, grid = settings, (size.side, size.side)
            draw(s.masking, np.random.default_rng(0), 1, grid, s.mask_ratio, s.block, np.ones((1, size.side**2)))
        except ValueError as error:
            raise BadInput("mask", str(error)) from None
        super().__init__(settings, size, batches, folder, about)

    def build(self) -> dict[str, nn.Module]:
        """Student, and its copy as the teacher."""
        student = Student(self.size, self.settings)
        if self._beginning is not None:
            images = torch.from_numpy(self.batches.make(0))[:, None]
            self._beginning.give(student.encoder, images, self.settings.seed)
        teacher = teacher_of(student)
        if self.settings.compile:
            student.compile()
        return {"student": student, "teacher": teacher}

    @property
    def student(self) -> Student:
        """What learns."""
        return cast(Student, self.modules["student"])

    @property
    def encoder(self) -> Encoder:
        """The student's encoder."""
        return self.student.encoder

    def losses(self, images: Tensor, step: int) -> tuple[Tensor, Callable[[], dict[str, Any]]]:
        """Frame and utterance loss; figures are those losses and the monitors with their alarms."""
        s, grid = self.settings, self.encoder.grid
        rng = np.random.default_rng([s.seed, step, 2])
        spread = None
        if s.masking == "dispersion_weighted":
            spread = patch_dispersion(images[:, 0].cpu().numpy(), grid).repeat(s.clones, 0)
        keep = draw(s.masking, rng, len(images) * s.clones, grid, s.mask_ratio, s.block, spread)
        places = torch.from_numpy(keep).to(self.device).reshape(len(images), s.clones, -1)
        noise = None
        if s.frame_loss == "t3":
            shape = (len(images) * s.clones, grid[0] * grid[1], self.size.width)
            noise = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(self.device)
        found: Losses = self.student(self.modules["teacher"], images, places, noise)

        def figures() -> dict[str, Any]:
            watched = monitor(found.prediction[:_MOST], found.target[:_MOST])
            losses = {"frame_loss": float(found.frame.detach()), "utterance_loss": float(found.utterance.detach())}
            return losses | watched._asdict() | {"alarms": watched.alarms}

        return found.total, figures

    def after_step(self, step: int) -> None:
        """Let the teacher follow."""
        decay = decay_after(self.settings, step)
        if decay is not None:
            follow(self.modules["teacher"], self.modules["student"], decay)
