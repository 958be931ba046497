"""A training run as a package: what it is calibrated on, and what its eight bits cost on labelled recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.packages import Package
from models.packages.session import Session
from models.probe.clips import Facts as ClipFacts
from models.probe.clips import check, columns
from models.probe.features import LogMelMean
from models.probe.rounding import AFTER, BEFORE, Tokens, rounding_loss
from models.probe.splits import leak_free
from pipeline.cli.probing import Source, features_of, rows_of
from pipeline.contents import fingerprint
from pipeline.errors import BadInput
from pipeline.manifest import alike, read_manifest, torn_recordings

if TYPE_CHECKING:
    from models.impact.crops import Crops, Take
    from models.impact.export import Facts
    from pipeline.messages import Rate

CALIBRATION = 512
"""Crops that quantisation is calibrated (even ones) and checked on (odd ones)."""


_BEGINNING, _AT_ONCE = 1 << 14, 1 << 20
"""Samples that tell recordings apart nearly always; samples read at once where they do not."""


@dataclass(frozen=True, slots=True)
class Judges:
    """Recordings that a package is made with, besides those that trained it.

    Attributes:
        held_out: takes that did not train, to calibrate on; None for fresh crops of those that did.
        labelled: labelled recordings that both graphs are probed on; empty for none.
    """

    held_out: Sequence[Take] | None = None
    labelled: Sequence[Source] = ()


def labelled_sources(path: Path) -> list[Source]:
    """The recordings of sound of a labelled manifest, each of its label and group.

    Raises:
        ConfigError: the manifest has no sense.
        BadInput: no sound, one class or one group only, a recording in two groups, or labels that are spelt alike.
    """
    rows = rows_of(path, read_manifest(path), "sound")[1]
    found = [Source(row, ClipFacts(row.name, 0.0, row.label, row.group, row.sensor, row.label)) for row in rows]
    check(columns([source.facts for source in found]))
    if twice := torn_recordings(rows):
        raise BadInput("leak", f"{path}: {twice}; keep recordings whole")
    if wrong := alike({row.label for row in rows}):
        raise BadInput("labels", f"{path}: {wrong}")
    return found


def judgeable(sources: list[Source], notice: Callable[[str], None]) -> list[str]:
    """Read labelled recordings once, so that a run does not end without its package because they cannot serve.

    Args:
        sources: of `labelled_sources`.
        notice: told what is being read.

    Returns:
        What was left out.

    Raises:
        BadInput: what can be read has one class or one group only, or cannot be split; see `splits.leak_free`.
    """
    found, _, left_out = features_of("labelled", sources, [LogMelMean()], None, notice)
    try:
        leak_free(columns(found))
    except BadInput as error:
        first = f"; {len(left_out)} remarks on {len(sources)} recordings, the first: {left_out[0]}" if left_out else ""
        raise BadInput(error.reason, f"--labelled: {error}{first}") from error
    return left_out


def apart_from(judges: Judges, crops: Crops) -> None:
    """Refuse to calibrate on what trained.

    Raises:
        BadInput: a take to calibrate on shares samples with one that trained, or is a copy of one in another format.
    """
    for take in judges.held_out or ():
        for other in crops.takes:
            shared = min(take.first + take.samples, other.first + other.samples) - max(take.first, other.first)
            if take.content and take.content == other.content and shared > 0:
                raise BadInput("leak", f"--held-out: {take.name} trains, too; name recordings that do not")
    for take, other in _copies(judges.held_out or (), crops.takes):
        raise BadInput(
            "leak", f"--held-out: {take.name} is a copy of {other.name}, which trains; name recordings that do not"
        )


def _copies(some: Sequence[Take], others: Sequence[Take]) -> Iterator[tuple[Take, Take]]:
    """Pairs of the same samples, whatever their files are called and how they are packed; silence is no copy."""
    shapes = [{_shape(take) for take in takes} for takes in (some, others)]
    begun: dict[bytes, list[Take]] = {}
    for other in others:
        if _shape(other) in shapes[0] and (begins := _begins(other)):
            begun.setdefault(begins, []).append(other)
    for take in some:
        for other in begun.get(_begins(take), ()) if _shape(take) in shapes[1] else ():
            parts = range(0, take.samples, _AT_ONCE)
            ends = [min(take.samples, n0 + _AT_ONCE) for n0 in parts]
            if _shape(take) == _shape(other) and all(
                np.array_equal(take.read(a, b), other.read(a, b)) for a, b in zip(parts, ends, strict=True)
            ):
                yield take, other


def _shape(take: Take) -> tuple[Rate, int, int]:
    return take.rate, take.samples, take.channels


def _begins(take: Take) -> bytes:
    """Hash of the first samples; empty where they are silent, or cannot be read, which the run tells by itself."""
    try:
        x = take.read(0, min(take.samples, _BEGINNING))
    except BadInput:
        return b""
    return hashlib.sha256(np.ascontiguousarray(x).data).digest() if x.any() else b""


def package_run(
    run: Path, out: Path, crops: Crops, facts: Facts, judges: Judges, notice: Callable[[str], None] | None = None
) -> Package:
    """Export a run with its card.

    Args:
        run: folder of the run.
        out: folder of the package.
        crops: that trained.
        facts: for the card.
        judges: what it is calibrated and probed on.
        notice: told what is being read.

    Raises:
        BadInput: the recordings cannot serve; see `export_package` and `rounding_loss`.
        StateError: the folder exists, or the checkpoint is damaged.
    """
    from models.impact.crops import Crops
    from models.impact.export import export_package
    from models.impact.images import image

    takes = crops.takes if judges.held_out is None else judges.held_out
    fresh = Crops(takes, crops.mixing, crops.seed + 1)
    images = np.stack([image(fresh.clip(i)) for i in range(CALIBRATION)])
    told = {"calibrated_on": "crops of the recordings that trained"}
    if judges.held_out is not None:
        told = {"calibrated_on": f"{len(takes)} recordings that did not train"}

    def probe(before: Session, after: Session) -> Mapping[str, Any]:
        found, features, left_out = features_of(
            "labelled", list(judges.labelled), [LogMelMean(), Tokens(BEFORE, before), Tokens(AFTER, after)],
            None, notice or (lambda _: None),
        )  # fmt: skip
        return {**rounding_loss(found, features), "heard_in_training": _heard(judges.labelled, crops.takes),
                "left_out": len(left_out)}  # fmt: skip

    return export_package(run, out, images[:, None], facts, probe=probe if judges.labelled else None, about=told)


def _heard(labelled: Sequence[Source], takes: Sequence[Take]) -> int:
    """How many of the labelled recordings trained the encoder, too, without their labels."""
    trained = {take.content for take in takes}
    return sum(source.row.path.is_file() and fingerprint(source.row.path) in trained for source in labelled)
