"""The classifiers that are compared: 21 band levels, a small network on a finer spectrogram, AlexNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

import numpy as np

from models.drill.data import Float64, centre
from models.drill.spectrogram import band_levels, fine_mel, paper_mel
from models.logistic import fit_logistic


class Classifier(Protocol):
    """What the protocols need of a classifier."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    @property
    def choices(self) -> tuple[float, ...]:
        """Settings that an inner fold chooses between."""
        ...

    def features(self, sounds: Sequence[Float64]) -> Float64:
        """What is computed of each sound (samples at 96 kHz, shape (n,)), stacked along the first axis."""
        ...

    def scores(self, x: Float64, target: Float64, test: Float64, choices: Sequence[float], seed: int) -> list[Float64]:
        """Fit once for each choice, and judge the test part.

        Args:
            x: features of the training part, from `features`, shape (n, …).
            target: probability that each is an anomaly, shape (n,).
            test: features of the test part, shape (m, …).
            choices: the settings to fit with.
            seed: of whatever is random.

        Returns:
            For each choice the probability of an anomaly, shape (m,).
        """
        ...


@dataclass(frozen=True, slots=True)
class Bands:
    """Logistic regression on the levels of the 21 bands between 1 and 22 kHz; the choice is the inverse penalty."""

    name: str = "21 bands"
    choices: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)

    def features(self, sounds: Sequence[Float64]) -> Float64:
        """Band levels in dB, shape (clips, 21)."""
        return band_levels(sounds)

    def scores(self, x: Float64, target: Float64, test: Float64, choices: Sequence[float], seed: int) -> list[Float64]:  # noqa: ARG002 - nothing is random
        """One fit per penalty."""
        return [fit_logistic(x, target, c).probability(test) for c in choices]


@dataclass(frozen=True, slots=True)
class SmallNetwork:
    """Three convolutions on 32 × 28 log-Mel; the choice is the number of steps."""

    name: str = "small CNN"
    choices: tuple[float, ...] = (60.0, 120.0, 240.0)

    def features(self, sounds: Sequence[Float64]) -> Float64:
        """Log-Mel in dB of the middle 1,999 samples, shape (clips, 32, 28)."""
        return fine_mel(np.stack([centre(x) for x in sounds]))

    def scores(self, x: Float64, target: Float64, test: Float64, choices: Sequence[float], seed: int) -> list[Float64]:
        """One training, scored at each number of steps."""
        from models.drill.cnn import train_scores

        return train_scores(x, target, test, [int(c) for c in choices], seed)


@lru_cache(maxsize=1)
def _digest(file: Path) -> str:
    """First letters of a file's SHA-256: weights of several networks may share a name."""
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Alex:
    """AlexNet on the paper's 32 × 1 or 32 × 2 Mel spectra, enlarged to 227 × 227 × 3; the choice is the epochs.

    Attributes:
        weights: safetensors file with pretrained weights; None trains from scratch.
        jitter: the paper's flips, shifts and scaling of the images.
    """

    weights: Path | None = None
    jitter: bool = False
    choices: tuple[float, ...] = (160.0,)

    @property
    def name(self) -> str:
        """Says whether it was pretrained (with the file's name and digest) and for how long it is trained."""
        start = f"pretrained {self.weights.name} {_digest(self.weights)}" if self.weights else "from scratch"
        return f"AlexNet ({start}, {self.choices[-1]:g} epochs)"

    def features(self, sounds: Sequence[Float64]) -> Float64:
        """Log-Mel as published in dB, one or two frames repeated to two, shape (clips, 32, 2)."""
        mels = [paper_mel(x) for x in sounds]
        return np.stack([np.repeat(m, 2, axis=1) if m.shape[1] == 1 else m for m in mels])

    def scores(self, x: Float64, target: Float64, test: Float64, choices: Sequence[float], seed: int) -> list[Float64]:
        """One training, scored after each number of epochs."""
        from models.drill.alexnet import train_scores

        return train_scores(x, target, test, [int(c) for c in choices], seed, weights=self.weights, jitter=self.jitter)
