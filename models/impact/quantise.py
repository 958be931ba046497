"""Static 8-bit quantisation of an encoder: ranges from calibration clips, and what it costs in accuracy.

Activations are u8 with a zero point, one range per layer input, fixed when the package is made: nothing depends on the
batch. Weights are s8 per output channel, symmetric. Sums are exact in 32-bit integers, hence equal in every position
of a batch. Convolution, normalisation, GELU, softmax and the products inside attention stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.impact.graph import Quantiser, build
from models.impact.network import Encoder
from models.impact.pooling import POOLINGS, pool
from models.packages.session import BATCH_AXIS
from pipeline.errors import BadInput, MissingExtra
from pipeline.messages import Float32

WEIGHT_LIMIT = 64
"""Largest 8-bit weight. Processors without a dot-product instruction (before AVX512-VNNI) add pairs of products in
16 bits: 2 · 255 · 64 still fits, so that they give the same sums as newer ones; 127 would saturate there."""
_BATCH = 8
_SAMPLES = 1 << 16
_SHRINK = np.linspace(0.4, 1.0, 25)


@dataclass(frozen=True, slots=True)
class Loss:
    """What quantisation changes on clips that did not calibrate it.

    Attributes:
        clips: how many.
        cosine: pooling → median cosine between the float32 and the 8-bit embedding.
        worst: pooling → the smallest.
    """

    clips: int
    cosine: Mapping[str, float]
    worst: Mapping[str, float]


def calibrate(encoder: Encoder, clips: Float32) -> dict[str, Quantiser]:
    """Ranges of the inputs of all linear layers, each the one with the least mean squared rounding error.

    Args:
        encoder: in evaluation mode.
        clips: log-Mel images of typical sound, (n, 1, 128, 128).

    Returns:
        Layer → its quantiser.

    Raises:
        BadInput: no clips, or layers that see nothing but zeros.
    """
    if len(clips) == 0:
        raise BadInput("calibration", "quantisation needs clips of typical sound to calibrate on; there are none")
    model, linears = build(encoder, probes=True)
    names = [layer.name for layer in linears]
    step = max(1, -(-len(clips) // _BATCH))
    seen: dict[str, list[Float32]] = {name: [] for name in names}
    limits = dict.fromkeys(names, (0.0, 0.0))
    for values in _outputs(model, clips, [f"{name}.x" for name in names]):
        for name, x in zip(names, values, strict=True):
            flat = x.ravel()
            low, high = limits[name]
            limits[name] = min(low, float(flat.min())), max(high, float(flat.max()))
            share = max(1, len(flat) * step // _SAMPLES) | 1  # odd, so that it visits all channels
            seen[name].append(flat[::share].copy())
    return {name: _best(np.concatenate(seen[name]), *limits[name], name) for name in names}


def _best(x: Float32, low: float, high: float, name: str) -> Quantiser:
    if not high > low or not np.isfinite(high - low):
        raise BadInput("calibration", f"layer '{name}' sees nothing but zeros or not-a-number on the calibration clips")
    best: tuple[float, Quantiser] | None = None
    for shrink in _SHRINK:
        scale = float(np.float32(shrink * (high - low) / 255.0))
        zero = int(np.clip(np.rint(-shrink * low / scale), 0, 255))
        rounded = (np.clip(np.rint(x / np.float32(scale)) + zero, 0, 255) - zero) * scale
        error = float(np.mean(np.square(rounded - x, dtype=np.float64)))
        if best is None or error < best[0]:
            best = error, Quantiser(scale, zero)
    assert best is not None
    return best[1]


def compare(before: Float32, after: Float32, clips: Float32, grid: tuple[int, int], cls: bool) -> Loss:
    """Cosines between the embeddings of two sets of tokens (n, T, d) of the same clips (n, 1, 128, 128)."""
    cosines: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    for how in POOLINGS[:3] if cls else POOLINGS[1:3]:
        a, b = (pool(tokens, how, grid, cls, clips).astype(np.float64) for tokens in (before, after))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines[how] = (a * b).sum(axis=1) / np.maximum(norms, 1e-30)
    return Loss(
        len(clips),
        {how: round(float(np.median(c)), 6) for how, c in cosines.items()},
        {how: round(float(c.min()), 6) for how, c in cosines.items()},
    )


def tokens_of(model: bytes, clips: Float32) -> Float32:
    """The tokens (n, T, d) that a graph gives for clips (n, 1, 128, 128)."""
    return np.concatenate([values[0] for values in _outputs(model, clips, ["tokens"])])


def _outputs(model: bytes, clips: Float32, names: Sequence[str]) -> Iterator[list[Float32]]:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtra("train", "quantising an encoder") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name(BATCH_AXIS, _BATCH)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for at in range(0, len(clips), _BATCH):
        part = np.ascontiguousarray(clips[at : at + _BATCH], np.float32)
        n = len(part)
        values: list[Float32] = session.run(list(names), {"logmel": np.resize(part, (_BATCH, *part.shape[1:]))})
        if n < _BATCH:
            values = [v.reshape(-1, _BATCH, *v.shape[1:])[:, :n] if v.shape[0] != _BATCH else v[:n] for v in values]
        yield values
