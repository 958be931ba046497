"""Targets and losses of pretraining: L = L_frame + λ · L_utterance (arXiv 2507.06481 with EAT's targets)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, huber_loss, layer_norm, mse_loss

from models.impact.settings import Utterance


def _normed(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])


def token_targets(layers: list[Tensor]) -> Tensor:
    """Targets of masked tokens: instance norm over the tokens per layer, mean of layers, LayerNorm; (B, N, d)."""
    total = torch.zeros_like(layers[0])
    for x in layers:
        mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        total = total + (x - mean) * torch.rsqrt(var + 1e-5)
    return _normed(total / len(layers))


def utterance_target(layers: list[Tensor], how: Utterance, cls: bool = True) -> Tensor:
    """What the student's class token is pulled to, (B, d).

    Args:
        layers: outputs of the teacher's blocks on the whole clip, each (B, T, d).
        how: ``"layers"``: LayerNorm of each layer, mean over layers and tokens, LayerNorm (the paper's average over
            layers). ``"instance"``: mean over tokens of `token_targets`, as EAT computes it; the instance norm has
            taken the mean over tokens away before, so little is left in it. ``"cls"``: class token of the plain mean
            over layers.
        cls: whether token 0 is the class token.
    """
    if how == "cls":
        if not cls:
            raise ValueError("utterance = 'cls' needs an encoder with a class token")
        return torch.stack(layers).mean(0)[:, 0]
    patches = [x[:, 1:] if cls else x for x in layers]
    if how == "instance":
        return token_targets(patches).mean(1)
    return _normed(torch.stack([_normed(x) for x in patches]).mean((0, 2)))


def image_target(x: Tensor) -> Tensor:
    """Target ``t2``: the input averaged 2 × 2 and standardised per clip, (B, 1, 128, 128) → (B, 1, 64, 64)."""
    y = avg_pool2d(x, 2)
    std, mean = torch.std_mean(y, (1, 2, 3), keepdim=True)
    return (y - mean) / (std + 1e-6)


def frame_loss(prediction: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Mean Huber loss, shape (), of two tensors of one shape; the target passes no gradient."""
    return huber_loss(prediction, target.detach(), delta=delta)


def utterance_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, shape (), of two tensors of one shape; the target passes no gradient."""
    return mse_loss(prediction, target.detach())
