"""Which scorer `stethos validate --detector NAME` asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from models.anomaly.baseline import Baseline
from models.anomaly.embedding import Embedder
from models.anomaly.vectors import ANOMALY, EMBEDDING, LEVEL
from operators.head_detector import BREAK as HEAD_BREAK
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.head import HeadScorer, heads
from pipeline.validation.physics import ALIASES, DETECTORS, physics_scorer
from pipeline.validation.validate import Progress, sentences, validate

LEARNED = (ANOMALY, LEVEL, EMBEDDING)
_UNUSED = "Nothing in the baseline is for this detector, which learns from the manifest's own rows what it must know."


def validate_detector(
    name: str,
    rows: Sequence[Row],
    baselines: Mapping[tuple[str, str], Baseline] | None,
    normal: Collection[str],
    out: Path,
    progress: Progress | None = None,
    embedders: Mapping[tuple[str, str], Embedder] | None = None,
    config: Path | None = None,
) -> list[str]:
    """`validate` for one detector; returns the outcome in sentences.

    Args:
        name: of a physics detector, or of one that a baseline holds.
        rows: of the manifest.
        baselines: (machine, sensor) → baseline; needed by the latter.
        normal: labels that mean normal.
        out: folder for the figures.
        progress: called with (done, total, name) after each recording.
        embedders: of the baselines that judge an embedding.
        config: says where the bits and microphones of drilling heads are.

    Raises:
        BadInput: no such detector, a baseline is missing, or no row could be scored.
    """
    if name in LEARNED:
        if baselines is None:
            raise BadInput("detector", f"the detector '{name}' needs --baseline DIR: commission the machine first")
        if name == EMBEDDING and not embedders:
            why = "no baseline judges one, or its encoder is not at hand (--search)"
            raise BadInput("detector", f"the detector '{name}' cannot be judged: {why}")
        return sentences(validate(rows, BaselineScorer(baselines, name, embedders), out, normal, progress))
    if name not in DETECTORS and name not in ALIASES:
        every = ", ".join((*DETECTORS, *LEARNED))
        raise BadInput("detector", f"there is no detector '{name}'; choose from {every}")
    scorer = HeadScorer(rows, normal, heads(config)) if name == HEAD_BREAK else physics_scorer(name, rows, normal)
    lines = sentences(validate(rows, scorer, out, normal, progress, scorer.uncounted))
    return lines if baselines is None else [*lines, _UNUSED]
