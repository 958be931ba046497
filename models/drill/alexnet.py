"""AlexNet on enlarged Mel spectra, as in the paper: pretrained weights from a file, or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.drill.data import Float64
from pipeline.errors import BadInput

SIDE = 227
BATCH = 10
RATE = 3e-4
_SHIFT_PX = 30.0
_SCALE = (0.9, 1.1)
_RANGE_DB = 80.0


class AlexNet(nn.Module):
    """The network of Krizhevsky (arXiv 1404.5997), layers named as in torchvision, with two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(True),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True),
            nn.Linear(4096, 2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 227, 227) → logits (B, 2)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def load_weights(network: AlexNet, path: Path) -> None:
    """Take pretrained weights from a safetensors file; the last layer, of another number of classes, stays new.

    Raises:
        BadInput: not a safetensors file, or the layers are not AlexNet's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput("bad_weights", f"{path} cannot be read as safetensors: {error}") from error
    own = network.state_dict()
    new = {name for name in own if name.startswith("classifier.6.")}
    wrong = [n for n in own if n not in new and (n not in state or state[n].shape != own[n].shape)]
    if wrong:
        raise BadInput(
            "bad_weights", f"{path} is no AlexNet as in torchvision: {wrong[0]} is missing or of other shape"
        )
    network.load_state_dict({n: own[n] if n in new else state[n] for n in own})


def images(mel_db: Float64) -> Tensor:
    """Mel spectra in dB, shape (n, 32, frames), as images (n, 1, 32, frames): 80 dB below the maximum up to it, 0-1."""
    top = mel_db.max(axis=(1, 2), keepdims=True)
    unit = np.clip((mel_db - top + _RANGE_DB) / _RANGE_DB, 0.0, 1.0)
    return torch.from_numpy(unit.astype(np.float32))[:, None]


def enlarge(x: Tensor) -> Tensor:
    """(B, 1, 32, frames) → (B, 3, 227, 227), bilinear, centred about 0."""
    big = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return ((big - 0.5) / 0.25).expand(-1, 3, -1, -1)


def jittered(x: Tensor, random: torch.Generator) -> Tensor:
    """Flip along the x-axis, shift by up to ±30 pixels and scale by 0.9-1.1 on both axes, each image by itself."""
    n = len(x)
    scale = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * torch.rand(n, 2, generator=random)
    shift = (2.0 * torch.rand(n, 2, generator=random) - 1.0) * (2.0 * _SHIFT_PX / SIDE)
    flip = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = flip / scale[:, 0], 1.0 / scale[:, 1], shift
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train_scores(
    x: Float64,
    target: Float64,
    test: Float64,
    epochs: Sequence[int],
    seed: int,
    *,
    weights: Path | None = None,
    jitter: bool = False,
) -> list[Float64]:
    """Train all layers, batch 10, rate 3e-4; probabilities of the test clips after each number of epochs.

    Pretrained: stochastic gradient descent with momentum 0.9, as MATLAB's default. From scratch: Adam, as the former
    does not leave its starting point within the published number of steps.

    Args:
        x: Mel spectra in dB, shape (n, 32, frames).
        target: probabilities of an anomaly, shape (n,).
        test: Mel spectra in dB, shape (m, 32, frames).
        epochs: at which to score, ascending.
        seed: of weights, order and jitter.
        weights: pretrained ones, or None.
        jitter: the paper's flips, shifts and scaling.
    """
    torch.manual_seed(seed)
    network = AlexNet()
    if weights is not None:
        load_weights(network, weights)
    parameters = list(network.parameters())
    optimiser: torch.optim.Optimizer = (
        torch.optim.Adam(parameters, lr=RATE, fused=True)
        if weights is None
        else torch.optim.SGD(parameters, lr=RATE, momentum=0.9)
    )
    data, held_out = images(x), images(test)
    wanted = torch.from_numpy(np.column_stack([1.0 - target, target]).astype(np.float32))
    random = torch.Generator().manual_seed(seed)
    out: list[Float64] = []
    for epoch in range(1, max(epochs) + 1):
        network.train()
        for rows in torch.split(torch.randperm(len(data), generator=random), BATCH):
            big = enlarge(data[rows])
            loss = functional.cross_entropy(network(jittered(big, random) if jitter else big), wanted[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if epoch in epochs:
            network.eval()
            with torch.no_grad():
                parts = [torch.softmax(network(enlarge(p)), dim=1)[:, 1] for p in torch.split(held_out, BATCH)]
            out.append(torch.cat(parts).numpy().astype(np.float64))
    return out
