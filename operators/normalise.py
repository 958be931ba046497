"""Windows of samples without their level: what is taken off stays in `side`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from operators.base import Windowed
from operators.levels import full_scale, is_silent
from pipeline.messages import Float32, Message, Stream, Window

Kind: TypeAlias = Literal["rms", "zscore"]


class Normalise(Windowed):
    """`Window` of samples, shape (n, channels) → the same window normalised channel by channel, float32.

    ``"rms"`` divides by the root mean square; ``"zscore"`` subtracts the mean and divides by the population standard
    deviation. A silent channel is not divided: its values stay in the stream's unit (for ``"zscore"`` without their
    mean) and ``silent`` is 1.

    `side` keeps what the window had and adds ``mean``, ``std``, ``rms`` in the stream's unit and ``silent`` (1.0 if
    the standard deviation, for ``"rms"`` the RMS, is under that of `levels.full_scale`, else 0.0); of several channels
    ``ch0_mean`` ... and ``silent`` if any is. Incomplete windows pass unchanged.

    Args:
        stream: the stream of the windows.
        kind: what to take off.
    """

    def __init__(self, stream: Stream, kind: Kind = "zscore") -> None:
        if kind not in ("rms", "zscore"):
            raise ValueError(f"kind must be 'rms' or 'zscore', not '{kind}'")
        self.stream = stream
        self._kind = kind
        self._threshold = full_scale(stream).silent

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """Normalise one window."""
        if not isinstance(message, Window):
            raise TypeError(f"Normalise takes Window, not {type(message).__name__}")
        if not message.complete:
            return [message]
        values, removed = normalise(message.values, self._kind, self._threshold)
        silent = {"silent": max(channel["silent"] for channel in removed)}
        if len(removed) == 1:
            side = removed[0]
        else:
            side = silent | {f"ch{c}_{name}": v for c, channel in enumerate(removed) for name, v in channel.items()}
        return [replace(message, values=values, side={**message.side, **side})]


def normalise(x: Float32, kind: Kind, threshold: float) -> tuple[Float32, list[dict[str, float]]]:
    """Normalise the columns of x, shape (n, channels), n at least 1.

    Args:
        x: samples; not changed.
        kind: ``"rms"`` or ``"zscore"``, see `Normalise`.
        threshold: RMS or standard deviation below which a column is silent and is not divided.

    Returns:
        Values, float32, the shape of x, and ``mean``, ``std``, ``rms``, ``silent`` of each column.
    """
    columns = np.ascontiguousarray(x.T, np.float64)  # one sum per channel, in one order
    values, removed = np.empty(x.shape, np.float32), []
    for c, column in enumerate(columns):
        mean = float(column.mean())
        centred = column - mean
        std = float(np.sqrt(np.square(centred).mean()))
        rms = float(np.hypot(std, mean))
        kept, size = (centred, std) if kind == "zscore" else (column, rms)
        silent = size == 0.0 or is_silent(size, mean if kind == "zscore" else 0.0, threshold)
        values[:, c] = kept if silent else kept / size
        removed.append({"mean": mean, "std": std, "rms": rms, "silent": float(silent)})
    return values, removed
