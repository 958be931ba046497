"""The evidence lower bound by one sample, as the paper's equation (2), and its options."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.drill.vae import Vae

Likelihood = Literal["bernoulli", "gaussian", "l1"]
_SCALE = 0.1
_STFT = (64, 256, 1024)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is maximised.

    Attributes:
        likelihood: of the samples in [0, 1]: ``"bernoulli"`` (sigmoid cross-entropy, as published), ``"gaussian"``
            (standard deviation 0.1) or ``"l1"`` (Laplace, scale 0.1).
        stft: weight of the multi-resolution spectral loss, 0 for none.
        warm_up_epochs: over which the weight of log p(z) - log q(z|x) rises from 0 to 1; 0 as published.
    """

    likelihood: Likelihood = "bernoulli"
    stft: float = 0.0
    warm_up_epochs: int = 0

    def beta(self, epoch: int) -> float:
        """Weight of the latent terms in an epoch counted from 0."""
        return 1.0 if self.warm_up_epochs == 0 else min(1.0, epoch / self.warm_up_epochs)


@dataclass(frozen=True, slots=True)
class Terms:
    """Means over a batch, in nats; `elbo` counts every term fully, `loss` is what is minimised."""

    loss: Tensor
    elbo: Tensor


def log_normal(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log density of independent normals, summed over the last axis."""
    return -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var + log(2.0 * pi)).sum(dim=1)


def log_likelihood(logits: Tensor, x01: Tensor, kind: Likelihood) -> Tensor:
    """Log p(x|z) summed over the samples, (B,)."""
    if kind == "bernoulli":
        return -functional.binary_cross_entropy_with_logits(logits, x01, reduction="none").sum(dim=1)
    difference = torch.sigmoid(logits) - x01
    if kind == "gaussian":
        return -(0.5 * (difference / _SCALE) ** 2 + log(_SCALE) + 0.5 * log(2.0 * pi)).sum(dim=1)
    return -(difference.abs() / _SCALE + log(2.0 * _SCALE)).sum(dim=1)


def spectral_loss(logits: Tensor, x01: Tensor) -> Tensor:
    """Spectral convergence plus log-magnitude distance over windows of 64, 256 and 1,024 (Yamamoto, ICASSP 2020)."""
    total = logits.new_zeros(())
    for n in _STFT:
        window = torch.hann_window(n)
        a, b = (
            torch.stft(2.0 * x - 1.0, n, n // 4, window=window, return_complex=True).abs().clamp_min(1e-5)
            for x in (torch.sigmoid(logits), x01)
        )
        total = total + torch.linalg.norm(b - a) / torch.linalg.norm(b) + (a.log() - b.log()).abs().mean()
    return total / len(_STFT)


def negative_elbo(
    network: Vae, x01: Tensor, noise: Tensor, objective: Objective, beta: float = 1.0, label: Tensor | None = None
) -> Terms:
    """Loss of one batch: -(log p(x|z) + log p(z) - log q(z|x)) with z = mean + sigma × noise.

    Args:
        network: the autoencoder.
        x01: samples in [0, 1], shape (B, 1999).
        noise: standard normal, shape (B, latent).
        objective: likelihood and options.
        beta: weight of the latent terms.
        label: one-hot classes, shape (B, classes), for a conditional network.

    Raises:
        ValueError: samples outside [0, 1], for which cross-entropy has no meaning.
    """
    if bool((x01 < 0.0).any()) or bool((x01 > 1.0).any()):
        raise ValueError("the samples must lie within [0, 1]")
    mean, log_var = network.encode(x01, label)
    z = mean + torch.exp(0.5 * log_var) * noise
    logits = network.decode(z, label)
    fit = log_likelihood(logits, x01, objective.likelihood)
    zero = torch.zeros_like(z)
    latent = log_normal(z, zero, zero) - log_normal(z, mean, log_var)
    loss = -(fit + beta * latent).mean()
    if objective.stft > 0.0:
        loss = loss + objective.stft * spectral_loss(logits, x01)
    return Terms(loss, (fit + latent).mean().detach())
