"""New sounds, with the training events that they descend from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.drill.data import Float64
from models.drill.train import Trained, one_hot
from pipeline.errors import StateError


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sounds to train on.

    Attributes:
        x: shape (n, 1999).
        target: probability of an anomaly, shape (n,); between 0 and 1 for mixed sounds.
        parents: events that each sound was made of or learned from; its own for a recorded one.
    """

    x: Float64
    target: Float64
    parents: tuple[frozenset[str], ...]

    def __add__(self, other: Batch) -> Batch:
        """Both, one after the other."""
        return Batch(
            np.concatenate([self.x, other.x]), np.concatenate([self.target, other.target]), self.parents + other.parents
        )

    def take(self, rows: Sequence[int]) -> Batch:
        """Some rows, in that order."""
        return Batch(self.x[list(rows)], self.target[list(rows)], tuple(self.parents[i] for i in rows))

    def guard(self, held_out: frozenset[str]) -> None:
        """Refuse sounds that descend from held-out events.

        Raises:
            StateError: with the first such event.
        """
        for parents in self.parents:
            leaked = sorted(parents & held_out)
            if leaked:
                raise StateError(f"leak: a training sound descends from the held-out event {leaked[0]}; run aborted")


def sample(trained: Trained, count: int, seed: int, label: int = 0) -> Float64:
    """Draw sounds from the prior, without their mean and each at the peak level of a training sound of its class.

    Args:
        trained: the autoencoder.
        count: how many.
        seed: of latent numbers and levels.
        label: class to draw, for a conditional network and for its levels.

    Returns:
        float64, shape (count, 1999).
    """
    rng = np.random.default_rng([seed, label])
    settings = trained.network.settings
    z = torch.from_numpy(rng.standard_normal((count, settings.latent)).astype(np.float32))
    with torch.no_grad():
        told = one_hot(np.full(count, float(label)), settings.classes)
        unit = torch.sigmoid(trained.network.decode(z, told)).numpy().astype(np.float64)
    x = 2.0 * unit - 1.0
    x -= x.mean(axis=1, keepdims=True)
    own = trained.peaks[trained.classes == label] if settings.classes else trained.peaks
    level = rng.choice(own, count)
    out: Float64 = x * (level / np.maximum(np.max(np.abs(x), axis=1), 1e-12))[:, None]
    return out


def synthesise(networks: Sequence[Trained], events: Sequence[frozenset[str]], count: int, seed: int) -> Batch:
    """`count` sounds, half of each class, from one network per class or one conditional network.

    Args:
        networks: of normal and anomalous sounds, or a conditional one alone.
        events: those that each network was trained on.
        count: how many in all; the first half is normal.
        seed: of everything.
    """
    halves = (count - count // 2, count // 2)
    parts, parents = [], []
    for label, n in enumerate(halves):
        i = min(label, len(networks) - 1)
        parts.append(sample(networks[i], n, seed, label))
        parents += [events[i]] * n
    return Batch(np.concatenate(parts), np.repeat([0.0, 1.0], halves), tuple(parents))
