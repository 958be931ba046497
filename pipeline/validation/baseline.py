"""Baselines as a scorer: each recording is judged by the baseline of its sensor, with the live lane's operators."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from models.anomaly.baseline import Baseline, Cell
from models.anomaly.chain import windows
from models.anomaly.embedding import BATCH, Embedder, EmbeddingScore
from models.anomaly.encoder import PackageEmbedder
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import ANOMALY, EMBEDDING, LEVEL
from operators.persistence import Persistence
from pipeline.clips import Clip
from pipeline.errors import BadInput, StateError
from pipeline.manifest import Row
from pipeline.messages import Alarm, Float32, Score, Window
from pipeline.shelf import Shelf
from pipeline.validation.scorer import Judged

EVERY = 2
"""Every so many-th window is embedded, as the live lane does unless it is told otherwise (`config.schema.Model`)."""


class BaselineScorer:
    """Judges recordings by the commissioned baselines of their sensors.

    A recording's score is the largest, over the detectors, of the mean score of its windows by the threshold that
    left-out recordings gave: above 1 it is abnormal.

    Args:
        baselines: (machine, sensor) → baseline, as `store.load_all` returns them.
        only: the one detector that counts; all of them where this is None.
        embedders: of the baselines whose embedding is to be judged, see `embedders`.
    """

    def __init__(
        self,
        baselines: Mapping[tuple[str, str], Baseline],
        only: str | None = None,
        embedders: Mapping[tuple[str, str], Embedder] | None = None,
    ) -> None:
        self._only = only
        self._embedders = embedders or {}
        for baseline in baselines.values():
            AnomalyScore(baseline)  # refuses one that another front-end has learned
        self._baselines = baselines

    @property
    def title(self) -> str:
        """Name for the report."""
        return "Baseline " + ", ".join(sorted(b.settings for b in self._baselines.values()))

    @property
    def classes(self) -> tuple[str, ...]:
        """None: a detector."""
        return ()

    @property
    def used_groups(self) -> Collection[str]:
        """Starts that the baselines learned from."""
        return frozenset(group for _, _, group in self.learned)

    @property
    def learned(self) -> Collection[tuple[str, str, str]]:
        """The same with whose they are: (machine, sensor, start); a date, say, is a start of several machines."""
        return frozenset((*key, start) for key, b in self._baselines.items() for start in b.starts)

    @property
    def notes(self) -> Sequence[str]:
        """What is in force on a running machine and was not judged here."""
        joined = [(key, b) for key, b in sorted(self._baselines.items()) if any(EMBEDDING in c for c in b.cells)]
        said = [
            f"The detector {EMBEDDING} of {m}/{s} was not judged: its encoder, package {b.encoder[:16]}, is not at "
            "hand; name its folder with --search"
            for (m, s), b in joined
            if (m, s) not in self._embedders
        ]
        if len(said) < len(joined):
            said.append(f"The detector {EMBEDDING} was judged on every {EVERY}nd window, as it runs by default")
        return said

    def baseline(self, row: Row) -> Baseline:
        """The baseline for a recording.

        Raises:
            BadInput: its sensor was never commissioned.
        """
        found = self._baselines.get((row.machine, row.sensor))
        if found is None:
            known = ", ".join(f"{m}/{s}" for m, s in sorted(self._baselines))
            raise BadInput(
                "not_commissioned", f"{row.name}: {row.machine}/{row.sensor} was never commissioned (known: {known})"
            )
        return found

    def _embedded(self, row: Row, baseline: Baseline) -> _Embedded | None:
        embedder = self._embedders.get((row.machine, row.sensor))
        if embedder is None or self._only not in {None, EMBEDDING}:
            return None
        scorer = EmbeddingScore(baseline, embedder.encoder, embedder.pooling, lambda _: row.state)
        return _Embedded(scorer, embedder)

    def judge(self, clip: Clip) -> Judged:
        """Judge one recording.

        Raises:
            BadInput: no baseline for it, another rate or unit, an unknown state, or nothing but silence.
        """
        baseline = self.baseline(clip.row)
        try:
            baseline.check(clip.stream)
        except BadInput as unfit:
            raise BadInput(unfit.reason, f"{clip.row.name}: {unfit}") from None
        scorer = AnomalyScore(baseline, lambda _: clip.row.state)
        embedded = self._embedded(clip.row, baseline)
        scores, vectors = _scores(clip, scorer, embedded)
        if self._only is not None:
            scores = [s for s in scores if s.detector == self._only]
        if not scores:
            raise BadInput("silent", f"{clip.row.name}: holds no window that is not silent")
        unknown = next((s for s in scores if not s.complete), None)
        if unknown is not None:
            raise BadInput("not_commissioned", f"{clip.row.name}: {unknown.reasons['text']}")
        detectors = [*vectors, *([EMBEDDING] if embedded is not None and embedded.heard else [])]
        cells = {d: cell for d in detectors if (cell := baseline.cell(clip.row.state, d)) is not None}
        ratio = {
            d: float(np.mean([s.value for s in scores if s.detector == d])) / cell.recording_threshold
            for d, cell in cells.items()
            if self._only in {None, d}
        }
        worst = max(ratio, key=lambda d: ratio[d])
        strongest = max((s for s in scores if s.detector == worst), key=lambda s: s.value)
        return Judged(
            scores=tuple(scores),
            score=ratio[worst],
            decision=ratio[worst] > 1.0,
            alarms=tuple(_alarms(scores)),
            beside={
                **{f"detector {d}": r for d, r in ratio.items()},
                **_parts(scores),
                **_trivial(vectors, cells, scorer),
            },
            why=f"{worst}: {strongest.reasons.get('text', 'within normal')}",
        )


class _Embedded:
    """The embedding's part in one recording, some windows at a time."""

    def __init__(self, scorer: EmbeddingScore, embedder: Embedder) -> None:
        self._scorer, self._embedder = scorer, embedder
        self._waiting: list[Window] = []
        self.heard = False

    def take(self, window: Window) -> list[Score]:
        """Take one image that is neither silent nor incomplete."""
        self._waiting.append(window)
        return self.rest() if len(self._waiting) == BATCH else []

    def rest(self) -> list[Score]:
        """Scores of the images that wait."""
        if not self._waiting:
            return []
        self.heard = True
        made = self._embedder.vectors(np.stack([window.values for window in self._waiting]))
        windows = [replace(window, values=x) for window, x in zip(self._waiting, made, strict=True)]
        self._waiting.clear()
        return [s for window in windows for s in self._scorer.process(window) if isinstance(s, Score)]


def embedders(baselines: Mapping[tuple[str, str], Baseline], shelf: Shelf) -> dict[tuple[str, str], Embedder]:
    """The encoders of those baselines that judge an embedding, where their packages are at hand.

    Raises:
        BadInput: a package that is no encoder of such images.
    """
    made: dict[tuple[str, str], Embedder] = {}
    for key, baseline in baselines.items():
        if any(EMBEDDING in cell for cell in baseline.cells):
            try:
                made[key] = PackageEmbedder(shelf.get(baseline.encoder), baseline.pooling)
            except StateError:
                continue  # said by `BaselineScorer.notes`
    return made


def _scores(
    clip: Clip, scorer: AnomalyScore, embedded: _Embedded | None
) -> tuple[list[Score], dict[str, list[Float32]]]:
    scores: list[Score] = []
    vectors: dict[str, list[Float32]] = {}
    for piece in clip.pieces:
        for number, window in enumerate(windows(clip.stream, scorer.extraction, piece.segments())):
            scores += [s for s in scorer.process(window) if isinstance(s, Score)]
            found = scorer.extraction.vectors(window)
            for detector, x in found.items():
                vectors.setdefault(detector, []).append(x)
            if found and embedded is not None and number % EVERY == 0:
                scores += embedded.take(window)
        scores += [] if embedded is None else embedded.rest()
    return scores, vectors


def _alarms(scores: Sequence[Score]) -> list[Alarm]:
    persistence: dict[str, Persistence] = {}
    found = [a for s in scores for a in persistence.setdefault(s.detector, Persistence()).process(s)]
    return [a for a in found if isinstance(a, Alarm)]


def _parts(scores: Sequence[Score]) -> dict[str, float]:
    """Mean z of every single back-end."""
    sums: dict[str, list[float]] = {}
    for s in scores:
        for name, z in s.reasons["z"].items():
            sums.setdefault(f"back-end {s.detector}/{name}", []).append(z)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _trivial(
    vectors: Mapping[str, Sequence[Float32]], cells: Mapping[str, Cell], scorer: AnomalyScore
) -> dict[str, float]:
    """What needs no learning worth the name: RMS against its normal median, spectrum against the mean one."""
    level, dimensions = cells[LEVEL].fusion.scale, scorer.extraction.dimensions[LEVEL]
    rms = [i for i, d in enumerate(dimensions) if d.name == "rms"]
    deviation = np.abs(np.mean(vectors[LEVEL], axis=0) - level.median) / level.spread
    found = {"trivial RMS": float(deviation[rms].mean())}
    if ANOMALY in vectors:
        mean = np.mean(vectors[ANOMALY], axis=0)
        found["trivial log-Mel mean, Euclidean"] = float(np.linalg.norm(mean - cells[ANOMALY].fusion.scale.median))
    return found
