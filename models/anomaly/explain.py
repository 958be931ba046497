"""Why a window is abnormal: which bands lie how far from the nearest normal one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.anomaly.fusion import Fused, Fusion
from models.anomaly.vectors import Dimension
from operators.vibration import axis_names
from pipeline.messages import Float32

_STRONGEST = 8
_SHOWN = 3


def reasons(x: Float32, fusion: Fusion, fused: Fused, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """JSON values that tell a person what differs.

    Args:
        x: the vector, (d,), in decibels.
        fusion: what judged it.
        fused: the verdict.
        dimensions: of the vector.

    Returns:
        ``bands`` (up to three, neighbours of the same sign together; `sigma` in robust standard deviations and `db`
        against the nearest normal window), ``distance`` to it in standardised units, and ``text``.
    """
    standard = fusion.scale(x)
    nearest = int(np.argmin(fused.apart))
    normal = fusion.bank.vectors[nearest]
    sigma, db = standard - normal, x - fusion.scale.undo(normal)
    bands = [_band(run, sigma, db, dimensions) for run in _runs(sigma, dimensions)]
    channels = 1 + max(d.channel for d in dimensions)
    axes = axis_names(channels) if channels > 1 else ("",)
    text = ", ".join(f"{axes[band['channel']]} {_words(band)}".strip() for band in bands)
    return {
        "bands": bands,
        "distance": float(fused.apart[nearest]),
        "text": f"{text} against the nearest normal ({fused.decided_by})",
    }


def _runs(sigma: Float32, dimensions: Sequence[Dimension]) -> list[list[int]]:
    """The strongest deviations, neighbouring bands of one channel and sign joined, strongest run first."""
    strongest = sorted(np.argsort(-np.abs(sigma), kind="stable")[:_STRONGEST].tolist())
    runs: list[list[int]] = []
    for i in strongest:
        last = runs[-1][-1] if runs else -2
        here, before = dimensions[i], dimensions[last]
        joined = i == last + 1 and here.channel == before.channel and here.high_hz > 0.0
        if joined and (sigma[i] > 0) == (sigma[last] > 0):
            runs[-1].append(i)
        else:
            runs.append([i])
    return sorted(runs, key=lambda run: -float(np.abs(sigma[run]).max()))[:_SHOWN]


def _band(run: Sequence[int], sigma: Float32, db: Float32, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    peak = max(run, key=lambda i: abs(float(sigma[i])))
    first, last = dimensions[run[0]], dimensions[run[-1]]
    band: dict[str, Any] = {"channel": first.channel, "sigma": float(sigma[peak]), "db": float(db[peak])}
    if last.high_hz > 0.0:
        return {**band, "low_hz": first.low_hz, "high_hz": last.high_hz}
    return {**band, "name": first.name}


def _words(band: dict[str, Any]) -> str:
    if "name" in band:
        what = band["name"].replace("_db", " Hz").replace("_", " ")
    else:
        what = f"{_hertz(band['low_hz'])}–{_hertz(band['high_hz'])} Hz"
    return f"{what} {band['db']:+.1f} dB ({abs(band['sigma']):.1f} sigma {'up' if band['sigma'] > 0 else 'down'})"


def _hertz(f: float) -> str:
    return f"{f:.0f}" if f < 1000 else f"{f / 1000:.1f}k"
