"""Judges recordings by a head: classes second by second, and the class of the mean probability for the recording."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from models.anomaly.vectors import extraction
from models.heads.export import LOGMEL
from models.heads.head import Floats, softmax
from models.heads.vibration import UNIT
from models.packages import VIBRATION, Package
from models.packages.shipped import WEIGHTS
from models.probe.features import Encoder, LogMelMean
from models.probe.seconds import seconds
from models.probe.vibration import VibrationMean, shakes
from pipeline.clips import Clip, Piece, second_ns
from pipeline.contents import CONTENTS, cut_short, held
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import Float32, Score
from pipeline.shelf import Shelf
from pipeline.validation.scorer import Judged
from pipeline.validation.validate import Progress, sentences, validate

_AT_ONCE = 32
_EVEN = 0.5
Part = tuple[list[float], Float32]


class ClassifierScorer:
    """A head, with the encoder that it reads.

    Args:
        package: of kind ``head``.
        shelf: where its encoder is looked for.
        normal: labels that mean normal; the rest of the probability is a window's score.
        rows: of the manifest; groups of those that taught it count as learned, however the manifest calls them.

    Raises:
        BadInput: the package is no head.
        StateError: its encoder is not at hand.
    """

    def __init__(self, package: Package, shelf: Shelf, normal: Collection[str], rows: Sequence[Row] = ()) -> None:
        card = package.card
        if card.kind != "head":
            raise BadInput(
                "package", f"{package.folder}: is of kind {card.kind}; validate judges by a head (train head)"
            )
        self._card, self._digest = card, package.digest[:16]
        self._session = package.session()
        self._normal = np.array([label in normal for label in card.labels])
        contents = card.training.get(CONTENTS, {})
        again = (row.group for row in rows if held(row, contents))
        self._groups = frozenset((*card.training.get("groups", ()), *again))
        plain = card.encoder in {LOGMEL, VIBRATION}
        self._encoder = None if plain else Encoder(card.name, shelf.get(card.encoder))

    @property
    def title(self) -> str:
        """Name for the report."""
        return f"head {self._card.name} {self._card.version}"

    @property
    def classes(self) -> tuple[str, ...]:
        """Its labels."""
        return self._card.labels

    @property
    def used_groups(self) -> Collection[str]:
        """Groups that it learned from."""
        return self._groups

    def judge(self, clip: Clip) -> Judged:
        """Judge one recording.

        Raises:
            BadInput: it is not what the head was taught on, or holds nothing but silence.
        """
        ends: list[float] = []
        parts: list[Float32] = []
        for piece in clip.pieces:
            for some_ends, x in self._features(clip, piece):
                ends += some_ends
                parts.append(x)
        if not ends:
            raise BadInput("silent", f"{clip.row.name}: holds no second that is not silent")
        p = softmax(self._session.first(np.concatenate(parts)).astype(np.float64))
        return self._judged(clip.row, ends, p)

    def _features(self, clip: Clip, piece: Piece) -> Iterator[Part]:
        if clip.stream.modality == "vibration":
            yield from self._vibration(clip, piece)
            return
        self._expect("", 48_000.0, clip.row)
        extractor = self._encoder or LogMelMean()
        heard = [s for s in seconds(piece) if not s.silent]
        for at in range(0, len(heard), _AT_ONCE):
            some = heard[at : at + _AT_ONCE]
            yield [s.start_s + 1.0 for s in some], extractor.vectors(some)[self._card.pooling]

    def _vibration(self, clip: Clip, piece: Piece) -> Iterator[Part]:
        features = extraction(clip.stream)
        self._expect(features.hash, clip.stream.rate.hz, clip.row)
        taught, told = self._card.training.get(UNIT, ""), clip.row.unit
        if taught and told and taught != told:
            raise BadInput(
                "unit", f"{clip.row.name}: is in {told}, this head was taught in {taught}; bring them to one"
            )
        if found := list(shakes(piece)):
            yield [s.start_s + 1.0 for s in found], VibrationMean(features).vectors(found)[""]

    def _expect(self, features: str, rate_hz: float, row: Row) -> None:
        told = self._card.input
        if told.features != features or told.rate_hz != rate_hz:
            raise BadInput(
                "features",
                f"{row.name}: {row.modality} at {rate_hz:g} Hz is not what this head was taught on ({told.preset})",
            )

    def _judged(self, row: Row, ends: Sequence[float], p: Floats) -> Judged:
        abnormal = p[:, ~self._normal].sum(axis=1)
        mean = p.mean(axis=0)
        label = self._card.labels[int(mean.argmax())]
        scores = tuple(
            Score(row.machine, (row.sensor,), self._card.name, second_ns(end), float(value), _EVEN, self._digest)
            for end, value in zip(ends, abnormal, strict=True)
        )
        return Judged(
            scores=scores,
            score=float(abnormal.mean()),
            decision=bool(abnormal.mean() > _EVEN),
            label=label,
            probabilities=tuple(dict(zip(self._card.labels, row_p.tolist(), strict=True)) for row_p in p),
            why=f"{label}: mean probability {mean.max():.2f}",
        )


def validate_model(
    folder: Path,
    rows: Sequence[Row],
    normal: Collection[str],
    out: Path,
    progress: Progress | None = None,
    search: Sequence[Path] = (),
) -> list[str]:
    """`validate` for a head; returns the outcome in sentences.

    Args:
        folder: of the head's package.
        rows: of the manifest.
        normal: labels that mean normal.
        out: folder for the figures.
        progress: called with (done, total, name) after each recording.
        search: where else than beside the head and among the shipped ones its encoder may lie.

    Raises:
        BadInput: the package is no head, or no row could be scored.
        StateError: the package is missing or damaged, or its encoder is not at hand.
    """
    shelf = Shelf((*search, folder.parent, WEIGHTS))
    package = shelf.add(folder)
    scorer = ClassifierScorer(package, shelf, normal, rows)
    said = sentences(validate(rows, scorer, out, normal, progress))
    if short := cut_short(package.card.training):
        said.append(short)
    if strange := sorted({row.label for row in rows} - set(scorer.classes)):
        said.append(f"Labels that the head was never taught count as wrong: {', '.join(strange)}")
    return said
