"""Which tokens a student sees: inverse block masking (EAT, arXiv 2401.03497) and alternatives, in numpy.

On a grid of 4 × 4 tokens EAT's own sampler keeps a whole block in only (3/4)² = 56 % of the draws, because blocks are
clamped at the border; `inverse_block` draws the block's corner where the whole block fits. Block masking favours
event-like sounds over steady ones (Niizumi et al., arXiv 2603.23810), hence the other two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.impact.settings import Masking

Indices = NDArray[np.int64]
_ADJUST = 0.07  # added to the visible share when blocks are counted, as in EAT and data2vec 2.0


def visible(tokens: int, ratio: float) -> int:
    """Tokens that stay visible: int(tokens · (1 − ratio)), 4 of 16 at 0.7."""
    return int(tokens * (1.0 - ratio) + 1e-9)


def blocks(tokens: int, ratio: float, block: int) -> int:
    """Blocks that are drawn, as EAT counts them; 0 means that block masking degenerates to random masking."""
    return int(tokens * (1.0 - ratio + _ADJUST) / block**2)


def draw(
    how: Masking,
    rng: np.random.Generator,
    count: int,
    grid: tuple[int, int],
    ratio: float = 0.7,
    block: int = 2,
    dispersion: NDArray[np.floating] | None = None,
) -> Indices:
    """Indices of the visible tokens, int64, shape (count, visible), rising in each row.

    Args:
        how: ``"inverse_block"`` whole blocks, ``"eat_block"`` blocks clamped at the border, both then filled up or
            thinned out at random to the exact number; ``"random"``; ``"dispersion_weighted"`` without replacement,
            in proportion to `dispersion`.
        rng: source of chance.
        count: draws.
        grid: rows and columns of the tokens.
        ratio: share that is hidden.
        block: side of a block in tokens.
        dispersion: standard deviation within each patch, shape (count, tokens).

    Raises:
        ValueError: nothing would stay visible, a block does not fit or none would be drawn, or the dispersion is
            missing.
    """
    rows, columns = grid
    tokens = rows * columns
    keep = visible(tokens, ratio)
    if not 0 < keep < tokens:
        raise ValueError(f"mask_ratio = {ratio} leaves {keep} of {tokens} tokens visible: choose one that leaves some")
    order = rng.random((count, tokens))
    if how == "dispersion_weighted":
        if dispersion is None or dispersion.shape != (count, tokens):
            raise ValueError("dispersion-weighted masking needs the dispersion of every patch")
        # the smallest of exponential variables with these rates: draws without replacement (Efraimidis, Spirakis 2006)
        order = -np.log1p(-order) / (np.asarray(dispersion, np.float64) + 1e-6)
    elif how != "random":
        order -= _block_mask(how, rng, count, grid, ratio, block)
    return np.sort(np.argsort(order, axis=1)[:, :keep], axis=1)


def patch_dispersion(images: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Standard deviation within each patch: images (n, 128, 128) → (n, tokens)."""
    rows, columns = grid
    n, height, width = images.shape
    patches = images.reshape(n, rows, height // rows, columns, width // columns)
    std: NDArray[np.float64] = patches.std(axis=(2, 4), dtype=np.float64)
    return std.reshape(n, rows * columns)


def _block_mask(
    how: Masking, rng: np.random.Generator, count: int, grid: tuple[int, int], ratio: float, block: int
) -> NDArray[np.float64]:
    """1 inside a block, 0 elsewhere, shape (count, tokens)."""
    rows, columns = grid
    n = blocks(rows * columns, ratio, block)
    if n == 0 or block > min(grid):
        raise ValueError(
            f"blocks of {block} × {block} on {rows} × {columns} tokens at mask_ratio = {ratio} would be random "
            f"masking: choose a smaller block"
        )
    span = np.arange(block)
    if how == "inverse_block":
        top = rng.integers(0, rows - block + 1, (count, n, 1)) + span
        left = rng.integers(0, columns - block + 1, (count, n, 1)) + span
    else:
        centre = rng.integers(0, rows * columns, (count, n, 1))
        top = np.clip(centre // columns - block // 2 + span, 0, rows - 1)
        left = np.clip(centre % columns - block // 2 + span, 0, columns - 1)
    index = (top[..., :, None] * columns + left[..., None, :]).reshape(count, -1)
    mask = np.zeros((count, rows * columns))
    np.put_along_axis(mask, index, 1.0, axis=1)
    return mask
