"""The variational autoencoder of drill sounds (arXiv 2209.11527, figure 2; Kingma and Welling, ICLR 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.drill.data import SAMPLES

CHANNELS = (16, 32, 64, 128)
_SHORT = 125
"""Samples left after four halvings of 1,999."""


@dataclass(frozen=True, slots=True)
class VaeSettings:
    """Size of the network.

    Attributes:
        latent: numbers that a sound becomes; 2 as published.
        classes: 0 for one network per class; otherwise the decoder and encoder are told the class.
    """

    latent: int = 2
    classes: int = 0


class _Block(nn.Module):
    """Two convolutions of three taps, each normalised, around an identity path."""

    def __init__(self, channels: int, norm: type[nn.Module]) -> None:
        super().__init__()
        affine = {"affine": True}
        self.body = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            norm(channels, **affine),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            norm(channels, **affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, n) → the same."""
        out: Tensor = x + self.body(x)
        return out


class Vae(nn.Module):
    """Encoder and decoder of 1,999 samples in [0, 1]; 570,181 parameters with two latent numbers and no classes.

    The paper gives the kinds and the number of layers, input and latent size; channels (16-128), nine taps, stride 2
    and the leaky ReLU are our choice.
    """

    def __init__(self, settings: VaeSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or VaeSettings()
        latent, classes = self.settings.latent, self.settings.classes
        down: list[nn.Module] = []
        for c_in, c_out in zip((1, *CHANNELS[:-1]), CHANNELS, strict=True):
            down += [
                nn.Conv1d(c_in, c_out, 9, stride=2, padding=4),
                nn.LeakyReLU(0.2),
                _Block(c_out, nn.InstanceNorm1d),
            ]
        self.encoder = nn.Sequential(*down)
        self.to_latent = nn.Linear(CHANNELS[-1] * _SHORT + classes, 2 * latent)
        self.from_latent = nn.Linear(latent + classes, CHANNELS[-1] * _SHORT)
        up: list[nn.Module] = []
        outs = (*CHANNELS[-2::-1], 1)
        for c_in, c_out in zip(CHANNELS[::-1], outs, strict=True):
            up += [_Block(c_in, nn.BatchNorm1d), nn.ConvTranspose1d(c_in, c_out, 9, 2, padding=4, output_padding=1)]
            if c_out > 1:
                up.append(nn.LeakyReLU(0.2))
        self.decoder = nn.Sequential(*up)

    def encode(self, x01: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), each (B, latent), of x01 (B, 1999) and one-hot labels (B, classes)."""
        flat = self.encoder(x01[:, None]).flatten(1)
        mean, log_var = self.to_latent(self._told(flat, label)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits of the samples, (B, 1999), of z (B, latent)."""
        wide = self.from_latent(self._told(z, label)).view(-1, CHANNELS[-1], _SHORT)
        logits: Tensor = self.decoder(wide)[:, 0, :SAMPLES]
        return logits

    def _told(self, x: Tensor, label: Tensor | None) -> Tensor:
        if not self.settings.classes:
            return x
        if label is None:
            raise ValueError("a conditional autoencoder needs the class of each sound")
        return torch.cat([x, label], dim=1)
