"""Signs of collapse: when all clips get the same answer, the loss is small and the encoder useless."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TARGET_STD = 0.1
PREDICTION_STD = 0.01
"""Alarm limits of data2vec 2.0 (arXiv 2212.07525): ``min_target_var`` and ``min_pred_var``."""


class Monitors(NamedTuple):
    """Figures over a batch.

    Attributes:
        target_std: standard deviation of the teacher's vector over the clips, mean of channels.
        prediction_std: the same of the student's.
        effective_rank: exp of the entropy of the class tokens' spectrum (Roy and Vetterli 2007); 1 is collapse.
        cosine: mean cosine between student's and teacher's vectors, each centred over the batch.
    """

    target_std: float
    prediction_std: float
    effective_rank: float
    cosine: float

    @property
    def alarms(self) -> list[str]:
        """What looks like collapse, in words."""
        found = []
        if not self.target_std >= TARGET_STD:
            found.append(f"target_std {self.target_std:.3g} < {TARGET_STD}")
        if not self.prediction_std >= PREDICTION_STD:
            found.append(f"prediction_std {self.prediction_std:.3g} < {PREDICTION_STD}")
        return found


@torch.no_grad()
def monitor(prediction: Tensor, target: Tensor) -> Monitors:
    """Figures of student vectors and their targets, both (n, d) with n >= 2."""
    p, t = prediction.float(), target.float()
    centred = torch.nn.functional.cosine_similarity(p - p.mean(0), t - t.mean(0), dim=1)
    return Monitors(
        float(t.std(0).mean()), float(p.std(0).mean()), effective_rank(p), float(centred.mean())
    )  # fmt: skip


def effective_rank(x: Tensor) -> float:
    """exp(−Σ p log p) of the singular values' shares p of the centred matrix x, (n, d); 1 for a constant one."""
    s = torch.linalg.svdvals(x.float() - x.float().mean(0))
    total = s.sum()
    if not total > 1e-12:
        return 1.0
    p = (s / total).clamp_min(1e-12)
    return float(torch.exp(-(p * p.log()).sum()))
