"""Validation: score labelled recordings offline with the code of the live lane, and write down how good that was.

The folder holds `summary.json` (figures with 95 % intervals), `scores.csv` (every window), `recordings.csv` (every
recording), `alarms.csv` (every alarm) and `report.html` (for people, with the trivial baselines beside the result).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.anomaly.baseline import Baseline
from models.anomaly.embedding import Embedder
from pipeline.clips import read_clip, second_ns
from pipeline.errors import BadInput
from pipeline.manifest import (
    NORMAL_LABELS,
    Group,
    Labels,
    Row,
    is_split,
    scoring_rows,
    torn_groups,
    torn_recordings,
    was_learned,
)
from pipeline.messages import NS
from pipeline.validation.baseline import BaselineScorer
from pipeline.validation.delays import delay_s
from pipeline.validation.metrics import (
    Metric,
    binary_metrics,
    class_metrics,
    delay_metrics,
    fewest_groups,
    ranking_metrics,
)
from pipeline.validation.rates import false_alarms
from pipeline.validation.report import render
from pipeline.validation.scorer import Judged, Scorer, Validation

_BESIDE_RESAMPLES = 200
_FEW_GROUPS = 5
Progress = Callable[[int, int, str], None]


def validate(
    rows: Sequence[Row],
    scorer: Scorer,
    out: Path,
    normal: Collection[str] = NORMAL_LABELS,
    progress: Progress | None = None,
    uncounted: Collection[str] = (),
) -> Validation:
    """Score the rows that are there to be scored, and write the validation folder.

    Args:
        rows: of the manifest, see `read_manifest`.
        scorer: what judges.
        out: the folder; made if it is not there.
        normal: labels that mean normal.
        progress: called with (done, total, name) after each recording.
        uncounted: labels of recordings that are judged and shown, but part of no figure.

    Raises:
        BadInput: no row could be scored.
    """
    normal = Labels(normal)
    chosen = scoring_rows(rows, _used(scorer))
    if not chosen:
        mend = "mark rows with split=test" if is_split(rows) else "add recordings of groups that were not learned from"
        raise BadInput("manifest", f"no recording is left to score; {mend}")
    judged: list[tuple[Row, Judged]] = []
    unscored: list[tuple[Row, str]] = []
    for done, row in enumerate(chosen, 1):
        try:
            judged.append((row, scorer.judge(read_clip(row))))
        except BadInput as error:
            unscored.append((row, str(error)))
        if progress is not None:
            progress(done, len(chosen), row.name)
    if not judged:
        raise BadInput("manifest", f"none of {len(chosen)} recordings could be scored; the first: {unscored[0][1]}")
    counted = [pair for pair in judged if pair[0].label not in uncounted]
    result = Validation(
        scorer.title,
        _metrics(counted, scorer, normal),
        _comparison(counted, scorer, normal),
        tuple(judged),
        tuple(unscored),
        (
            *_notes(rows, chosen, scorer),
            *_few([row for row, _ in counted], scorer, normal),
            *_limits([row for row, _ in counted], judged, normal),
        ),
    )
    write(result, scorer.classes, out, normal)
    return result


def validate_baselines(
    rows: Sequence[Row],
    baselines: Mapping[tuple[str, str], Baseline],
    normal: Collection[str],
    out: Path,
    progress: Progress | None = None,
    embedders: Mapping[tuple[str, str], Embedder] | None = None,
) -> list[str]:
    """`validate` for commissioned baselines, by (machine, sensor); returns the outcome in sentences.

    Raises:
        BadInput: no row could be scored.
    """
    return sentences(validate(rows, BaselineScorer(baselines, None, embedders), out, normal, progress))


def sentences(result: Validation) -> list[str]:
    """The outcome for a terminal."""
    lines = [f"{result.title}: {len(result.judged)} recordings scored, {len(result.unscored)} could not be."]
    lines += [f"{name}: {m.value:.3f} ({_interval(m)}, n = {m.n})" for name, m in sorted(result.metrics.items())]
    lines += [f"beside it, {name}: auc {m['auc'].value:.3f}" for name, m in sorted(result.comparison.items())]
    lines += [f"not scored: {why}" for _, why in result.unscored[:5]]
    return [*lines, *result.notes]


def _interval(metric: Metric) -> str:
    return f"95 % interval {metric.low:.3f} to {metric.high:.3f}" if metric.bounded else "too few groups"


def write(result: Validation, classes: Sequence[str], out: Path, normal: Collection[str]) -> None:
    """Write the five files."""
    out.mkdir(parents=True, exist_ok=True)
    summary = {name: metric.document() for name, metric in sorted(result.metrics.items())}
    (out / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _table(out / "scores.csv", [*SCORE_COLUMNS, *classes], _score_lines(result, classes))
    _table(out / "recordings.csv", RECORDING_COLUMNS, _recording_lines(result))
    _table(out / "alarms.csv", ALARM_COLUMNS, _alarm_lines(result))
    (out / "report.html").write_text(render(result, normal), encoding="utf-8")


SCORE_COLUMNS = ("path", "group", "label", "t_end_ns", "detector", "score", "threshold", "decision")
RECORDING_COLUMNS = ("path", "group", "label", "score", "decision", "windows", "delay_s", "why")
ALARM_COLUMNS = ("path", "detector", "raised_ns", "cleared_ns", "onset_ns")


def _table(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(lines)


def _score_lines(result: Validation, classes: Sequence[str]) -> Iterable[Sequence[object]]:
    for row, judged in result.judged:
        for i, s in enumerate(judged.scores):
            parts = [judged.probabilities[i].get(c, 0.0) for c in classes] if judged.probabilities else []
            yield (
                row.name, row.group, row.label, s.t_end_ns, s.detector, s.value, s.threshold, int(s.abnormal), *parts,
            )  # fmt: skip


def _recording_lines(result: Validation) -> Iterable[Sequence[object]]:
    for row, judged in result.judged:
        decision = judged.label or int(judged.decision)
        delay = delay_s(row, judged)
        told = "" if delay is None else f"{delay:.3f}"
        yield row.name, row.group, row.label, judged.score, decision, len(judged.scores), told, judged.why


def _alarm_lines(result: Validation) -> Iterable[Sequence[object]]:
    for row, judged in result.judged:
        cleared = {a.alarm: a.t_ns for a in judged.alarms if a.transition == "cleared"}
        onset = "" if row.onset_s is None else second_ns(row.onset_s)
        for alarm in judged.alarms:
            if alarm.transition == "raised":
                yield row.name, alarm.detector, alarm.t_ns, cleared.get(alarm.alarm, ""), onset


def _metrics(judged: Sequence[tuple[Row, Judged]], scorer: Scorer, normal: Collection[str]) -> dict[str, Metric]:
    if not judged:
        return {}
    groups = [row.group for row, _ in judged]
    truth = np.array([row.label not in normal for row, _ in judged])
    metrics: dict[str, Metric] = {}
    if not scorer.classes or (truth.any() and not truth.all()):
        score = np.array([j.score for _, j in judged])
        metrics |= binary_metrics(truth, score, np.array([j.decision for _, j in judged]), groups)
    if scorer.classes:
        labels, decided = np.array([row.label for row, _ in judged]), np.array([j.label for _, j in judged])
        metrics |= class_metrics(labels, decided, groups)
        return metrics
    metrics |= false_alarms([(row, j.alarms, _end_s(j)) for row, j in judged if j.verified], normal)
    return metrics | _delays(judged)


def _end_s(judged: Judged) -> float:
    """Second of the file up to which a recording was heard."""
    return max((s.t_end_ns for s in judged.scores), default=0) / NS


def _delays(judged: Sequence[tuple[Row, Judged]]) -> dict[str, Metric]:
    found = [(row.group, delay) for row, j in judged if (delay := delay_s(row, j)) is not None]
    return delay_metrics([delay for _, delay in found], [group for group, _ in found])


def _comparison(
    judged: Sequence[tuple[Row, Judged]], scorer: Scorer, normal: Collection[str]
) -> dict[str, dict[str, Metric]]:
    """AUC and pAUC of everything that stands beside the result; what always says "normal" has 0.5 by definition."""
    truth = np.array([row.label not in normal for row, _ in judged])
    if scorer.classes or not truth.any() or truth.all():
        return {}
    groups = [row.group for row, _ in judged]
    names = sorted({name for _, j in judged for name in j.beside})
    found = {}
    for name in names:
        score = np.array([j.beside.get(name, 0.0) for _, j in judged])
        found[name] = ranking_metrics(truth, score, groups, _BESIDE_RESAMPLES)
    return found


def _notes(rows: Sequence[Row], chosen: Sequence[Row], scorer: Scorer) -> Iterable[str]:
    if len({row.group for row in chosen}) < 2:
        yield f"All recordings are of one group, '{chosen[0].group}': the figures say nothing about another"
    if torn := torn_groups(rows):
        yield f"Groups in more than one split, scores may flatter: {', '.join(torn[:10])}"
    if twice := torn_recordings(rows, by_sensor=isinstance(scorer, BaselineScorer)):
        yield f"Scores may flatter: {twice}"
    used = _used(scorer)
    if known := sorted({row.group for row in chosen if was_learned(row, used)}):
        yield f"Scored although it learned from recordings of the same group: {', '.join(known[:10])}"
    if not is_split(rows) and len(chosen) < len(rows):
        yield f"{len(rows) - len(chosen)} of {len(rows)} recordings were left out: it learned from their groups"
    if isinstance(scorer, BaselineScorer):
        yield from scorer.notes


def _few(counted: Sequence[Row], scorer: Scorer, normal: Collection[str]) -> Iterable[str]:
    """That intervals are worth little where a class has few groups."""
    classes = np.array([row.label if scorer.classes else str(row.label in normal) for row in counted])
    if counted and (few := fewest_groups([row.group for row in counted], classes)) < _FEW_GROUPS:
        yield (
            f"A class has fewer than {_FEW_GROUPS} groups ({few}): the intervals of areas, F1 and balanced accuracy "
            f"are {'too narrow' if few > 1 else 'left out'}"
        )


def _used(scorer: Scorer) -> Collection[Group]:
    """Groups that it learned from; a baseline says of which sensor they are."""
    return scorer.learned if isinstance(scorer, BaselineScorer) else scorer.used_groups


def _limits(counted: Sequence[Row], judged: Sequence[tuple[Row, Judged]], normal: Collection[str]) -> Iterable[str]:
    """What a reader of the figures must know."""
    doubtful = [j.why for _, j in judged if not j.verified]
    if doubtful:
        yield (
            f"{len(doubtful)} of {len(judged)} recordings are unverified; faults in them count as missed, their time "
            f"does not count as free of false alarms. The first: {doubtful[0]}"
        )
    if len(counted) < len(judged):
        yield f"{len(judged) - len(counted)} recordings are shown but part of no figure: neither normal nor a fault"
    if counted and not any(row.label in normal for row in counted):
        labels = ", ".join(sorted({row.label for row in counted})[:10])
        yield f"No scored recording is normal ({', '.join(sorted(normal))}); the labels are {labels}: see --normal"
