"""Why a window is abnormal: which bands lie how far from the nearest normal one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.anomaly.fusion import Fused, Fusion
from models.anomaly.vectors import ANOMALY, BAND, LEVEL, UNHEARD_DB, Dimension, Extraction
from pipeline.messages import Float32, axis_names

_STRONGEST = 8
_SHOWN = 3
_LEAST_DB = 1.0
"""What differs by less is not named."""
_BESIDE = 0.1
"""Nor what deviates by less than this share of the strongest: beside it, that is how windows differ."""
_NEAR_DB = 3.0
_FEW = 0.1  # of the bands


def reasons(
    vectors: Mapping[str, Float32], fusions: Mapping[str, Fusion], detector: str, fused: Fused, extraction: Extraction
) -> dict[str, Any]:
    """JSON values that tell a person what differs.

    Args:
        vectors: of the window, by detector, (d,), in decibels.
        fusions: of the same detectors, learned from the same windows.
        detector: whose reasons.
        fused: its verdict.
        extraction: that made the vectors.

    Returns:
        ``bands`` (up to three, neighbours of the same sign together; `db` against the nearest normal window, and
        `sigma`, the same in robust standard deviations), ``distance`` to it in standardised units, and ``text``.
    """
    dimensions, fusion = extraction.dimensions[detector], fusions[detector]
    nearest = int(np.argmin(fused.apart))
    db = _change(vectors[detector], fusion, nearest)
    db[fusion.scale.spread >= UNHEARD_DB] = 0.0  # older baselines judge what cannot be heard, and say so
    if detector == ANOMALY:
        levels = _change(vectors[LEVEL], fusions[LEVEL], nearest) if LEVEL in fusions else None
        for channel in range(extraction.rows):
            mine = [i for i, d in enumerate(dimensions) if d.channel == channel and extraction.heard[detector][i]]
            db[mine] -= _unchanged(db, mine, levels, channel, extraction)
    sigma: Float32 = db / fusion.scale.spread
    bands = [_band(run, sigma, db, dimensions) for run in _runs(sigma, db, dimensions)]
    channels = 1 + max(d.channel for d in dimensions)
    axes = axis_names(channels) if channels > 1 else ("",)
    text = ", ".join(f"{axes[band['channel']]} {_words(band)}".strip() for band in bands)
    return {
        "bands": bands,
        "distance": float(fused.apart[nearest]),
        "text": f"{text or 'many differences under 1 dB'} against the nearest normal ({fused.decided_by})",
    }


def _change(x: Float32, fusion: Fusion, nearest: int) -> Float32:
    return x - fusion.scale.undo(fusion.bank.vectors[nearest])


def _unchanged(
    db: Float32, mine: Sequence[int], levels: Float32 | None, channel: int, extraction: Extraction
) -> np.float32:
    """Where a band lies that did not change: a spectrum less its own mean moves as a whole when a part of it changes.

    The octaves' levels tell how far the mean has moved, roughly; the median of the bands that lie near it is exact.
    Where next to none does, everything became louder or softer, and the median of all is the reference.

    Args:
        db: change of each band less its mean.
        mine: the bands of this channel that can be heard.
        levels: change of the level's numbers; None where it is not known.
        channel: which.
        extraction: that made the vectors.
    """
    change, bands = db[mine], extraction.dimensions[ANOMALY]
    centre = np.array([(bands[i].low_hz + bands[i].high_hz) / 2 for i in mine])
    moved = [
        levels[k] - change[inside].mean()
        for k, octave in enumerate(extraction.dimensions[LEVEL] if levels is not None else ())
        if levels is not None and octave.channel == channel
        and (inside := (centre >= octave.low_hz) & (centre < octave.high_hz)).any()
    ]  # fmt: skip
    near = change[np.abs(change + np.median(moved)) <= _NEAR_DB] if moved else change[:0]
    return np.float32(np.median(near if len(near) > _FEW * len(change) else change))


def _runs(sigma: Float32, db: Float32, dimensions: Sequence[Dimension]) -> list[list[int]]:
    """The strongest deviations, neighbouring bands of one channel and sign joined, strongest run first."""
    order, least = np.argsort(-np.abs(sigma), kind="stable")[:_STRONGEST], _BESIDE * np.abs(sigma).max()
    strongest = sorted(i for i in order if abs(db[i]) >= _LEAST_DB and abs(sigma[i]) >= least)
    runs: list[list[int]] = []
    for i in strongest:
        last = runs[-1][-1] if runs else -2
        here, before = dimensions[i], dimensions[last]
        joined = i == last + 1 and here.channel == before.channel and here.name == BAND
        if joined and (sigma[i] > 0) == (sigma[last] > 0):
            runs[-1].append(i)
        else:
            runs.append([i])
    return sorted(runs, key=lambda run: -float(np.abs(sigma[run]).max()))[:_SHOWN]


def _band(run: Sequence[int], sigma: Float32, db: Float32, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    peak = max(run, key=lambda i: abs(float(sigma[i])))
    first, last = dimensions[run[0]], dimensions[run[-1]]
    band: dict[str, Any] = {"channel": first.channel, "sigma": float(sigma[peak]), "db": float(db[peak])}
    if last.name == BAND:
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
