"""The teacher: an exponential moving average of the student, without gradient (data2vec, arXiv 2202.03555)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.impact.settings import Pretraining


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy that never learns by gradient and whose batch norms use their running statistics."""
    return copy.deepcopy(student).requires_grad_(False).eval()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """θ_teacher ← decay · θ_teacher + (1 − decay) · θ_student; running statistics, averages already, are copied."""
    targets: list[torch.Tensor] = list(teacher.parameters())
    sources: list[torch.Tensor] = list(student.parameters())
    torch._foreach_mul_(targets, decay)
    torch._foreach_add_(targets, sources, alpha=1.0 - decay)
    for target, source in zip(teacher.buffers(), student.buffers(), strict=True):
        target.copy_(source)


def decay_after(settings: Pretraining, step: int) -> float | None:
    """Decay to apply after step `step` (from 0); None if the teacher rests then.

    By step: linear from `ema_start` at the first to `ema_end` at the last step. By epoch: `ema_epoch` after an
    epoch's last step. (Per epoch, 10 epochs at 0.996 would leave 96 % of the random first teacher.)
    """
    if settings.ema_every == "epoch":
        return settings.ema_epoch if (step + 1) % settings.steps_per_epoch == 0 else None
    share = step / max(1, settings.steps - 1)
    return settings.ema_start + share * (settings.ema_end - settings.ema_start)
