"""A small convolutional network on log-Mel spectra of 20 ms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.drill.data import Float64

_BATCH = 16
_RATE = 2e-3
_DECAY = 1e-3


class SmallCnn(nn.Module):
    """Three convolutions (8, 16, 32 channels, 3 × 3), pooled over time and frequency; logit of an anomaly.

    Time is pooled by mean and maximum, as a fracture is short and its place unknown.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((1, 8), (8, 16), (16, 32)):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 32, 28) standardised → (B,)."""
        h = self.body(x[:, None]).mean(dim=2)
        logit: Tensor = self.head(torch.cat([h.mean(dim=2), h.amax(dim=2)], dim=1))[:, 0]
        return logit


def standardise(x: Float64, test: Float64) -> tuple[Tensor, Tensor]:
    """Both less the mean and over the standard deviation per band of the first; (n, bands, frames)."""
    mean, scale = x.mean(axis=(0, 2))[:, None], np.maximum(x.std(axis=(0, 2))[:, None], 1e-6)
    a, b = (torch.from_numpy(((part - mean) / scale).astype(np.float32)) for part in (x, test))
    return a, b


def train_scores(x: Float64, target: Float64, test: Float64, steps: Sequence[int], seed: int) -> list[Float64]:
    """Train with Adam and weight decay; probabilities of the test clips after each number of steps.

    Steps rather than epochs are counted, so that more sounds do not mean more training.

    Args:
        x: log-Mel in dB, shape (n, 32, frames).
        target: probabilities of an anomaly, shape (n,).
        test: log-Mel in dB, shape (m, 32, frames).
        steps: at which to score, ascending.
        seed: of weights and order.
    """
    torch.manual_seed(seed)
    network = SmallCnn()
    data, held_out = standardise(x, test)
    wanted = torch.from_numpy(target.astype(np.float32))
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    batches: list[Tensor] = []
    out: list[Float64] = []
    for step in range(1, max(steps) + 1):
        if not batches:
            batches = list(torch.split(torch.randperm(len(data)), _BATCH))
            if len(batches) > 1 and len(batches[-1]) < _BATCH // 2:
                batches.pop()
        rows = batches.pop()
        network.train()
        loss = functional.binary_cross_entropy_with_logits(network(data[rows]), wanted[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step in steps:
            network.eval()
            with torch.no_grad():
                out.append(torch.sigmoid(network(held_out)).numpy().astype(np.float64))
    return out
