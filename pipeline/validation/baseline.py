"""Baselines as a scorer: each recording is judged by the baseline of its sensor, with the live lane's operators."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from models.anomaly.baseline import Baseline, Cell
from models.anomaly.chain import windows
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import ANOMALY, EMBEDDING, LEVEL
from operators.persistence import Persistence
from pipeline.clips import Clip
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import Alarm, Float32, Score
from pipeline.validation.scorer import Judged


class BaselineScorer:
    """Judges recordings by the commissioned baselines of their sensors.

    A recording's score is the largest, over the detectors, of the mean score of its windows by the threshold that
    left-out recordings gave: above 1 it is abnormal.

    Args:
        baselines: (machine, sensor) → baseline, as `store.load_all` returns them.
        only: the one detector that counts; all of them where this is None.
    """

    def __init__(self, baselines: Mapping[tuple[str, str], Baseline], only: str | None = None) -> None:
        self._only = only
        self._scorers = {key: AnomalyScore(b) for key, b in baselines.items()}
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
        joined = [f"{m}/{s}" for (m, s), b in sorted(self._baselines.items()) if any(EMBEDDING in c for c in b.cells)]
        return [f"The detector {EMBEDDING} of this baseline was not judged: {', '.join(joined)}"] if joined else []

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

    def judge(self, clip: Clip) -> Judged:
        """Judge one recording.

        Raises:
            BadInput: no baseline for it, another rate or unit, an unknown state, or nothing but silence.
        """
        baseline = self.baseline(clip.row)
        baseline.check(clip.stream)
        scorer = AnomalyScore(baseline, lambda _: clip.row.state)
        scores, vectors = _scores(clip, scorer)
        if self._only is not None:
            scores = [s for s in scores if s.detector == self._only]
        if not scores:
            raise BadInput("silent", f"{clip.row.name}: holds no window that is not silent")
        unknown = next((s for s in scores if not s.complete), None)
        if unknown is not None:
            raise BadInput("not_commissioned", f"{clip.row.name}: {unknown.reasons['text']}")
        cells = {d: cell for d in vectors if (cell := baseline.cell(clip.row.state, d)) is not None}
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


def _scores(clip: Clip, scorer: AnomalyScore) -> tuple[list[Score], dict[str, list[Float32]]]:
    scores: list[Score] = []
    vectors: dict[str, list[Float32]] = {}
    for piece in clip.pieces:
        for window in windows(clip.stream, scorer.extraction, piece.segments()):
            scores += [s for s in scorer.process(window) if isinstance(s, Score)]
            for detector, x in scorer.extraction.vectors(window).items():
                vectors.setdefault(detector, []).append(x)
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
