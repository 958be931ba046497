"""Encoder and decoder of IMPACT (arXiv 2507.06481, Table 5) as torch modules.

Table 5 admits several readings. The one built here halves the 128 × 128 image to 32 maps of 64 × 64 by a convolution
and cuts these into 16 × 16 patches: 4 × 4 tokens and a class token. It alone agrees with the published 17.3 million
parameters and 291 million multiply-accumulates at once (here 17,342,592 and 292.2 million; with the decoder
17,974,865, the paper's "18 million"). Blocks are pre-norm; Table 5 does not tell.

`small` is the width of O'IMPACT (arXiv 2507.07879): 4,242,816 parameters. `edge` follows the student of that paper
(67,008 parameters) and adds what it lacks: a position along frequency, without which a patch cannot know its band.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

BANDS = 128
"""Rows (mel bands) of the image that an encoder reads."""


@dataclass(frozen=True)
class Size:
    """Shape of an encoder.

    Attributes:
        name: what the card calls it.
        width: channels of a token.
        depth: blocks.
        heads: attention heads; a divisor of `width`.
        hidden: channels inside a block's feed-forward part.
        stem: ``"conv"`` halves the image to `maps` maps before it is cut into patches, ``"patch"`` cuts it directly.
        cls: whether a class token comes first.
        maps: channels of the convolution in front.
        final_norm: whether a LayerNorm follows the last block (not in Table 5).
    """

    name: str
    width: int
    depth: int
    heads: int
    hidden: int
    stem: Literal["conv", "patch"] = "conv"
    cls: bool = True
    maps: int = 32
    final_norm: bool = False

    @property
    def side(self) -> int:
        """Tokens along one side of the image."""
        return BANDS // (32 if self.stem == "conv" else 16)


SIZES = {
    "base": Size("base", 384, 8, 16, 1536),
    "small": Size("small", 192, 6, 8, 768),
    "edge": Size("edge", 64, 2, 4, 64, stem="patch", cls=False),
}


def size_of(name: str) -> Size:
    """The size of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SIZES:
        raise ValueError(f"no encoder size '{name}': one of {', '.join(SIZES)}")
    return SIZES[name]


def positions(rows: int, columns: int, width: int, time: bool = True) -> Tensor:
    """Fixed sine and cosine positions, float32, shape (rows · columns, width); token r · columns + c.

    With `time` the first half of the channels tells the row (frequency), the second the column (time), as in masked
    autoencoders (arXiv 2111.06377); else all channels tell the row. Angular rates are 10000^(−i/n), i = 0 … n − 1.
    """
    row, column = np.divmod(np.arange(rows * columns), columns)
    axes = [row, column] if time else [row]
    part = width // len(axes)
    rates = 10000.0 ** (-np.arange(part // 2) / (part // 2))
    angles = [axis[:, None] * rates for axis in axes]
    return torch.from_numpy(np.hstack([f(a) for a in angles for f in (np.sin, np.cos)]).astype(np.float32))


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of a clip, (B, T, width) → (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) → (B, T, width); every token sees all."""
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (d // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        out: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(b, t, d))
        return out


class Block(nn.Module):
    """Pre-norm Transformer block, (B, T, width) → (B, T, width)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.ffn = nn.Sequential(
            nn.Linear(size.width, size.hidden),
            nn.ReLU() if size.stem == "patch" else nn.GELU(),
            nn.Linear(size.hidden, size.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attention and feed-forward part, each added to its input: (B, T, width) → (B, T, width)."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class ConvStem(nn.Module):
    """Convolution to `maps` half-size maps, then 16 × 16 patches of them: (B, 1, 128, 128) → (B, 16, width)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, size.maps, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(size.maps)
        self.patch = nn.Linear(size.maps * 16 * 16, size.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 128, 128) → tokens without position, (B, 16, width); row is frequency, column is time."""
        x = nn.functional.gelu(self.norm(self.conv(x)))
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 16, 16, w // 16, 16).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        out: Tensor = self.patch(x)
        return out


class PatchStem(nn.Module):
    """16 × 16 patches of the image itself: (B, 1, 128, 128) → (B, 64, width)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, size.width, 16, stride=16)
        self.norm = nn.BatchNorm2d(size.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 128, 128) → tokens without position, (B, 64, width); row is frequency, column is time."""
        return nn.functional.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    """Log-Mel image → tokens: (B, 1, 128, 128) → (B, T, width), class token first where the size has one.

    Args:
        size: a name of `SIZES` or a size of one's own.

    Attributes:
        grid: rows (frequency) and columns (time) of the tokens behind the class token; token r · columns + c.
        cls: whether token 0 is the class token.
        width: channels of a token.
    """

    positions: Tensor

    def __init__(self, size: str | Size) -> None:
        super().__init__()
        self.size = size if isinstance(size, Size) else size_of(size)
        self.width, self.cls = self.size.width, self.size.cls
        self.grid = (self.size.side, self.size.side)
        self.stem: nn.Module = ConvStem(self.size) if self.size.stem == "conv" else PatchStem(self.size)
        where = positions(*self.grid, self.width, time=self.size.stem == "conv")
        self.register_buffer("positions", where, persistent=False)
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.width)) if self.cls else None
        self.blocks = nn.ModuleList(Block(self.size) for _ in range(self.size.depth))
        self.norm: nn.Module = nn.LayerNorm(self.width) if self.size.final_norm else nn.Identity()
        initialise(self)

    def embed(self, x: Tensor) -> Tensor:
        """Patches with their position, without class token: (B, 1, 128, 128) → (B, N, width)."""
        out: Tensor = self.stem(x) + self.positions
        return out

    def layers(self, tokens: Tensor) -> list[Tensor]:
        """Outputs of all blocks for embedded patches (B, n, width), each with the class token in front."""
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        outputs[-1] = self.norm(outputs[-1])
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the whole image: (B, 1, 128, 128) → (B, T, width)."""
        return self.layers(self.embed(x))[-1]


class Decoder(nn.Module):
    """One token → an image of 64 × 64, (B, width) → (B, 1, 64, 64); Table 5: five doublings from 2 × 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seed = nn.Linear(width, 512)
        parts: list[nn.Module] = []
        for inside, outside in ((128, 128), (128, 64), (64, 32), (32, 16)):
            parts += [nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1), nn.BatchNorm2d(outside), nn.GELU()]
        self.grow = nn.Sequential(*parts, nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1))
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """(B, width) → (B, 1, 64, 64)."""
        out: Tensor = self.grow(self.seed(z).reshape(-1, 128, 2, 2))
        return out


def initialise(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases of linear and convolution layers, N(0, 0.02) for the class token."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, Encoder) and part.cls_token is not None:
            nn.init.normal_(part.cls_token, std=0.02)


def parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in module.parameters())
