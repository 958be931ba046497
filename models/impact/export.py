"""A trained encoder as a model package: graph, quantisation, parity with torch, golden rows, latency, card."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.impact.graph import OPSET, build
from models.impact.network import Encoder
from models.impact.pooling import check as check_pooling
from models.impact.quantise import WEIGHT_LIMIT, calibrate, compare, tokens_of
from models.packages import Card, Input, Output, Package, write
from models.packages.session import Session
from operators.mel import PAPER, FrontEnd
from pipeline.errors import BadInput
from pipeline.messages import Float32

PARITY = 1e-4
"""Largest difference between a token of the float32 graph and of torch, per unit of the tokens' RMS (at least 1)."""
BATCH = 8
_GOLDEN = 4
_INT8_TOLERANCE = 0.05
Probe = Callable[[Session, Session], Mapping[str, Any]]
"""Takes the float32 and the 8-bit graph, ready to run; gives figures for the card: `models.probe.rounding`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What only the one who trained the encoder knows, for its card; see `models.packages.Card`."""

    name: str
    version: str
    pooling: str = "band"
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)


def export_package(
    source: Encoder | Path,
    out_dir: Path,
    calibration: Float32,
    facts: Facts,
    *,
    int8: bool = True,
    batch: int = BATCH,
    front_end: FrontEnd = PAPER,
    probe: Probe | None = None,
    about: Mapping[str, Any] | None = None,
) -> Package:
    """Write an encoder as a package and load it.

    Args:
        source: the encoder, or the folder of a training run or checkpoint.
        out_dir: folder of the package; must not exist.
        calibration: log-Mel images of typical sound that did not train it, (n, 1, 128, 128), at least 8, better 256.
            Even rows set the ranges, odd rows measure what quantisation costs.
        facts: for the card.
        int8: static 8-bit quantisation; else float32.
        batch: rows of every run.
        front_end: that made the images.
        probe: measures what eight bits lose on a task.
        about: what the card's quantisation tells besides, e.g. what `calibration` was cut from.

    Returns:
        The package, verified.

    Raises:
        BadInput: clips of another shape, a graph that does not give what torch gives, or whose rows change bits with
            their position.
        StateError: the folder exists, or the checkpoint is damaged.
    """
    encoder = _encoder(source)
    clips = _clips(calibration)
    check_pooling(facts.pooling, encoder.cls)
    model, _ = build(encoder)
    tokens = tokens_of(model, clips)
    parity = _parity(encoder, clips, tokens)
    card = Card(
        kind="encoder",
        name=facts.name,
        version=facts.version,
        input=Input(front_end.hash, _words(front_end), (1, front_end.bands, front_end.frames), front_end.rate_hz),
        outputs=(Output("tokens", (tokens.shape[1], encoder.width)),),
        opset=OPSET,
        pooling=facts.pooling,
        grid=encoder.grid,
        training=dict(facts.training),
        scores={**facts.scores, "parity_with_torch": parity},
        batch=batch,
        tolerance=1e-4,
    )
    if int8:
        rounded, loss = _int8(encoder, clips, tokens)
        if probe is not None:
            loss["probe"] = dict(probe(Session(model, card), Session(rounded, card)))
        card = replace(card, quantisation={**loss, **(about or {})}, tolerance=_INT8_TOLERANCE)
        model = rounded
    card = replace(card, latency=_latency(model, card, clips))
    package = write(out_dir, card, model, _golden(clips, batch))
    if package.alone:
        raise BadInput("rows", f"{out_dir}: the graph's rows change bits with their position in the batch")
    return package


def _encoder(source: Encoder | Path) -> Encoder:
    if isinstance(source, Encoder):
        return source.eval()
    from models.impact.checkpoint import load_encoder

    return load_encoder(source)[0]


def _clips(calibration: Float32) -> Float32:
    clips = np.ascontiguousarray(calibration, np.float32)
    if clips.ndim != 4 or clips.shape[1:] != (1, 128, 128) or len(clips) < 8:
        raise BadInput("calibration", f"needs at least 8 images (n, 1, 128, 128), not {clips.shape}")
    if not np.isfinite(clips).all():
        raise BadInput("calibration", "the images hold infinite or not-a-number values")
    return clips


def _parity(encoder: Encoder, clips: Float32, tokens: Float32) -> float:
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(clips[:16]).to(next(encoder.parameters()).device)).cpu().numpy()
    rms = max(1.0, float(np.sqrt(np.mean(np.square(wanted)))))
    worst = float(np.abs(wanted - tokens[:16]).max()) / rms
    if not worst < PARITY:
        raise BadInput("parity", f"the graph's tokens deviate from torch's by {worst:.2g} of their RMS, above {PARITY}")
    return worst


def _int8(encoder: Encoder, clips: Float32, tokens: Float32) -> tuple[bytes, dict[str, Any]]:
    quantisers = calibrate(encoder, clips[::2])
    model, linears = build(encoder, quantisers, weight_limit=WEIGHT_LIMIT)
    after = tokens_of(model, clips)
    loss = compare(tokens[1::2], after[1::2], clips[1::2], encoder.grid, encoder.cls)
    return model, {
        "form": "static, QDQ; activations u8 per tensor, weights s8 per channel",
        "weight_limit": WEIGHT_LIMIT,
        "layers": len(quantisers),
        "calibration_clips": len(clips[::2]),
        "held_out_clips": loss.clips,
        "cosine_median": dict(loss.cosine),
        "cosine_min": dict(loss.worst),
        "probe": {},
        "linear_layers": len(linears),
    }


def _golden(clips: Float32, batch: int) -> Float32:
    """A few different clips, rounded so that they pack well."""
    rows: list[Float32] = []
    for clip in clips:
        row = (np.rint(clip * 64.0) / 64.0).astype(np.float32)
        if all((row != other).any() for other in rows):
            rows.append(row)
        if len(rows) == min(_GOLDEN, batch):
            break
    if len(rows) < 2:
        raise BadInput("calibration", "the images are all the same; golden rows must differ")
    return np.stack(rows)


def _latency(model: bytes, card: Card, clips: Float32, runs: int = 5) -> dict[str, Any]:
    """Milliseconds of CPU time per clip, one thread, best of a few runs, alone in a padded batch and in a full one."""
    session = Session(model, card)
    times = {}
    for key, n in (("alone", 1), ("full_batch", card.batch)):
        x, best = np.resize(clips, (n, *clips.shape[1:])), float("inf")
        for _ in range(runs):
            start = time.process_time()
            session.run(x)
            best = min(best, time.process_time() - start)
        times[f"{key}_ms_per_clip"] = round(best / n * 1e3, 3)
    return {**times, "batch": card.batch, "threads": 1, "processor": _processor()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _words(e: FrontEnd) -> str:
    return (
        f"log-Mel '{e.name}': {e.rate_hz:g} Hz, n_fft {e.n_fft}, hop {e.hop}, {e.bands} bands from {e.f_min:g} to "
        f"{e.f_max:g} Hz, {e.frames} frames, waveform {e.waveform}, scaling {e.scaling}"
    )
