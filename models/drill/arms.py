"""What is added to the recorded training sounds, and the networks that make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from models.drill.augment import classical
from models.drill.cells import seed_of
from models.drill.synthesis import Batch, synthesise
from models.drill.train import Trained, Training, train

AMOUNTS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        kind: ``"none"``, ``"classical"``, ``"vae"``, ``"classical+vae"`` (half of each), or ``"vae only"``: synthetic
            sounds instead of recorded ones (train on synthetic, test on real).
        amount: added sounds per recorded one.
    """

    kind: str
    amount: float = 0.0

    @property
    def name(self) -> str:
        """For tables and cells."""
        return self.kind if self.kind == "none" else f"{self.kind} {self.amount:g}x"


NONE = Arm("none")
ARMS = (NONE, *(Arm(kind, n) for kind in ("classical", "vae", "classical+vae") for n in AMOUNTS), Arm("vae only", 1.0))


class Additions:
    """What can be added to one set of recorded sounds; networks are trained when first needed.

    Args:
        real: the recorded training sounds.
        training: of the autoencoders.
        path: name of this set, for seeds and checkpoints.
        checkpoints: folder for the networks, so that an interrupted run does not train them again.
    """

    def __init__(self, real: Batch, training: Training, path: Sequence[object], checkpoints: Path | None) -> None:
        self.real = real
        self._training = training
        self._path = tuple(path)
        self._checkpoints = checkpoints

    @cached_property
    def networks(self) -> tuple[list[Trained], list[frozenset[str]]]:
        """One autoencoder per class or a conditional one, and the events that each learned from."""
        target = self.real.target
        conditional = self._training.network.classes > 0
        sets = [np.arange(len(target))] if conditional else [np.flatnonzero(target == c) for c in (0.0, 1.0)]
        networks, events = [], []
        for i, rows in enumerate(sets):
            settings = replace(self._training, seed=seed_of(self._training.seed, *self._path, "vae", i))
            file = None
            if self._checkpoints is not None:
                file = self._checkpoints / f"{'-'.join(map(str, self._path))}-{i}.pt"
            networks.append(train(self.real.x[rows], settings, target[rows], file))
            events.append(frozenset[str]().union(*(self.real.parents[int(r)] for r in rows)))
        return networks, events

    def synthetic(self, count: int) -> Batch:
        """`count` sounds of the autoencoders."""
        networks, events = self.networks
        return synthesise(networks, events, count, seed_of(self._training.seed, *self._path, "sample"))

    def training_set(self, arm: Arm) -> tuple[bool, Batch | None]:
        """Whether the recorded sounds are in it, and what is added to them."""
        n = round(arm.amount * len(self.real.x))
        seed = seed_of(self._training.seed, *self._path, "classical")
        if arm.kind == "none":
            return True, None
        if arm.kind == "classical":
            return True, classical(self.real, n, seed)
        if arm.kind == "classical+vae":
            return True, classical(self.real, n - n // 2, seed) + self.synthetic(n // 2)
        return arm.kind != "vae only", self.synthetic(n)
