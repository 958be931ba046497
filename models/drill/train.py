"""Training of the autoencoder: the same bits for the same seed, and after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.drill.data import Float64
from models.drill.elbo import Objective, negative_elbo
from models.drill.vae import Vae, VaeSettings
from pipeline.errors import StateError


def one_thread() -> None:
    """Bind torch to one thread: the networks are small, and sums come out the same on any number of cores."""
    torch.set_num_threads(1)


@dataclass(frozen=True, slots=True)
class Training:
    """How the autoencoder is trained; the defaults are the paper's, with Adam's rate (1e-4) our choice.

    Attributes:
        epochs: passes over the sounds.
        batch: sounds per step.
        rate: of Adam.
        seed: of initial weights, order and noise.
        network: its size.
        objective: what is maximised.
    """

    epochs: int = 20
    batch: int = 8
    rate: float = 1e-4
    seed: int = 0
    network: VaeSettings = field(default_factory=VaeSettings)
    objective: Objective = field(default_factory=Objective)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """An autoencoder and how it came about.

    Attributes:
        network: in evaluation mode.
        elbo: mean over the sounds per epoch, nats.
        peaks: largest absolute sample of each training sound, shape (n,): the levels that synthesis draws from.
        classes: class of each training sound, shape (n,).
    """

    network: Vae
    elbo: tuple[float, ...]
    peaks: Float64
    classes: Float64


def to_unit(x: Float64) -> tuple[Float64, Float64]:
    """Sounds scaled into [0, 1], and the peaks that undo it: (x / peak + 1) / 2.

    Args:
        x: shape (n, samples), no row of zeros alone.

    Returns:
        Scaled sounds, same shape, and peaks, shape (n,).
    """
    peaks: Float64 = np.max(np.abs(x), axis=1)
    return (x / peaks[:, None] + 1.0) / 2.0, peaks


def one_hot(classes: Float64, count: int) -> Tensor | None:
    """Classes 0, 1, … as (n, count), or None for a network without classes."""
    return torch.eye(count)[torch.from_numpy(classes.astype(np.int64))] if count else None


def train(
    x: Float64,
    settings: Training,
    classes: Float64 | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train an autoencoder on sounds.

    Order and noise of an epoch come from generators seeded by (seed, epoch), so a run that goes on from a checkpoint
    ends with the same weights as one that was never interrupted.

    Args:
        x: sounds at 96 kHz, shape (n, 1999), n >= 2.
        settings: how.
        classes: 0 or 1 for each sound; read by a conditional network.
        checkpoint: file to go on from and to keep up to date after each epoch.
        progress: called with (epoch, ELBO) after each epoch.

    Raises:
        StateError: the checkpoint is of other settings or other sounds, or the loss is no longer a number.
    """
    scaled, peaks = to_unit(x)
    data = torch.from_numpy(scaled.astype(np.float32))
    known = np.zeros(len(x)) if classes is None else classes
    told = one_hot(known, settings.network.classes)
    torch.manual_seed(settings.seed)
    network = Vae(settings.network)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    identity = f"{asdict(settings) | {'epochs': 0}}|{x.shape}|{float(np.abs(x).sum())!r}"
    history = _resume(checkpoint, identity, network, optimiser)
    for epoch in range(len(history), settings.epochs):
        history.append(_epoch(network, optimiser, data, told, settings, epoch))
        if not np.isfinite(history[-1]):
            mend = "take another --likelihood or --seed, or a smaller --stft, and another --out"
            raise StateError(f"the autoencoder's loss is no longer a number in epoch {epoch}: {mend}")
        if checkpoint is not None:
            state = {"identity": identity, "network": network.state_dict(), "optimiser": optimiser.state_dict(),
                     "history": history}  # fmt: skip
            _save(checkpoint, state)
        if progress is not None:
            progress(epoch, history[-1])
    network.eval()
    return Trained(network, tuple(history), peaks, known)


def _epoch(
    network: Vae, optimiser: torch.optim.Optimizer, data: Tensor, told: Tensor | None, settings: Training, epoch: int
) -> float:
    random = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data), generator=random)
    beta = settings.objective.beta(epoch)
    network.train()
    total = 0.0
    for rows in torch.split(order, settings.batch):
        noise = torch.randn(len(rows), settings.network.latent, generator=random)
        label = None if told is None else told[rows]
        terms = negative_elbo(network, data[rows], noise, settings.objective, beta, label)
        optimiser.zero_grad(set_to_none=True)
        terms.loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += float(terms.elbo) * len(rows)
    return total / len(data)


def _resume(path: Path | None, identity: str, network: Vae, optimiser: torch.optim.Optimizer) -> list[float]:
    if path is None or not path.is_file():
        return []
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise StateError(f"{path} is a checkpoint of other settings or sounds: remove it or name another")
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return list(state["history"])


def _save(path: Path, state: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)  # noqa: PTH105 - atomic, whatever is there
