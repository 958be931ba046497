"""From tokens to one embedding per clip.

`band` averages over time alone and keeps the rows of the token grid apart: where in the spectrum energy lies is the
main cue on rotating machines, and an average over frequency discards it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadInput
from pipeline.messages import Float32

Pooling: TypeAlias = Literal["cls", "mean", "band", "band+logmel"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


def pool(tokens: Float32, how: str, grid: tuple[int, int], cls: bool = True, logmel: Float32 | None = None) -> Float32:
    """One vector per clip; its bits do not depend on the clips beside it.

    Args:
        tokens: shape (B, T, d), class token first if `cls`, then token r · columns + c of row r (frequency) and
            column c (time).
        how: ``"cls"`` the class token; ``"mean"`` the mean of the others; ``"band"`` their mean over time for each
            row, rows concatenated; ``"band+logmel"`` that and the time mean of the log-Mel image.
        grid: rows and columns.
        cls: whether the first token is the class token.
        logmel: shape (B, 1, bands, frames) or (B, bands, frames); only for ``"band+logmel"``.

    Returns:
        float32, shape (B, k) with k = `width` of the same arguments.

    Raises:
        BadInput: no such pooling, a class token that is not there, shapes that do not fit, or no image.
    """
    rows, columns = grid
    if tokens.ndim != 3 or tokens.shape[1] != rows * columns + cls:
        raise BadInput("shape", f"tokens of shape {tokens.shape} are no {rows} × {columns} grid, class token {cls}")
    check(how, cls)
    if how == "cls":
        return np.ascontiguousarray(tokens[:, 0], np.float32)
    patches = tokens[:, int(cls) :]
    if how == "mean":
        return _mean(patches, 1)
    bands = _mean(patches.reshape(len(tokens), rows, columns, -1), 2).reshape(len(tokens), -1)
    if how == "band":
        return bands
    if logmel is None or len(logmel) != len(tokens) or logmel.ndim not in {3, 4}:
        raise BadInput("logmel", "pooling 'band+logmel' needs the log-Mel images that the tokens were made of")
    return np.concatenate([bands, time_mean(logmel)], axis=1)


def time_mean(logmel: Float32) -> Float32:
    """The baseline's features: mean of each Mel band over time, (B, 1, bands, frames) → (B, bands)."""
    images = logmel.reshape(len(logmel), -1, logmel.shape[-1])
    mean: Float32 = images.mean(axis=2, dtype=np.float64).astype(np.float32)
    return mean


def width(how: str, grid: tuple[int, int], d: int, bands: int = 128, cls: bool = True) -> int:
    """Numbers in an embedding of tokens with d channels.

    Raises:
        BadInput: no such pooling, or a class token that is not there.
    """
    check(how, cls)
    return {"cls": d, "mean": d, "band": grid[0] * d, "band+logmel": grid[0] * d + bands}[how]


def check(how: str, cls: bool) -> None:
    """Refuse a pooling that does not exist or that this encoder cannot give.

    Raises:
        BadInput: says which there are.
    """
    if how not in POOLINGS:
        raise BadInput("pooling", f"no pooling '{how}': one of {', '.join(POOLINGS)}")
    if how == "cls" and not cls:
        raise BadInput("pooling", "this encoder has no class token: pool by mean, band or band+logmel")


def _mean(x: NDArray[np.float32], axis: int) -> Float32:
    """In double precision, one summand after the other, so that neither layout nor batch touch the bits."""
    x = np.moveaxis(x, axis, 0)
    total = np.zeros(x.shape[1:], np.float64)
    for part in x:
        total += part
    return (total / len(x)).astype(np.float32)
