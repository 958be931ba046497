"""Which scorer `stethos validate --detector NAME` asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from models.anomaly.baseline import Baseline
from models.anomaly.embedding import Embedder
from models.anomaly.vectors import ANOMALY, EMBEDDING, LEVEL
from operators.breakage_detector import BREAK, MISSING, WEAR
from operators.head_detector import BREAK as HEAD_BREAK
from operators.head_detector import SILENT
from operators.head_geometry import HeadGeometry
from operators.severity_alarm import CHANGE, SEVERITY
from operators.teeth import TOOTH_LOSS
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, Row
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.head import HeadScorer, heads
from pipeline.validation.physics import BearingScorer, BreakScorer, ChatterScorer, PhysicsScorer, ToothScorer
from pipeline.validation.severity import SeverityScorer
from pipeline.validation.tool_life import MissingScorer, SilentScorer, WearScorer
from pipeline.validation.validate import Progress, sentences, validate

Heads = Mapping[str, HeadGeometry]
_SCORERS: dict[str, Callable[[Sequence[Row], Collection[str], Heads], PhysicsScorer]] = {
    "chatter": lambda _rows, _normal, _heads: ChatterScorer(),
    TOOTH_LOSS: lambda _rows, _normal, _heads: ToothScorer(),
    BREAK: lambda rows, normal, _heads: BreakScorer(rows, normal),
    MISSING: lambda rows, normal, _heads: MissingScorer(rows, normal),
    WEAR: lambda rows, normal, _heads: WearScorer(rows, normal),
    HEAD_BREAK: HeadScorer,
    SILENT: SilentScorer,
    "bearing": lambda _rows, _normal, _heads: BearingScorer(),
    SEVERITY: lambda rows, normal, _heads: SeverityScorer(rows, normal, SEVERITY),
    CHANGE: lambda rows, normal, _heads: SeverityScorer(rows, normal, CHANGE),
}
DETECTORS = tuple(_SCORERS)
ALIASES = {"drill": BREAK, "break": BREAK}
LEARNED = (ANOMALY, LEVEL, EMBEDDING)
_UNUSED = "Nothing in the baseline is for this detector, which learns from the manifest's own rows what it must know."


def physics_scorer(
    name: str, rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS, places: Heads | None = None
) -> PhysicsScorer:
    """The scorer of a physics detector by its name.

    Raises:
        BadInput: there is none of this name.
    """
    name = ALIASES.get(name, name)
    if name not in _SCORERS:
        every = ", ".join((*DETECTORS, *LEARNED))
        raise BadInput("detector", f"there is no detector '{name}'; choose from {every}")
    return _SCORERS[name](rows, normal, places or {})


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
    scorer = physics_scorer(name, rows, normal, heads(config))
    lines = sentences(validate(rows, scorer, out, normal, progress, scorer.uncounted))
    return lines if baselines is None else [*lines, _UNUSED]
