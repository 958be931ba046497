"""Labelled recordings of sound or vibration as features for probes and heads, kept so that a stopped run goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from models.anomaly.vectors import extraction
from models.probe.clips import Facts
from models.probe.features import Encoder, Extractor, digest_of, extract
from models.probe.run import keep, kept
from models.probe.seconds import SHORTEST_TAIL_S, Second, seconds
from models.probe.vibration import Shake, VibrationMean, shakes
from pipeline.clips import Piece, read_clip
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import Float32


def _pieces(row: Row) -> Sequence[Piece]:
    return read_clip(row).pieces


Senses: TypeAlias = Literal["sound", "vibration"]
_OF: dict[str, Senses] = {"acoustic": "sound", "stethoscope": "sound", "vibration": "vibration"}
_AT_ONCE = 50
"""Recordings whose features are kept together: what a stopped run loses at most."""


@dataclass(frozen=True, slots=True)
class Source:
    """A recording to be cut into clips: its row, its facts but the second, and which rest is still a clip.

    `pieces` opens it; by default the file that the row names.
    """

    row: Row
    facts: Facts
    shortest_tail_s: float = SHORTEST_TAIL_S
    pieces: Callable[[Row], Sequence[Piece]] = _pieces


def rows_of(path: Path, rows: Sequence[Row], asked: str | None) -> tuple[Senses, list[Row]]:
    """What a manifest is about, and its rows of that.

    Args:
        path: of the manifest, for errors.
        rows: of it.
        asked: ``"sound"`` or ``"vibration"``; None where the rows tell.

    Raises:
        BadInput: it holds both and nothing was asked for, or nothing of what was asked for.
    """
    there = sorted({_OF[row.modality] for row in rows if row.modality in _OF})
    if asked is None and len(there) > 1:
        raise BadInput(
            "modality",
            f"{path}: has recordings of sound and of vibration, which share no features; choose by --modality",
        )
    senses: Senses | None = next((s for s in there if s == asked or asked is None), None)
    if senses is None:
        raise BadInput("manifest", f"{path}: has no recordings of {asked or 'sound or vibration'}")
    return senses, [row for row in rows if _OF.get(row.modality) == senses]


def vibration_of(rows: Sequence[Row]) -> VibrationMean:
    """The features of the accelerometer that all rows were recorded with.

    Raises:
        BadInput: rates or axes differ, so that no vector of one is a vector of the other; or no row can be read.
    """
    first: tuple[Row, VibrationMean] | None = None
    failed: BadInput | None = None
    for row in rows:
        try:
            features = extraction(read_clip(row).stream)
        except BadInput as error:  # it is left out where it is read, and noted there
            failed = error
            continue
        if first is None:
            first = row, VibrationMean(features)
        elif features.hash != first[1].features.hash:
            other = first[1].features
            raise BadInput(
                "features",
                f"{row.name} has {features.channels} axes at {features.rate.hz:g} Hz, {first[0].name} has "
                f"{other.channels} at {other.rate.hz:g} Hz: one head or probe reads one kind of accelerometer",
            )
    if first is None:
        raise failed or BadInput("manifest", "there is no recording of vibration")
    return first[1]


def apart(extractors: Iterable[Extractor]) -> list[Extractor]:
    """The extractors under names of their own, since features are kept by name; one that is named twice stands once.

    Encoders whose folders share a name, or bear that of a baseline, get the first letters of their digest.
    """
    found = list({(e.name, e.digest): e for e in extractors}.values())
    count = Counter(e.name for e in found)
    for e in found:
        if isinstance(e, Encoder) and count[e.name] > 1:
            e.name = f"{e.name}@{e.digest[:8]}"
    return found


def features_of(
    name: str, sources: list[Source], extractors: list[Extractor], folder: Path | None, notice: Callable[[str], None]
) -> tuple[list[Facts], dict[str, Float32], list[str]]:
    """Features of all clips, those of an earlier run taken over; and what was left out.

    Raises:
        BadInput: extractors share a name, or read different clips, so that rows would not be those of the facts.
    """
    facts: list[Facts] = []
    parts: dict[str, list[Float32]] = {}
    notes: list[str] = []
    for at in range(0, len(sources), _AT_ONCE):
        some = sources[at : at + _AT_ONCE]
        notice(f"{name}: {some[0].row.name}")
        for extractor in extractors:
            found, arrays, left_out = _some(some, extractor, folder and folder / f"{at}-{extractor.name}.npz")
            for how, x in arrays.items():
                parts.setdefault(f"{extractor.name} {how}".strip(), []).append(x)
        facts += found
        notes += left_out
    features = {key: np.concatenate(x) for key, x in parts.items()}
    for key, x in features.items():
        if len(x) != len(facts):
            raise BadInput("features", f"{name}: {key} has {len(x)} rows for {len(facts)} clips; name packages apart")
    return facts, features, notes


def _some(
    sources: Sequence[Source], extractor: Extractor, path: Path | None
) -> tuple[list[Facts], dict[str, Float32], list[str]]:
    digest = digest_of([s.facts for s in sources], extractor.digest, *(_state(s.row) for s in sources))
    arrays: dict[str, Any] | None = None if path is None else kept(path, digest)
    if arrays is None:
        notes: list[str] = []
        facts, features = extract(_clips(sources, notes), [extractor])
        arrays = {f"x {how}": x for how, x in features[extractor.name].items()}
        arrays["facts"] = np.array(json.dumps([[getattr(f, n) for n in Facts.__slots__] for f in facts]))
        arrays["notes"] = np.array(json.dumps(notes))
        if path is not None:
            keep(path, digest, arrays)
    rows = json.loads(str(arrays["facts"]))
    return (
        [Facts(*row) for row in rows],
        {key[2:]: x for key, x in arrays.items() if key.startswith("x ")},
        json.loads(str(arrays["notes"])),
    )


def _state(row: Row) -> str:
    told = row.path.stat() if row.path.is_file() else None
    said = f"{row.path.resolve()} {row.rate} {row.modality} {row.unit} {row.scale}"
    return f"{said} {row.start_s} {row.end_s} {told.st_size if told else None} {told.st_mtime_ns if told else None}"


def _clips(sources: Sequence[Source], notes: list[str]) -> Iterator[tuple[Facts, Second | Shake]]:
    """One-second clips, those of vibration half a second apart.

    Recordings that cannot be read, and silent clips, are noted and left out.
    """
    for source in sources:
        silent = clipped = 0
        try:
            for piece in source.pieces(source.row):
                shaken = source.row.modality == "vibration"
                for second in shakes(piece) if shaken else seconds(piece, source.shortest_tail_s):
                    clipped += second.clipped
                    silent += second.silent
                    if not second.silent:
                        yield replace(source.facts, start_s=source.facts.start_s + second.start_s), second
        except BadInput as error:
            notes.append(f"left out, from where it fails: {error}")
        if silent:
            notes.append(f"{source.row.name}: {silent} silent clips were left out")
        if clipped:
            notes.append(f"{source.row.name}: {clipped} clips reach full scale")
