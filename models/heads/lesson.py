"""From features of labelled clips to a head: which pooling, which kind, which encoder, how good on what was held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from models.heads.choose import ABSTAIN, Choice, Rows, check_rows, choose
from models.heads.export import Reads
from models.heads.head import KINDS, Floats, Ints, Kind, softmax
from models.probe.clips import Clips
from models.probe.metrics import Units, confusion, difference, f1, interval, machine_f1, units
from models.probe.run import Tables
from models.probe.summary import Figure
from pipeline.errors import BadInput
from pipeline.messages import Float32

Held: TypeAlias = Literal["test", "left out", "none"]
AUTO = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A head on one extractor's features.

    Attributes:
        reads: the features.
        x: of all clips (n, k).
        choice: the head, by the training rows.
    """

    reads: Reads
    x: Float32
    choice: Choice

    @property
    def score(self) -> float:
        """Mean F1 of the chosen kind on left-out folds; NaN without folds."""
        return self.choice.scores.get(self.choice.head.kind, float("nan"))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good a head is on clips that it was not trained on.

    Attributes:
        held: what they are: the manifest's test rows, or groups left out in turn.
        labels: of the rows and columns of `table`.
        table: confusion (C, C), truth in rows.
        machine: mean F1 of the classes.
        classes: F1 by label.
        accepted: share of clips with a probability of the best class of `ABSTAIN` or more.
        accepted_right: share of these that are right; NaN without any.
        tables: confusions by unit (1, U, C, C), for comparisons.
        drawn: name of the units that intervals resample.
    """

    held: Held
    labels: tuple[str, ...]
    table: Tables
    machine: Figure
    classes: Mapping[str, Figure]
    accepted: float
    accepted_right: float
    tables: Tables
    drawn: str

    def less(self, other: Evaluation) -> Figure:
        """Mean F1 less that of another head on the same clips."""
        found = difference(self.tables, other.tables)
        return Figure(found.value, 0.0, found.low, found.high)

    def document(self) -> dict[str, object]:
        """For the card."""
        return {
            "held": self.held,
            "clips": int(self.table.sum()),
            "mean_f1": _interval(self.machine),
            "f1": {label: _interval(figure) for label, figure in self.classes.items()},
            "accepted": self.accepted,
            "accepted_right": None if np.isnan(self.accepted_right) else self.accepted_right,
            "resampled": self.drawn,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """The labelled clips and which of them teach.

    Attributes:
        clips: all of them.
        learn: rows that train.
        test: rows that judge; empty where the manifest has none.
    """

    clips: Clips
    learn: Ints
    test: Ints

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes that are taught."""
        return self.clips.at(self.learn).labels

    @property
    def rows(self) -> Rows:
        """The training rows."""
        mine = self.clips.at(self.learn)
        return Rows(mine.y, mine.labels, mine.group.tolist(), mine.start_s.tolist())

    def unknown(self) -> list[str]:
        """Labels of test rows that were never taught."""
        return sorted(set(self.clips.label[self.test].tolist()) - set(self.labels))

    def check(self, left_out: Sequence[str] = ()) -> None:
        """Refuse to begin.

        Args:
            left_out: why recordings could not be used; told where nothing is left.

        Raises:
            BadInput: one class only, or a group on both sides.
        """
        if len(self.learn) == 0:
            why = "; ".join([*dict.fromkeys(left_out)][:3]) or "check paths, labels and the column split"
            raise BadInput("one_class", f"no clip to learn from is usable; {why}")
        try:
            check_rows(self.rows)
        except BadInput as error:
            if not left_out:
                raise
            raise BadInput(error.reason, f"{error}; {'; '.join([*dict.fromkeys(left_out)][:3])}") from None
        both = np.intersect1d(self.clips.group[self.learn], self.clips.group[self.test])
        if both.size:
            raise BadInput(
                "leak", f"the group '{both[0]}' trains and tests: its score would mean nothing; keep groups whole"
            )


def learn(
    lesson: Lesson,
    reads: Reads,
    features: Mapping[str, Float32],
    pooling: str,
    kinds: Sequence[Kind],
    seed: int,
) -> Candidate:
    """The best head on one extractor's features.

    Args:
        lesson: the clips.
        reads: the extractor; its pooling is told by the candidate.
        features: pooling → (n, k) of all clips.
        pooling: one of them, or ``"auto"`` for the best under a linear head on left-out groups.
        kinds: of heads to choose from.
        seed: of the two-layer head.

    Raises:
        BadInput: no such pooling.
    """
    if pooling != AUTO and pooling not in features and "" not in features:
        raise BadInput("pooling", f"{reads.name} has no pooling {pooling!r}: one of {', '.join(features)}")
    names = list(features) if pooling == AUTO or "" in features else [pooling]
    rows = lesson.rows
    if len(names) > 1:
        linear = {how: choose(features[how][lesson.learn], rows, ("linear",), seed) for how in names}
        names = [max(names, key=lambda how: linear[how].scores.get("linear", 0.0))]
        if not linear[names[0]].scores:
            names = ["band"]
    how = names[0]
    return Candidate(replace(reads, pooling=how), features[how], choose(features[how][lesson.learn], rows, kinds, seed))


def better(candidates: Sequence[Candidate]) -> Candidate:
    """The one with the highest score on left-out folds; the baseline where nothing is better."""
    baseline = next(c for c in candidates if c.reads.plain)
    return max(candidates, key=lambda c: (np.nan_to_num(c.score), c is baseline))


def evaluate(lesson: Lesson, candidate: Candidate) -> Evaluation | None:
    """On the test rows, else on left-out groups; None where only one occasion was heard, since that would leak."""
    known = lesson.test[np.isin(lesson.clips.label[lesson.test], lesson.labels)]
    if len(known):
        return _evaluation("test", lesson, known, candidate.choice.head.logits(candidate.x[known]))
    if candidate.choice.left_out is None or not candidate.choice.fair:
        return None
    return _evaluation("left out", lesson, lesson.learn, candidate.choice.left_out)


def _evaluation(held: Held, lesson: Lesson, at: Ints, logits: Floats) -> Evaluation:
    clips, labels = lesson.clips.at(at), lesson.labels
    truth = np.searchsorted(np.array(labels), clips.label)
    drawn: Units = units(clips)
    answer = logits.argmax(axis=1)
    tables = confusion(truth, answer, drawn.of, drawn.count, len(labels))[None]
    (whole,) = interval(tables)
    whole_table = tables.sum(axis=(0, 1))
    each = interval(tables, classes=True)
    sure = softmax(logits).max(axis=1) >= ABSTAIN
    return Evaluation(
        held=held,
        labels=labels,
        table=whole_table,
        machine=Figure(float(machine_f1(whole_table)), 0.0, whole.low, whole.high),
        classes={
            label: Figure(float(value), 0.0, one.low, one.high)
            for label, value, one in zip(labels, f1(whole_table), each, strict=True)
            if not np.isnan(value)
        },
        accepted=float(sure.mean()),
        accepted_right=float((answer == truth)[sure].mean()) if sure.any() else float("nan"),
        tables=tables,
        drawn=drawn.name,
    )


def _interval(figure: Figure) -> dict[str, float]:
    return {"value": figure.mean, "low": figure.low, "high": figure.high}


__all__ = ["AUTO", "KINDS", "Candidate", "Evaluation", "Lesson", "better", "evaluate", "learn"]
