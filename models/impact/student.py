"""Student: encoder that sees the visible tokens, and the heads that predict what the teacher saw."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.impact.losses import frame_loss, image_target, token_targets, utterance_loss, utterance_target
from models.impact.network import Decoder, Encoder, Size, initialise
from models.impact.settings import Pretraining

MASK_NOISE = 0.01
"""Standard deviation of what stands for a masked token at the predictor's input (EAT)."""


class TokenPredictor(nn.Module):
    """Features of all tokens from those of the visible ones (target ``t3``): two 3 × 3 convolutions on the grid."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.out = nn.Linear(width, width)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, seen: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        """Visible tokens (B, n, d) at places `keep` (B, n) and noise (B, N, d) → (B, N, d)."""
        full = self.mask_token + noise
        full = full.scatter(1, keep[..., None].expand(-1, -1, seen.shape[-1]), seen)
        x = full.transpose(1, 2).reshape(len(full), -1, *self.grid)
        x = x + nn.functional.gelu(self.norm1(self.conv1(x)))
        x = x + nn.functional.gelu(self.norm2(self.conv2(x)))
        out: Tensor = self.out(x.flatten(2).transpose(1, 2))
        return out


class Losses(NamedTuple):
    """What a step computed: losses, and the vectors that the monitors look at."""

    total: Tensor
    frame: Tensor
    utterance: Tensor
    prediction: Tensor
    target: Tensor


class Student(nn.Module):
    """Encoder with the decoder (``t1``, ``t2``) or token predictor (``t3``) of its frame loss.

    Args:
        size: shape of the encoder, with a class token.
        settings: of the run.

    Raises:
        ValueError: the size has no class token; such encoders are distilled.
    """

    def __init__(self, size: Size, settings: Pretraining) -> None:
        super().__init__()
        if not size.cls:
            raise ValueError(f"size '{size.name}' has no class token: it is distilled from a teacher, not pretrained")
        self.settings = settings
        self.encoder = Encoder(size)
        tokens = settings.frame_loss == "t3"
        self.head: nn.Module = TokenPredictor(size.width, self.encoder.grid) if tokens else Decoder(size.width)

    def see(self, images: Tensor, keep: Tensor) -> Tensor:
        """Output tokens (B · K, 1 + n, d) of K masked versions of each clip; `keep` is (B, K, n)."""
        b, k, n = keep.shape
        tokens = self.encoder.embed(images)
        index = keep.reshape(b, k * n, 1).expand(-1, -1, tokens.shape[-1])
        return self.encoder.layers(tokens.gather(1, index).reshape(b * k, n, -1))[-1]

    def forward(self, teacher: Student, images: Tensor, keep: Tensor, noise: Tensor | None = None) -> Losses:
        """One step's losses.

        Args:
            teacher: the average of this student.
            images: (B, 1, 128, 128).
            keep: places of visible tokens, (B, K, n).
            noise: for ``t3``, standard normal (B · K, N, d).
        """
        s, clones = self.settings, keep.shape[1]
        with torch.no_grad():
            layers = teacher.encoder.layers(teacher.encoder.embed(images))
            target = utterance_target(layers, s.utterance)
        seen = self.see(images, keep)
        prediction, wanted = seen[:, 0], target.repeat_interleave(clones, 0)
        if s.frame_loss == "t3":
            assert noise is not None
            frame = self._tokens(layers, seen, keep, noise)
        else:
            with torch.no_grad():
                image = image_target(images) if s.frame_loss == "t2" else teacher.head(layers[-1][:, 0])
            frame = frame_loss(self.head(prediction), image.repeat_interleave(clones, 0), s.huber_delta)
        utterance = utterance_loss(prediction, wanted)
        return Losses(frame + s.utterance_weight * utterance, frame, utterance, prediction.detach(), wanted)

    def _tokens(self, layers: list[Tensor], seen: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = token_targets([x[:, 1:] for x in layers]).repeat_interleave(keep.shape[1], 0)
        where = keep.flatten(0, 1)
        made = self.head(seen[:, 1:], where, MASK_NOISE * noise)
        hidden = torch.ones(where.shape[0], wanted.shape[1], dtype=torch.bool, device=where.device)
        hidden.scatter_(1, where, False)
        return frame_loss(made[hidden], wanted[hidden], self.settings.huber_delta)
